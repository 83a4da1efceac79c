package replica

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"trinas/replica/volume"
)

// A replica that cannot come back, since its checkpoint or its log is damaged, is made anew from the others where it
// is: it leaves the volume (place-volume without this node), and once that is settled it forgets what it had and voted for
// and joins again (place-volume with this node), empty. So there is never a member that counts and has forgotten. This node
// sees to all of it; how far it is it keeps on its disk (rebuildFile), so that a crash holds nothing up.
const (
	rebuildsDir = "rebuild" // one folder each, named as in volumesDir
	rebuildFile = "stage"
	rebuildOld  = "old" // what the replica had, until the new one is complete
	stageLeave  = "leave"
	stageReturn = "return"
	rebuildNote = "it is being made anew from the other replicas"
)

// rebuild is how far it is with one replica.
type rebuild struct {
	Stage   string `json:"stage"`   // stageLeave until nothing of the old replica counts any more; "": just asked for
	After   uint64 `json:"after"`   // index of the cluster's log: what older states say of the volume does not count
	Discard bool   `json:"discard"` // the old copy is removed before the new one is made
	Began   int64  `json:"began"`   // nanoseconds since 1970

	opened bool // the new replica was opened by this run: from then on it is one like any other
	ending bool // the old copy is being removed
}

func rebuildDir(id volume.ID) string { return fmt.Sprintf("%s/%016x", rebuildsDir, uint64(id)) }

// loadRebuilds finds what the last run was at. Before openVolumes.
func (n *Node) loadRebuilds() error {
	names, err := n.opt.Disk.List(rebuildsDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look for replicas that are being made anew: %w", err)
	}
	for _, name := range names {
		id, err := strconv.ParseUint(name, 16, 64)
		if err != nil {
			continue
		}
		path := rebuildDir(volume.ID(id)) + "/" + rebuildFile
		b, err := readFile(n.opt.Disk, path)
		if errors.Is(err, fs.ErrNotExist) {
			n.clearRebuild(volume.ID(id)) // one that had not begun, or was over
			continue
		}
		r := &rebuild{}
		if err == nil {
			err = json.Unmarshal(b, r)
		}
		if err == nil && r.Stage != stageLeave && r.Stage != stageReturn {
			err = fmt.Errorf("stage %q is unknown", r.Stage)
		}
		if err != nil {
			n.log.Warn("it is not known how far a replica is that was being made anew: have it made anew again", "event", "rebuild-held",
				"volume", n.volumeName(volume.ID(id)), "path", n.opt.Disk.Path(path), "err", err)
			continue
		}
		n.rebuilds[volume.ID(id)] = r
		n.setBroken(volume.ID(id), errors.New(rebuildNote))
	}
	return nil
}

// clearRebuild removes a rebuild's folder that nothing is in which counts. What it leaves does no harm.
func (n *Node) clearRebuild(id volume.ID) {
	_ = n.opt.Disk.Remove(rebuildDir(id) + "/" + rebuildFile + ".new")
	_ = n.opt.Disk.Remove(rebuildDir(id))
}

// saveRebuild makes r durable.
func (n *Node) saveRebuild(id volume.ID, r rebuild) error {
	b, err := json.Marshal(r)
	if err == nil {
		err = replaceFile(n.opt.Disk, rebuildDir(id)+"/"+rebuildFile, b)
	}
	if err == nil {
		err = n.opt.Disk.SyncDir(".")
	}
	return err
}

// rebuildOf is how far it is with a replica; ok is false where it is not being made anew.
func (n *Node) rebuildOf(id volume.ID) (r rebuild, ok bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if p := n.rebuilds[id]; p != nil {
		return *p, true
	}
	return rebuild{}, false
}

// held reports whether a replica must not be opened, or opened again, because the old one is on its way out. n.mu is held.
func (n *Node) held(id volume.ID) bool {
	r := n.rebuilds[id]
	return r != nil && (r.Stage != stageReturn || !r.opened)
}

// mayOpen reports whether a replica that the cluster's state of that index wants here is to be opened now.
func (n *Node) mayOpen(id volume.ID, index uint64) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch r := n.rebuilds[id]; {
	case n.groups[uint64(id)] != nil:
		return false
	case !n.held(id):
		return n.broken[id] == nil
	case r.Stage == stageReturn && index >= r.After:
		r.opened = true
		delete(n.broken, id)
		return true
	}
	return false
}

// RebuildReplica has this node's replica of a volume, which is out of service, made anew from the others, and returns once
// that is decided; it goes on by itself, also after a crash. On a node without a replica it makes the one that the volume
// lacks since such a rebuild came to no end. With discard the old copy is removed first, and not when the new one is
// complete: there need not be room for both. Errors name what is in the way.
func (n *Node) RebuildReplica(ctx context.Context, name string, discard bool) error {
	v, err := n.findVolume(ctx, name)
	if err != nil {
		return err
	}
	if g := n.group(clusterGroup); g != nil {
		if err := n.catchUp(ctx, g); err != nil { // who keeps the volume may have changed
			return fmt.Errorf("rebuild the replica of volume %q: %w", name, err)
		}
		if v, err = n.findVolume(ctx, name); err != nil {
			return err
		}
	}
	index, _ := n.cluster.Applied()
	n.mu.RLock()
	under, b := n.held(v.ID), n.broken[v.ID]
	n.mu.RUnlock()
	if under {
		return nil
	}
	if err := n.mayRebuild(ctx, v, b != nil, discard); err != nil {
		return err
	}
	r := &rebuild{After: index, Discard: discard, Began: time.Now().UnixNano()}
	n.mu.Lock()
	last := n.rebuilds[v.ID]
	if n.held(v.ID) || last != nil && last.ending || n.broken[v.ID] != b {
		n.mu.Unlock()
		return fmt.Errorf("the replica of volume %q changed its state meanwhile; see trinas status, then try again", name)
	}
	n.rebuilds[v.ID] = r
	n.mu.Unlock()
	saved := *r
	if saved.Stage = stageLeave; b == nil {
		saved.Stage = stageReturn
	}
	err = n.saveRebuild(v.ID, saved)
	n.mu.Lock()
	switch {
	case err == nil:
		r.Stage = saved.Stage
	case last != nil:
		n.rebuilds[v.ID] = last
	default:
		delete(n.rebuilds, v.ID)
	}
	n.mu.Unlock()
	if err != nil {
		return fmt.Errorf("rebuild the replica of volume %q: %w", name, err)
	}
	n.setBroken(v.ID, errors.New(rebuildNote))
	n.log.Info("a replica is made anew from the others", "event", "rebuild-begin", "volume", name)
	return nil
}

// mayRebuild refuses what would lose a last good copy, or cannot be done.
func (n *Node) mayRebuild(ctx context.Context, v *VolumeInfo, failed, discard bool) error {
	here, majority := slices.Contains(v.Replicas, n.id), len(v.Replicas)/2+1
	st := n.status(n.ask(ctx, leaderWait, leaderWait))
	i := slices.IndexFunc(st.Volumes, func(s VolumeStatus) bool { return s.ID == v.ID })
	if i < 0 {
		return fmt.Errorf("volume %q: %w (see trinas volume list)", v.Name, ErrNoVolume)
	}
	vs := st.Volumes[i]
	var good, other []string
	for _, r := range vs.Replicas {
		switch m := n.memberNamed(r.Node); {
		case r.Node == n.identity.Name:
		case m == nil || !slices.Contains(v.Replicas, m.ID):
			other = append(other, r.Node) // being made anew there
		case r.State == UpToDate:
			good = append(good, r.Node)
		}
	}
	switch {
	case here && !failed:
		return fmt.Errorf("the replica of volume %q on node %s is not out of service: trinas verify finds what is damaged in it, and repairs it", v.Name, n.identity.Name)
	case len(v.Leaving) > 0:
		return fmt.Errorf("volume %q is moving, away from %s: wait until trinas status shows it UpToDate", v.Name, strings.Join(n.names(ids16(v.Leaving)), ", "))
	case len(v.Replicas) == 1:
		return fmt.Errorf("volume %q has no other replica to copy from: restore it from a backup", v.Name)
	case len(other) > 0:
		return fmt.Errorf("the replica of volume %q on node %s is being made anew: wait until trinas status shows it UpToDate", v.Name, strings.Join(other, ", "))
	case here && v.short():
		return fmt.Errorf("volume %q lacks a replica: have that one made anew first (trinas volume rebuild, on its node)", v.Name)
	case !here && !v.short():
		return fmt.Errorf("node %q has no replica of volume %q, which lacks none (see trinas status)", n.identity.Name, v.Name)
	case here && len(good) < majority:
		return fmt.Errorf("volume %q would be left without a majority that has everything: %d of its other replicas are UpToDate (%s), and %d are needed; "+
			"bring the others up first (trinas status)", v.Name, len(good), orNobody(good), majority)
	}
	room, _ := n.roomOn(n.id)
	if !discard && room < vs.UsedBytes {
		return fmt.Errorf("there is room for %d bytes in %s, and a new copy of volume %q takes %d: make room, or have the old copy removed first (--discard)",
			room, n.opt.Disk.Path("."), v.Name, vs.UsedBytes)
	}
	return nil
}

func (n *Node) memberNamed(name string) *Member {
	s := n.cluster.view()
	return s.nodeNamed(name)
}

// rebuildIDs are the volumes whose replica here is being made anew.
func (n *Node) rebuildIDs() []volume.ID {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return slices.Sorted(maps.Keys(n.rebuilds))
}

// rebuildView is what the cluster's state says of a volume, and with which index of its log; ok is false while the state
// is older than the rebuild.
func (n *Node) rebuildView(id volume.ID, r rebuild) (s clusterState, v *VolumeInfo, index uint64, ok bool) {
	index, _ = n.cluster.Applied() // the state is this new at least
	s = n.cluster.view()
	return s, s.volumeByID(id), index, index >= r.After && r.Stage != ""
}

// leaveRebuilds has replicas that have left their volume forget what they had. Called by followCluster, as is all that opens
// and closes replicas.
func (n *Node) leaveRebuilds() {
	for _, id := range n.rebuildIDs() {
		r, _ := n.rebuildOf(id)
		_, v, index, ok := n.rebuildView(id, r)
		if !ok || r.Stage != stageLeave || v == nil || slices.Contains(v.Replicas, n.id) || slices.Contains(v.Leaving, n.id) {
			continue
		}
		err := n.setAside(id, r.Discard)
		if err == nil {
			r.Stage, r.After = stageReturn, index
			err = n.saveRebuild(id, r)
		}
		if err != nil {
			n.log.Warn("cannot set aside what a replica had; trying on", "event", "rebuild-held", "volume", v.Name, "err", err)
			continue
		}
		n.mu.Lock()
		if p := n.rebuilds[id]; p != nil {
			p.Stage, p.After = r.Stage, r.After
		}
		n.mu.Unlock()
	}
}

// setAside puts away what a replica had, for as long as the new one is not complete, and forgets its log. What is
// aside already stays.
func (n *Node) setAside(id volume.ID, discard bool) error {
	old := rebuildDir(id) + "/" + rebuildOld
	_, err := n.opt.Disk.Stat(old)
	switch {
	case err == nil || discard:
		return n.removeReplica(id)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := n.saveCluster(); err != nil { // after a crash nothing may want the old replica
		return err
	}
	if err := n.opt.Disk.Rename(VolumeDir(id), old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, dir := range []string{rebuildDir(id), volumesDir} {
		if err := n.opt.Disk.SyncDir(dir); err != nil {
			return err
		}
	}
	return n.forgetLog(id)
}

// stepRebuilds asks the cluster for the next step of each rebuild, and ends those that are done. Called by maintain.
func (n *Node) stepRebuilds(ctx context.Context) {
	for _, id := range n.rebuildIDs() {
		r, _ := n.rebuildOf(id)
		s, v, _, ok := n.rebuildView(id, r)
		switch {
		case !ok || r.ending:
			continue
		case v == nil:
			n.endRebuild(id, r, n.volumeName(id), false) // the volume was deleted
			continue
		case len(v.Leaving) > 0:
			continue // one change at a time
		}
		here, short := slices.Contains(v.Replicas, n.id), v.short()
		self := s.node(n.id)
		switch {
		case r.Stage == stageLeave && here && !short:
			n.placeOn(ctx, v, slices.DeleteFunc(slices.Clone(v.Replicas), func(id uint64) bool { return id == n.id }))
		case r.Stage == stageReturn && here && n.votes(id):
			n.endRebuild(id, r, v.Name, true)
		case r.Stage == stageReturn && !here && !short:
			n.endRebuild(id, r, v.Name, false) // another node has its place
		case r.Stage == stageReturn && !here && self != nil && !self.Leaving:
			n.placeOn(ctx, v, append(slices.Clone(v.Replicas), n.id))
		}
	}
}

// placeOn proposes other replicas for a volume. Whether that has come to pass shows in the cluster's state.
func (n *Node) placeOn(ctx context.Context, v *VolumeInfo, replicas []uint64) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	_, errno, err := n.command(ctx, clusterCommand{Do: cmdPlaceVolume, Volume: &VolumeInfo{ID: v.ID, Replicas: replicas}, From: v.Replicas})
	if err != nil || errno != volume.OK {
		n.log.Debug("cannot change yet who keeps a volume", "volume", v.Name, "errno", errno, "err", err)
	}
}

// votes reports whether this node's replica of a volume is a full member: it has everything then.
func (n *Node) votes(id volume.ID) bool {
	g := n.group(uint64(id))
	if g == nil || g.vol == nil {
		return false
	}
	st, ok := g.raftStatus()
	_, voter := st.Config.Voters[0][n.id]
	return ok && voter && len(st.Config.Voters[1]) == 0
}

// endRebuild removes the old copy, which can take long, and then the note that there was a rebuild.
func (n *Node) endRebuild(id volume.ID, r rebuild, name string, done bool) {
	n.mu.Lock()
	p := n.rebuilds[id]
	if p == nil || p.Began != r.Began || p.Stage != r.Stage { // another one has begun
		n.mu.Unlock()
		return
	}
	p.ending = true
	n.mu.Unlock()
	n.running.Go(func() {
		err := n.removeRebuild(id)
		n.mu.Lock()
		defer n.mu.Unlock()
		if err != nil {
			p.ending = false
			n.log.Error("cannot remove the old copy of a replica that was made anew; trying on", "event", "replica-not-removed",
				"volume", name, "path", n.opt.Disk.Path(rebuildDir(id)), "err", err)
			return
		}
		delete(n.rebuilds, id)
		if !done {
			n.cluster.changed() // what is left of it here is removed as that of any former replica
			return
		}
		n.log.Info("a replica was made anew", "event", "rebuild-end", "volume", name,
			"took", time.Since(time.Unix(0, r.Began)).Round(time.Millisecond))
	})
}

func (n *Node) removeRebuild(id volume.ID) error {
	dir := rebuildDir(id)
	if err := n.opt.Disk.RemoveAll(dir + "/" + rebuildOld); err != nil {
		return err
	}
	if err := n.opt.Disk.Remove(dir + "/" + rebuildFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := n.opt.Disk.SyncDir(dir); err != nil {
		return err
	}
	if err := n.opt.Disk.Remove(dir); err != nil {
		return err
	}
	return n.opt.Disk.SyncDir(rebuildsDir)
}
