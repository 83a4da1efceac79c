package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"google.golang.org/protobuf/proto"

	"trinas/replica/volume"
)

// Who keeps a volume is decided in the cluster's log (VolumeInfo.Replicas) and carried out by the
// volume's primary, which brings its group's configuration there step by step: those who come are
// learners first, and when all of them have caught up one joint change makes them voters and takes
// those who leave out. Nodes that have left keep their data until the primary has said in the
// cluster's log that the change is done (VolumeInfo.Leaving). Every step can be repeated by another
// primary.

// caughtUpEntries is how many entries a learner may lack and still be made a voter: those under way.
const caughtUpEntries = maxInflightMsgs

// shape takes the next step from the group's configuration towards the nodes wanted. Only the
// leader does anything. done reports that nothing is left to do. Baton holder only.
func (g *group) shape(want []uint64) (done bool) {
	if !g.leads() {
		return false
	}
	st := g.raft.Status()
	if len(st.Config.Voters[1]) > 0 {
		return false // between two configurations; Raft goes on by itself
	}
	voters := st.Config.Voters[0]
	var missing, extra []uint64
	for _, id := range want {
		if _, ok := voters[id]; !ok {
			missing = append(missing, id)
		}
	}
	for id := range voters {
		if !slices.Contains(want, id) {
			extra = append(extra, id)
		}
	}
	slices.Sort(extra)
	for id := range st.Config.Learners {
		if !slices.Contains(want, id) {
			g.change(raftpb.ConfChangeRemoveNode, id)
			return false
		}
	}
	for _, id := range missing {
		if _, known := st.Progress[id]; !known {
			g.change(raftpb.ConfChangeAddLearnerNode, id)
			return false
		}
	}
	for _, id := range missing {
		if pr := st.Progress[id]; pr.State != tracker.StateReplicate || pr.Match+caughtUpEntries < st.GetCommit() {
			return false // still catching up
		}
	}
	switch {
	case len(missing)+len(extra) == 0:
		return true
	case slices.Contains(extra, g.self):
		// Another one leads when this one goes, so that nobody waits for an election.
		to := g.furthest(func(id uint64) bool { return slices.Contains(want, id) && !slices.Contains(missing, id) })
		if to != 0 && st.LeadTransferee == 0 {
			g.lease.giveUp(g.view.Load())
			g.raft.TransferLeader(to)
			return false
		}
		if to != 0 {
			return false
		}
		// Nobody who stays is there yet: the joint change makes some, and this one steps down.
	}
	cc := &raftpb.ConfChangeV2{Transition: raftpb.ConfChangeTransitionAuto.Enum()}
	for _, id := range missing {
		cc.Changes = append(cc.Changes, &raftpb.ConfChangeSingle{Type: raftpb.ConfChangeAddNode.Enum(), NodeId: proto.Uint64(id)})
	}
	for _, id := range extra {
		cc.Changes = append(cc.Changes, &raftpb.ConfChangeSingle{Type: raftpb.ConfChangeRemoveNode.Enum(), NodeId: proto.Uint64(id)})
	}
	g.proposeChange(cc)
	return false
}

func (g *group) change(kind raftpb.ConfChangeType, node uint64) {
	g.proposeChange(&raftpb.ConfChange{Type: kind.Enum(), NodeId: proto.Uint64(node)})
}

// proposeChange proposes a change of the configuration. Raft drops it while another one is under way:
// the next round proposes it again.
func (g *group) proposeChange(cc raftpb.ConfChangeI) {
	if err := g.raft.ProposeConfChange(cc); err != nil && !errors.Is(err, raft.ErrProposalDropped) {
		g.log.Warn("cannot change who keeps a volume", "event", "placement-failed", "err", err)
	}
}

// shapeVolumes takes the next step for every volume whose primary this node is, and says in the cluster's
// log which are done. The cluster's primary also empties the nodes that leave.
func (n *Node) shapeVolumes(ctx context.Context) {
	s := n.cluster.view()
	for _, g := range n.snapshotGroups() {
		info := s.volumeByID(volume.ID(g.id))
		if g.vol == nil || info == nil || g.view.Load().leader != n.id {
			continue
		}
		done := make(chan struct{})
		settled := false
		g.post(event{call: func() { settled = g.shape(info.Replicas); close(done) }, closing: done})
		<-done
		if settled && len(info.Leaving) > 0 {
			n.settleVolume(ctx, info)
		}
	}
	if g := n.group(clusterGroup); g != nil && g.view.Load().leader == n.id {
		n.emptyLeaving(ctx, s)
		n.replaceAway(ctx, s)
	}
}

// noteAway remembers since when nodes are out of touch, by this node's clock. For maintain only.
func (n *Node) noteAway() {
	now := n.opt.Clock()
	s := n.cluster.view()
	for id := range n.away {
		if s.node(id) == nil || n.net.Connected(id) {
			delete(n.away, id)
		}
	}
	for _, m := range s.seated() {
		if _, noted := n.away[m.ID]; !noted && m.ID != n.id && !n.net.Connected(m.ID) {
			n.away[m.ID] = now
		}
	}
}

// replaceAway gives the replicas of nodes that have been out of touch for Options.ReplaceAfter to others. The
// nodes stay members. The cluster's primary does it.
func (n *Node) replaceAway(ctx context.Context, s clusterState) {
	if n.opt.ReplaceAfter <= 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	for i := range s.Volumes {
		v := &s.Volumes[i]
		if len(v.Leaving) > 0 || v.short() {
			continue // one at a time
		}
		for _, id := range v.Replicas {
			since, away := n.away[id]
			if !away || n.opt.Clock()-since < n.opt.ReplaceAfter {
				continue
			}
			to := n.choose(s, v, id)
			if to == 0 {
				continue
			}
			if _, errno, err := n.command(ctx, placeCommand(v, id, to)); err != nil || errno != volume.OK {
				return
			}
			n.log.Warn("a replica is made anew on another node", "event", "replica-replaced", "volume", v.Name,
				"from", n.nameOf(id), "to", n.nameOf(to), "away", (n.opt.Clock() - since).Round(time.Second))
			break
		}
	}
}

// settleVolume says that those who leave a volume have left.
func (n *Node) settleVolume(ctx context.Context, v *VolumeInfo) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	_, errno, err := n.command(ctx, clusterCommand{Do: cmdSettleVolume, Volume: &VolumeInfo{ID: v.ID, Replicas: v.Replicas}})
	if err == nil && errno == volume.OK && !v.short() { // else it is to come again (rebuild.go)
		n.log.Info("volume has moved", "event", "volume-moved", "volume", v.Name,
			"from", strings.Join(n.names(ids16(v.Leaving)), ","), "to", strings.Join(n.names(ids16(v.Replicas)), ","))
	}
}

// emptyLeaving moves the replicas of nodes that leave the cluster to others, one volume at a time
// each, and removes the nodes that have none left. The cluster's primary does it.
func (n *Node) emptyLeaving(ctx context.Context, s clusterState) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	for _, m := range s.Nodes {
		if !m.Leaving {
			continue
		}
		holds := false
		for i := range s.Volumes {
			v := &s.Volumes[i]
			holds = holds || slices.Contains(v.Replicas, m.ID) || slices.Contains(v.Leaving, m.ID)
			if !slices.Contains(v.Replicas, m.ID) || len(v.Leaving) > 0 || v.short() {
				continue
			}
			to := n.choose(s, v, m.ID)
			if to == 0 {
				continue // told when the node was asked to leave; a node may have gone since
			}
			if _, _, err := n.command(ctx, placeCommand(v, m.ID, to)); err != nil {
				return
			}
		}
		if !holds {
			if _, _, err := n.command(ctx, clusterCommand{Do: cmdRemoveNode, Node: &Member{ID: m.ID}}); err != nil {
				return
			}
			n.log.Info("node was removed from the cluster", "event", "node-removed", "peer", m.Name)
		}
	}
}

// placeCommand puts to in from's place.
func placeCommand(v *VolumeInfo, from, to uint64) clusterCommand {
	replicas := slices.Clone(v.Replicas)
	replicas[slices.Index(replicas, from)] = to
	return clusterCommand{Do: cmdPlaceVolume, Volume: &VolumeInfo{ID: v.ID, Replicas: replicas}, From: v.Replicas}
}

// choose gives the best node for a replica of v that leaves a node; 0 when there is none.
func (n *Node) choose(s clusterState, v *VolumeInfo, from uint64) uint64 {
	need := uint64(0)
	if known := n.Known().Volumes; known != nil {
		if i := slices.IndexFunc(known, func(k VolumeStatus) bool { return k.ID == v.ID }); i >= 0 {
			need = known[i].UsedBytes
		}
	}
	for _, id := range n.rank(s, need) {
		m := s.node(id)
		if id != from && !m.Leaving && m.Pending == 0 && !slices.Contains(v.Replicas, id) && !slices.Contains(v.Leaving, id) &&
			(id == n.id || n.net.Connected(id)) {
			return id
		}
	}
	return 0
}

// MoveVolume makes a volume's replica move from one node to another ("": which one is chosen), and returns
// once that is decided; VolumeStatus.Leaving tells how long it goes on: until the new replica is UpToDate
// and the old one has no part in the volume any more. Errors name what is in the way.
func (n *Node) MoveVolume(ctx context.Context, name, from, to string) error {
	v, err := n.findVolume(ctx, name)
	if err != nil {
		return err
	}
	s := n.cluster.view()
	source, target := s.nodeNamed(from), s.nodeNamed(to)
	switch {
	case source == nil:
		return fmt.Errorf("no node is named %q (see trinas node list)", from)
	case !slices.Contains(v.Replicas, source.ID):
		return fmt.Errorf("node %q has no replica of volume %q (see trinas status)", from, name)
	case len(v.Leaving) > 0:
		return fmt.Errorf("volume %q is moving already, away from %s: wait until trinas status shows it UpToDate",
			name, strings.Join(n.names(ids16(v.Leaving)), ", "))
	case v.short():
		return fmt.Errorf("volume %q lacks a replica, which is being made anew: wait until trinas status shows it UpToDate", name)
	case to != "" && target == nil:
		return fmt.Errorf("no node is named %q (see trinas node list)", to)
	case to == "":
		id := n.choose(s, v, source.ID)
		if id == 0 {
			return fmt.Errorf("volume %q has a replica on every node that could take one: let another node join first (trinas token)", name)
		}
		target = s.node(id)
	case slices.Contains(v.Replicas, target.ID):
		return fmt.Errorf("node %q has a replica of volume %q already", to, name)
	case target.ID != n.id && !n.net.Connected(target.ID):
		return fmt.Errorf("node %q cannot be reached: start its agent first", to)
	}
	_, errno, err := n.command(ctx, placeCommand(v, source.ID, target.ID))
	if err != nil {
		return fmt.Errorf("move volume %q: %w", name, err)
	}
	if errno != volume.OK {
		return fmt.Errorf("move volume %q: it was moved or deleted meanwhile; see trinas status, then try again", name)
	}
	return nil
}

// RemoveNode makes a node leave the cluster, and returns once that is decided; it goes on until its
// replicas have moved. The node may be dead: its replicas are made anew from the others.
func (n *Node) RemoveNode(ctx context.Context, name string) error {
	s := n.cluster.view()
	m := s.nodeNamed(name)
	if m == nil {
		return fmt.Errorf("no node is named %q (see trinas node list)", name)
	}
	if len(s.Nodes) == 1 {
		return fmt.Errorf("node %q is the only one of the cluster: stop the agent and delete its data directory instead (trinas wipe)", name)
	}
	var stuck []string
	for i := range s.Volumes {
		if v := &s.Volumes[i]; slices.Contains(v.Replicas, m.ID) && n.choose(s, v, m.ID) == 0 {
			stuck = append(stuck, v.Name)
		}
	}
	if len(stuck) > 0 {
		return fmt.Errorf("node %q keeps replicas that no other node could take, of volume %s: let another node join first "+
			"(trinas token), or put a new one in its place (trinas node replace %s)", name, strings.Join(stuck, ", "), name)
	}
	_, errno, err := n.command(ctx, clusterCommand{Do: cmdLeaveNode, Node: &Member{ID: m.ID}})
	if err != nil {
		return fmt.Errorf("remove node %q: %w", name, err)
	}
	if errno != volume.OK {
		return fmt.Errorf("remove node %q: it was removed meanwhile", name)
	}
	return nil
}

// ReplaceToken makes a token with which one new node can join within an hour in the place of another:
// it gets the name of the old one, if it asks for it, and its replicas; the old one leaves.
func (n *Node) ReplaceToken(ctx context.Context, name string) (string, error) {
	s := n.cluster.view()
	m := s.nodeNamed(name)
	if m == nil {
		return "", fmt.Errorf("no node is named %q (see trinas node list)", name)
	}
	if m.ID == n.id {
		return "", fmt.Errorf("node %q is this one: ask another node to replace it", name)
	}
	return n.makeToken(ctx, "", m.ID)
}
