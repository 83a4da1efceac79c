package replica

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"google.golang.org/protobuf/proto"

	"trinas/replica/volume"
)

// maintainEvery is how often a node looks after its log, its space and the cluster's membership.
const maintainEvery = 250 * time.Millisecond

// maintain is the node's housekeeping. One goroutine, so that checkpoints take turns.
func (n *Node) maintain() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	n.running.Go(func() {
		<-n.closing
		cancel()
	})
	last := map[uint64]time.Time{}
	t := time.NewTicker(maintainEvery)
	defer t.Stop()
	swept := false
	for {
		select {
		case <-t.C:
		case <-n.closing:
			return
		}
		n.measureSpace()
		swept = swept || n.sweep(ctx)
		n.admitMembers(ctx)
		n.noteAway()
		n.shapeVolumes(ctx)
		n.stepRebuilds(ctx)
		n.checkpoint(ctx, last)
		n.shrinkLog(ctx, last)
	}
}

// checkpoint makes every group's checkpoint that is due by time. The cluster's own state is small
// and seldom changes: it is written at once, so that Inspect finds the members of today.
func (n *Node) checkpoint(ctx context.Context, last map[uint64]time.Time) {
	for _, g := range n.snapshotGroups() {
		if at, ok := last[g.id]; !ok {
			last[g.id] = time.Now()
		} else if g.id == clusterGroup || time.Since(at) >= n.opt.CheckpointInterval {
			n.checkpointGroup(ctx, g, last)
		} else if g.vol != nil && g.vol.WantsFlush() {
			g.failUnlessPutOff(g.vol.Flush(ctx))
		}
	}
}

func (n *Node) checkpointGroup(ctx context.Context, g *group, last map[uint64]time.Time) {
	last[g.id] = time.Now()
	index, err := g.sm.Checkpoint(ctx)
	if err == nil {
		g.checkpointed.Store(index)
	}
	g.failUnlessPutOff(err)
}

// failUnlessPutOff takes the replica out of service when what was to make it durable has failed, and was not put off.
func (g *group) failUnlessPutOff(err error) {
	if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, volume.ErrBusy) {
		g.fail(err)
	}
}

// logUse is how much of the log's limits is used, on the disk or in memory: 1 is all.
func (n *Node) logUse() float64 {
	return max(float64(n.wal.Bytes())/float64(n.opt.LogBytes), float64(n.wal.IndexBytes())/float64(n.opt.LogIndexBytes))
}

// hurryUse is the logUse from which on a checkpoint writes back as fast as the disk: at its usual pace the log might grow
// faster than that lets it go.
const hurryUse = 0.75

// shrinkLog keeps the log below its limits. Entries are kept beyond their checkpoint for replicas
// that lag, until the log has half its limit; then the groups that hold the oldest segment drop
// what their checkpoints cover, after a new checkpoint where that is too old. While a replica is
// being brought up to date they wait until the log has its limit.
func (n *Node) shrinkLog(ctx context.Context, last map[uint64]time.Time) {
	if n.logUse() <= 0.5 {
		return
	}
	for _, id := range n.wal.Oldest() {
		g := n.group(id)
		if g == nil {
			continue // its replica is out of service: the log stays until it is mended or removed
		}
		if n.logUse() <= 1 && g.feeds() {
			continue
		}
		if first, err := g.store.FirstIndex(); err == nil && g.checkpointed.Load() >= first {
			// Raft reads what it has not handed out yet, although it may be applied already (applyOwnLog).
			if st, ok := g.raftStatus(); ok {
				g.store.Compact(min(g.checkpointed.Load(), st.Applied))
			}
			continue
		}
		n.checkpointGroup(ctx, g, last)
	}
}

// feeds reports whether this member leads and a replica is being brought up to date, which will
// need the log from its snapshot on.
func (g *group) feeds() (yes bool) {
	if g.view.Load().leader != g.self {
		return false
	}
	st, _ := g.raftStatus()
	for _, pr := range st.Progress {
		yes = yes || pr.State == tracker.StateSnapshot
	}
	return yes
}

// admitMembers is the cluster leader's duty: nodes that were admitted become learners of the
// cluster group; when they have caught up they have arrived, and become voters. Those that do not
// arrive in time are dropped, and those that are no members any more leave the group. One step at a time.
func (n *Node) admitMembers(ctx context.Context) {
	g := n.group(clusterGroup)
	if g == nil || !g.leads() {
		return
	}
	st, ok := g.raftStatus()
	if !ok || st.RaftState != raft.StateLeader {
		return
	}
	step, m := nextStep(n.cluster.view(), st, time.Now(), n.net.Connected)
	var change *raftpb.ConfChange
	switch step {
	case stepLearn:
		change = &raftpb.ConfChange{Type: raftpb.ConfChangeAddLearnerNode.Enum(), NodeId: proto.Uint64(m.ID)}
	case stepVote:
		change = &raftpb.ConfChange{Type: raftpb.ConfChangeAddNode.Enum(), NodeId: proto.Uint64(m.ID)}
	case stepForget:
		if m.ID == n.id {
			ctx, cancel := context.WithTimeout(ctx, settleTimeout)
			defer cancel()
			_ = g.handOver(ctx, 0) // whoever leads then forgets this node
			return
		}
		change = &raftpb.ConfChange{Type: raftpb.ConfChangeRemoveNode.Enum(), NodeId: proto.Uint64(m.ID)}
	case stepSeat:
		n.settle(ctx, cmdSeatNode, m)
		return
	case stepDrop:
		n.settle(ctx, cmdDropNode, m)
		return
	default:
		return
	}
	g.post(event{call: func() {
		if !g.leads() {
			return
		}
		if err := g.raft.ProposeConfChange(change); err != nil && !errors.Is(err, raft.ErrProposalDropped) {
			g.log.Warn("cannot change the cluster's membership", "event", "membership-refused", "peer", m.Name, "err", err)
		}
	}})
}

// settleTimeout bounds how long the housekeeping waits for the cluster to note an arrival.
const settleTimeout = 2 * time.Second

// settle notes that a pending node has arrived, or has not in time. A failure is tried again.
func (n *Node) settle(ctx context.Context, do string, m Member) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	if _, _, err := n.command(ctx, clusterCommand{Do: do, Node: &m}); err != nil {
		n.log.Debug("cannot note a node's arrival; trying on", "name", m.Name, "err", err)
		return
	}
	if do == cmdDropNode {
		n.log.Warn("a node that was admitted has not arrived in time: it has to join again, with a new token",
			"event", "node-late", "peer", m.Name, "address", m.Address)
		return
	}
	n.log.Info("node joined", "event", "node-joined", "peer", m.Name, "address", m.Address)
}

// step is what the leader does next about the cluster's membership.
type memberStep int

const (
	stepNone   memberStep = iota
	stepForget            // take who is no member out of the group
	stepLearn             // make a node a learner
	stepSeat              // note that a pending node has arrived
	stepVote              // make a node a voter
	stepDrop              // drop a node that has not arrived in time
)

// nextStep chooses it.
func nextStep(s clusterState, st raft.Status, now time.Time, connected func(uint64) bool) (memberStep, Member) {
	voters := st.Config.Voters.IDs()
	for _, id := range slices.Sorted(maps.Keys(st.Progress)) { // voters and learners
		if s.node(id) == nil {
			return stepForget, Member{ID: id}
		}
	}
	for _, m := range s.Nodes {
		if _, ok := voters[m.ID]; ok {
			continue
		}
		pr, known := st.Progress[m.ID]
		switch {
		case m.Pending != 0 && now.Sub(time.Unix(0, m.Pending)) > TokenLife && !connected(m.ID):
			return stepDrop, m
		case !known:
			return stepLearn, m
		case pr.Match < st.GetCommit(): // still catching up, or not there: look at the next
		case m.Pending != 0:
			return stepSeat, m
		default:
			return stepVote, m
		}
	}
	return stepNone, Member{}
}
