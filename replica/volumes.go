package replica

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"trinas/replica/volume"
)

// replicasPerVolume is how many nodes keep a copy of a volume.
const replicasPerVolume = 3

// Export is a volume as the gateway offers it. It is an alias, so that the gateway can declare
// the same type without importing this package.
type Export = struct {
	ID    volume.ID
	Name  string
	Rules []volume.Rule // not to be changed
}

// Exports lists the cluster's volumes by name.
func (n *Node) Exports() []Export {
	var out []Export
	for _, v := range n.cluster.view().Volumes {
		out = append(out, Export{ID: v.ID, Name: v.Name, Rules: v.Clients})
	}
	slices.SortFunc(out, func(a, b Export) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// CreateVolume makes a volume on replicas nodes (0: three) and returns when it has a primary.
func (n *Node) CreateVolume(ctx context.Context, name string, replicas int) (VolumeStatus, error) {
	if err := checkName("volume", name); err != nil {
		return VolumeStatus{}, err
	}
	if replicas == 0 {
		replicas = replicasPerVolume
	}
	s := n.cluster.view()
	if s.volume(name) != nil {
		return VolumeStatus{}, fmt.Errorf("volume %q exists already: choose another name, or see trinas volume list", name)
	}
	if replicas%2 == 0 || replicas < 0 || replicas > 5 {
		return VolumeStatus{}, fmt.Errorf("volume %q: %d replicas make no sense; use 3 (or 1 or 5)", name, replicas)
	}
	n.ask(ctx, leaderWait, leaderWait) // for their free space
	info := &VolumeInfo{Name: name, Replicas: n.place(s, replicas)}
	if len(info.Replicas) < replicas {
		return VolumeStatus{}, fmt.Errorf("volume %q needs %d nodes and the cluster has %d: let the others join first (trinas token, then trinas join there)", name, replicas, len(info.Replicas))
	}
	index, errno, err := n.command(ctx, clusterCommand{Do: cmdAddVolume, Volume: info})
	if err != nil {
		return VolumeStatus{}, fmt.Errorf("create volume %q: %w", name, err)
	}
	switch errno {
	case volume.OK:
	case volume.EEXIST:
		return VolumeStatus{}, fmt.Errorf("volume %q exists already: choose another name, or see trinas volume list", name)
	default:
		return VolumeStatus{}, fmt.Errorf("create volume %q: the cluster has its most of %d volumes", name, maxVolumes)
	}
	return n.formed(ctx, volume.ID(index), name)
}

// formed waits until every replica of a new volume is UpToDate, so that it can lose a node from
// the start.
func (n *Node) formed(ctx context.Context, id volume.ID, name string) (VolumeStatus, error) {
	for {
		status := n.status(n.ask(ctx, leaderWait, leaderWait))
		i := slices.IndexFunc(status.Volumes, func(v VolumeStatus) bool { return v.ID == id })
		var missing []string
		if i >= 0 && status.Volumes[i].Primary != "" {
			for _, r := range status.Volumes[i].Replicas {
				if r.State != UpToDate {
					missing = append(missing, r.Node)
				}
			}
			if len(missing) == 0 {
				return status.Volumes[i], nil
			}
		}
		if err := n.pause(ctx, nil, 4); err != nil {
			return VolumeStatus{}, fmt.Errorf("volume %q was created, but these replicas are not UpToDate yet: %s (see trinas status): %w",
				name, strings.Join(missing, ", "), err)
		}
	}
}

// place chooses the nodes for a new volume.
func (n *Node) place(s clusterState, replicas int) []uint64 {
	ids := slices.DeleteFunc(n.rank(s, 0), func(id uint64) bool { return s.node(id).Leaving })
	return ids[:min(replicas, len(ids))]
}

// roomSteps is how finely free space is compared: in eighths of what the emptiest node has. Nodes with
// about the same are told apart by how much they have to do.
const roomSteps = 8

// rank orders the nodes for a new replica of need bytes: those with room for it first, then by free space
// in eighths, by the number of replicas, by their burden (health, and how busy they are), and among
// equals this node, since the admin works here, then those that are in touch. Of a node that has not told
// its free space, as one of an older version, the most is assumed.
func (n *Node) rank(s clusterState, need uint64) []uint64 {
	load := map[uint64]int{}
	for _, v := range s.Volumes {
		for _, id := range v.Replicas {
			load[id]++
		}
	}
	away := func(id uint64) int {
		switch {
		case id == n.id:
			return 0
		case n.net.Connected(id):
			return 1
		}
		return 2
	}
	ids := make([]uint64, 0, len(s.Nodes))
	free, most := map[uint64]uint64{}, uint64(1)
	for _, m := range s.seated() {
		ids = append(ids, m.ID)
		var known bool
		if free[m.ID], known = n.roomOn(m.ID); known {
			most = max(most, free[m.ID])
		} else {
			free[m.ID] = math.MaxUint64
		}
	}
	full := func(id uint64) int {
		switch f := free[id]; {
		case f <= need:
			return 2 * roomSteps
		case f >= most:
			return 0
		default:
			return roomSteps - int(f/(most/roomSteps+1))
		}
	}
	slices.SortStableFunc(ids, func(a, b uint64) int {
		return cmp.Or(full(a)-full(b), load[a]-load[b], n.burden(a)-n.burden(b), away(a)-away(b))
	})
	return ids
}

// roomOn is how many bytes a node's data directory can still take beyond its reserve, as it has told.
func (n *Node) roomOn(id uint64) (bytes uint64, known bool) {
	if id == n.id {
		free := n.freeBytes()
		return free - min(free, n.opt.ReserveBytes), true
	}
	r, ok := n.recent(id)
	return r.RoomBytes, ok && r.RoomBytes > 0
}

// DeleteVolume removes a volume and every copy of its data, for ever.
func (n *Node) DeleteVolume(ctx context.Context, name string) error {
	s := n.cluster.view()
	v := s.volume(name)
	if v == nil {
		return fmt.Errorf("volume %q: %w (see trinas volume list)", name, ErrNoVolume)
	}
	_, errno, err := n.command(ctx, clusterCommand{Do: cmdDeleteVolume, Volume: &VolumeInfo{ID: v.ID}})
	if err != nil {
		return fmt.Errorf("delete volume %q: %w", name, err)
	}
	if errno == volume.ENOENT {
		return fmt.Errorf("volume %q: %w (deleted meanwhile)", name, ErrNoVolume)
	}
	return nil
}

// Transfer makes node the primary of a volume; "" lets the primary choose the replica that is
// furthest along. Returns once the primary has changed.
func (n *Node) Transfer(ctx context.Context, name, node string) error {
	s := n.cluster.view()
	v := s.volume(name)
	if v == nil {
		return fmt.Errorf("volume %q: %w (see trinas volume list)", name, ErrNoVolume)
	}
	var to uint64
	if node != "" {
		i := slices.IndexFunc(s.Nodes, func(m Member) bool { return m.Name == node })
		if i < 0 {
			return fmt.Errorf("no node is named %q (see trinas status)", node)
		}
		to = s.Nodes[i].ID
		if !slices.Contains(v.Replicas, to) {
			return fmt.Errorf("node %q has no replica of volume %q", node, name)
		}
	}
	for try := 0; ; try++ {
		primary := n.primaryOf(ctx, v)
		var err error
		switch {
		case to != 0 && primary == to:
			return nil
		case primary == n.id:
			err = n.group(uint64(v.ID)).handOver(ctx, to)
		case primary != 0:
			req := binary.LittleEndian.AppendUint64([]byte{callTransfer}, uint64(v.ID))
			_, err = n.net.Call(ctx, primary, binary.LittleEndian.AppendUint64(req, to))
		default:
			err = errNotPrimary
		}
		if err == nil && to == 0 {
			return nil
		}
		if err := n.pause(ctx, nil, try); err != nil {
			return fmt.Errorf("make %q the primary of volume %q: %w", node, name, err)
		}
	}
}

// primaryOf is the primary as this node or a node with a replica knows it; 0 when nobody does.
func (n *Node) primaryOf(ctx context.Context, v *VolumeInfo) uint64 {
	if g := n.group(uint64(v.ID)); g != nil {
		return g.view.Load().leader
	}
	known, _ := n.volumesHeard(n.ownReport(), n.ask(ctx, leaderWait, leaderWait))
	for _, s := range known {
		if s.ID == v.ID {
			return s.primary
		}
	}
	return 0
}

// command puts c into the cluster's log.
func (n *Node) command(ctx context.Context, c clusterCommand) (index uint64, errno volume.Errno, err error) {
	c.Time = time.Now().UnixNano()
	entry, err := json.Marshal(c)
	if err != nil {
		return 0, 0, err
	}
	return n.propose(ctx, n.group(clusterGroup), entry)
}

// checkName holds for volumes and nodes: what is safe in a path, a URL and PVE's configuration.
func checkName(what, name string) error {
	ok := len(name) > 0 && len(name) <= 63
	for i, r := range name {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		ok = ok && (letter || i > 0 && (r == '-' || r == '_' || r == '.'))
	}
	if !ok {
		return fmt.Errorf("%s name %q: use 1 to 63 letters, digits, '-', '_' and '.', beginning with a letter or digit", what, name)
	}
	return nil
}

// followCluster makes this node's replicas and connections what the cluster's state says.
func (n *Node) followCluster() {
	retry := time.NewTicker(retryLook)
	defer retry.Stop()
	for {
		select {
		case <-retry.C:
			n.retryBroken()
			n.leaveRebuilds()
		case <-n.changed:
			n.followPeers()
			n.leaveRebuilds()
			n.openVolumes()
		case g := <-n.failed:
			n.dropFailed(g)
		case <-n.closing:
			return
		}
	}
}

// openVolumes opens the replicas that this node shall have and removes those it shall not.
func (n *Node) openVolumes() {
	index, _ := n.cluster.Applied() // the state is this new at least
	s := n.cluster.view()
	wanted := map[uint64]bool{clusterGroup: true}
	for _, v := range s.Volumes {
		if !slices.Contains(v.Replicas, n.id) && !slices.Contains(v.Leaving, n.id) {
			continue
		}
		wanted[uint64(v.ID)] = true
		if !n.mayOpen(v.ID, index) {
			continue
		}
		if err := n.openVolume(v); err != nil {
			if errors.Is(err, volume.ErrDamaged) {
				err = fmt.Errorf("%w; %s", err, mendText(v))
			}
			n.log.Error("replica cannot be opened and stays out of service", "event", "replica-failed", "volume", v.Name, "err", err)
			n.setBroken(v.ID, err)
		}
	}
	if s.Format == 0 {
		return // joined, and not told yet what there is: remove nothing
	}
	for _, g := range n.snapshotGroups() {
		if !wanted[g.id] {
			n.removeVolume(g)
		}
	}
	n.mu.RLock()
	broken := slices.DeleteFunc(slices.Sorted(maps.Keys(n.broken)), func(id volume.ID) bool { return wanted[uint64(id)] || n.held(id) })
	n.mu.RUnlock()
	for _, id := range broken {
		n.mu.Lock()
		delete(n.broken, id)
		n.mu.Unlock()
		n.removeData(id, n.volumeName(id))
	}
}

// mendText says what to do about a replica that does not come back by itself.
func mendText(v VolumeInfo) string {
	if len(v.Replicas) == 1 {
		return "there is no other replica: restore the volume from a backup"
	}
	return fmt.Sprintf("check the disk, then have the replica made anew from the others, on this node: trinas volume rebuild %s", v.Name)
}

func (n *Node) openVolume(info VolumeInfo) error {
	fsys := n.opt.Disk.Sub(VolumeDir(info.ID))
	founders := info.Founders
	if founders == nil {
		founders = info.Replicas
	}
	made := volume.Info{ID: info.ID, Name: info.Name, Created: info.Created}
	var err error
	if _, anew := n.rebuildOf(info.ID); anew || slices.Contains(info.Joined, n.id) {
		// It may have been here before and forgotten what it voted for: it takes no part before the
		// others have told it everything, its configuration included.
		if err = n.endRemoval(info.ID, fsys); err == nil {
			err = volume.MakeEmpty(fsys, made)
		}
	} else {
		var conf []byte
		if conf, err = proto.Marshal(&raftpb.ConfState{Voters: founders}); err == nil {
			err = volume.Make(fsys, made, conf)
		}
	}
	if err != nil {
		return fmt.Errorf("make the replica: %w", err)
	}
	// VolumeDir too: the run before may have ended between the rename of a checkpoint and its sync, and the log is
	// cut by what the checkpoint says.
	for _, dir := range []string{VolumeDir(info.ID), volumesDir, "."} {
		if err := n.opt.Disk.SyncDir(dir); err != nil {
			return fmt.Errorf("make the replica: %w", err)
		}
	}
	vol, err := volume.Open(fsys, volume.Options{
		Log: n.log, Node: uint16(n.id),
		Hurry:      func() bool { return n.logUse() > hurryUse },
		DropSynced: func() bool { return !n.leads(uint64(info.ID)) },
	})
	if err != nil {
		return fmt.Errorf("open the replica: %w", err)
	}
	g, err := openGroup(uint64(info.ID), info.Name, n.id, n.opt, n.net, n.wal, vol, n)
	if err != nil {
		return errors.Join(err, vol.Close())
	}
	n.setGroup(g)
	if index, _ := vol.Applied(); index == 1 && founders[0] == n.id {
		g.found() // a new volume need not wait for an election time-out
	}
	return nil
}

// dropFailed closes a replica whose disk failed. Operations of this node go to the others.
func (n *Node) dropFailed(g *group) {
	n.mu.Lock()
	if n.groups[g.id] != g {
		n.mu.Unlock()
		return
	}
	if g.id != clusterGroup { // which others expect to be there, and which answers nobody now
		delete(n.groups, g.id)
	}
	n.mu.Unlock()
	if err := g.close(); err != nil {
		n.log.Error("close a failed replica", "event", "replica-not-closed", "volume", g.name, "err", err)
	}
	n.setBroken(volume.ID(g.id), *g.failure.Load())
}

// Position is how far a node's replica of a volume is.
type Position struct{ Term, Applied uint64 }

// Position tells where this node's replica of a volume is; ok is false where it has none in service. For
// tests: neither ever goes back while the node runs, nor does the term when it starts again.
func (n *Node) Position(vol volume.ID) (p Position, ok bool) {
	g := n.group(uint64(vol))
	if g == nil || g.vol == nil {
		return p, false
	}
	return Position{Term: g.view.Load().term, Applied: g.applied.get()}, true
}

// Digest is a checksum of what this node's replica of a volume holds, files' bytes included; has is
// false where it has none in service. For tests: the replica applies nothing meanwhile.
func (n *Node) Digest(vol volume.ID) (sum [32]byte, has bool, err error) {
	g := n.group(uint64(vol))
	if g == nil || g.vol == nil {
		return sum, false, nil
	}
	sum, err = g.vol.Digest(true)
	return sum, true, err
}
