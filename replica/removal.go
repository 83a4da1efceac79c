package replica

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"

	"trinas/replica/disk"
	"trinas/replica/volume"
)

// leavingFile is in the folder of a replica that is being removed.
const leavingFile = "leaving"

// removeVolume ends this node's replica of a deleted volume.
func (n *Node) removeVolume(g *group) {
	n.mu.Lock()
	delete(n.groups, g.id)
	n.mu.Unlock()
	if err := g.close(); err != nil {
		n.log.Error("close a deleted volume", "event", "replica-not-closed", "volume", g.name, "err", err)
	}
	n.removeData(volume.ID(g.id), g.name)
}

// removeData removes what this node has of a volume that is not kept here any more, and says so.
func (n *Node) removeData(id volume.ID, name string) {
	if err := n.removeReplica(id); err != nil {
		n.log.Error("cannot remove the data of a volume that is not kept here any more; they take space until the "+
			"agent is started again", "event", "replica-not-removed", "volume", name, "err", err)
		return
	}
	n.log.Info("volume is not kept on this node any more", "event", "replica-removed", "volume", name)
}

// removeReplica removes what this node has of a volume. The cluster's state, which says that it is not kept here, is made
// durable first: a start with an older one would make the replica anew, as a founder that has forgotten what it voted for. Then
// goes the checkpoint, without which what is left after a crash cannot be taken for a replica, and then the log. The
// file leavingFile tells such a rest from a replica whose checkpoint was lost, until the log has gone.
func (n *Node) removeReplica(id volume.ID) error {
	if err := n.saveCluster(); err != nil {
		return err
	}
	dir := VolumeDir(id)
	if _, err := n.opt.Disk.Stat(dir); err == nil {
		if err := replaceFile(n.opt.Disk, dir+"/"+leavingFile, nil); err != nil {
			return err
		}
	}
	if err := volume.Forget(n.opt.Disk.Sub(dir)); err != nil {
		return err
	}
	if err := n.forgetLog(id); err != nil {
		return err
	}
	if err := n.opt.Disk.RemoveAll(dir); err != nil {
		return err
	}
	return n.opt.Disk.SyncDir(volumesDir)
}

// endRemoval ends a removal that a crash cut short, before a replica is made in its place. A log without a checkpoint is
// damage else: a member that began anew would have forgotten what it voted for.
func (n *Node) endRemoval(id volume.ID, fsys disk.FS) error {
	there := func(name string) bool {
		_, err := fsys.Stat(name)
		return !errors.Is(err, fs.ErrNotExist)
	}
	switch {
	case there(volume.CheckpointFile) && there(leavingFile): // it had hardly begun, and does not count any more
		if err := fsys.Remove(leavingFile); err != nil {
			return err
		}
		return fsys.SyncDir(".")
	case there(volume.CheckpointFile):
		return nil
	case there(leavingFile):
		return n.removeReplica(id)
	}
	g := n.wal.Group(uint64(id))
	if last, err := g.LastIndex(); err != nil || last > 0 || g.HardState() != nil {
		return errors.Join(err, fmt.Errorf("%w: there is no checkpoint %s, and the log has something of this replica", volume.ErrDamaged, fsys.Path(volume.CheckpointFile)))
	}
	return nil
}

// saveCluster makes the cluster's state durable as it is known here.
func (n *Node) saveCluster() error {
	_, err := n.cluster.Checkpoint(context.Background())
	return err
}

// forgetLog removes what the log has of a volume; returns once that is durable.
func (n *Node) forgetLog(id volume.ID) error {
	gone := make(chan error, 1)
	n.wal.Group(uint64(id)).Remove(func(err error) { gone <- err })
	return <-gone
}

// sweep removes what a crash has left of replicas that are not kept here any more. It must know the
// cluster's state as it is: a volume that an old state does not hold may be a new one.
func (n *Node) sweep(ctx context.Context) (done bool) {
	g := n.group(clusterGroup)
	if g == nil {
		return false
	}
	left := map[volume.ID]bool{}
	names, err := n.opt.Disk.List(volumesDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		n.log.Error("cannot look for what is left of former replicas", "event", "replica-not-removed", "path", n.opt.Disk.Path(volumesDir), "err", err)
		return true
	}
	for _, name := range names {
		if id, err := strconv.ParseUint(name, 16, 64); err == nil && VolumeDir(volume.ID(id)) == volumesDir+"/"+name {
			left[volume.ID(id)] = true
		}
	}
	for _, id := range n.wal.Groups() {
		left[volume.ID(id)] = true
	}
	delete(left, clusterGroup)
	// Only now: what has been made by now is in the state that is looked at.
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	if err := n.catchUp(ctx, g); err != nil {
		return false
	}
	s := n.cluster.view()
	for id := range left {
		if v := s.volumeByID(id); v != nil && (slices.Contains(v.Replicas, n.id) || slices.Contains(v.Leaving, n.id)) ||
			n.group(uint64(id)) != nil {
			continue
		}
		if _, anew := n.rebuildOf(id); anew {
			continue // leaveRebuilds sees to it
		}
		if err := n.removeReplica(id); err != nil {
			n.log.Error("cannot remove what is left of a former replica", "event", "replica-not-removed", "path", n.opt.Disk.Path(VolumeDir(id)), "err", err)
		}
	}
	return true
}
