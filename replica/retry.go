package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"trinas/replica/disk"
	"trinas/replica/volume"
	"trinas/replica/wal"
)

// A replica that has failed is opened again, as by a restart of the agent, when its disk answers: from its last
// checkpoint, which the log reaches back to as long as the replica is out of service (shrinkLog). What a failed sync
// may have lost is so written anew. A disk that fails again is tried ever less often.
const (
	retryReplicaFirst = time.Minute
	retryReplicaMost  = time.Hour
	retryLook         = time.Second // how often a node looks for replicas that are due
	healthyAfter      = time.Hour   // in service without failing: the next failure counts as the first
	probeBytes        = 1 << 20
	probeFile         = "probe"
)

// outOfService is a volume's replica here that could not be opened, or has failed.
type outOfService struct {
	err   error
	tries int           // failures in a row
	since time.Duration // by the node's clock: when it was last opened
	next  time.Duration // when it is tried again
}

// setBroken notes that a replica is out of service, and when it is tried again.
func (n *Node) setBroken(id volume.ID, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.opt.Clock()
	b := n.setbacks[id]
	if b == nil || b.tries > 0 && n.broken[id] == nil && now-b.since > healthyAfter {
		b = &outOfService{}
		n.setbacks[id] = b
	}
	b.err = err
	b.next = now + min(retryReplicaFirst<<min(b.tries, 10), retryReplicaMost)
	b.tries++
	n.broken[id] = b
}

// retryBroken opens the replicas again that are due and whose disk answers. Called by followCluster.
func (n *Node) retryBroken() {
	now := n.opt.Clock()
	var due []volume.ID
	n.mu.RLock()
	for id, b := range n.broken {
		if now >= b.next && !n.held(id) {
			due = append(due, id)
		}
	}
	n.mu.RUnlock()
	for _, id := range due {
		n.reopen(id)
	}
}

// reopen is one try; its outcome is in broken.
func (n *Node) reopen(id volume.ID) {
	s := n.cluster.view()
	dir, name := clusterDir, "cluster"
	if id != clusterGroup {
		v := s.volumeByID(id)
		if v == nil {
			return // deleted: openVolumes removes what is left of it
		}
		dir, name = VolumeDir(id), v.Name
	}
	if err := n.probeDisk(dir); err != nil {
		n.log.Debug("the disk of a failed replica does not answer yet", "volume", name, "err", err)
		n.setBroken(id, n.brokenBy(id, err))
		return
	}
	// What the replica had queued to the log before it failed, a vote among it, comes before what
	// it reads there now.
	quiet := make(chan error, 1)
	n.wal.Append(wal.Append{Group: n.wal.Group(uint64(id)), Sync: true, Done: func(err error) { quiet <- err }})
	if err := <-quiet; err != nil {
		return // the node stops
	}
	n.mu.Lock()
	if n.held(id) { // since the probe
		n.mu.Unlock()
		return
	}
	n.setbacks[id].since = n.opt.Clock()
	delete(n.broken, id)
	n.mu.Unlock()
	if id == clusterGroup {
		n.reopenCluster()
	} else {
		n.openVolumes()
	}
	if g := n.group(uint64(id)); g != nil && g.failure.Load() == nil {
		n.log.Info("replica is back in service", "event", "replica-back", "volume", name)
	}
}

// reopenCluster has this node take part in the cluster group again, with the state that it had.
func (n *Node) reopenCluster() {
	g, err := openGroup(clusterGroup, "cluster", n.id, n.opt, n.net, n.wal, n.cluster, n)
	if err != nil {
		n.setBroken(clusterGroup, err)
		return
	}
	n.setGroup(g)
}

// brokenBy keeps the first reason of a replica: what a probe says is less.
func (n *Node) brokenBy(id volume.ID, err error) error {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if b := n.broken[id]; b != nil {
		return b.err
	}
	return err
}

// probeDisk writes, syncs and reads 1 MiB beside a replica's files.
func (n *Node) probeDisk(dir string) (err error) {
	if s, err := n.opt.Disk.Space(); err != nil || s.FreeBytes < n.opt.ReserveBytes {
		return fmt.Errorf("%d bytes are free, and %d are kept in reserve: %w", s.FreeBytes, n.opt.ReserveBytes, err)
	}
	fsys := n.opt.Disk.Sub(dir)
	if err := fsys.MkdirAll("."); err != nil {
		return err
	}
	file, err := fsys.Open(probeFile, disk.Create)
	if err != nil {
		return err
	}
	b := disk.AlignedBytes(probeBytes)
	for i := range b {
		b[i] = byte(i)
	}
	_, err = file.WriteAt(b, 0)
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		_, err = file.ReadStored(b, 0)
	}
	return errors.Join(err, file.Close(), fsys.Remove(probeFile))
}

// RetryReplica opens this node's replica of a volume, which is out of service, again now, and returns the reason when it
// stays so.
func (n *Node) RetryReplica(ctx context.Context, name string) error {
	v, err := n.findVolume(ctx, name)
	if err != nil {
		return err
	}
	n.mu.Lock()
	b, anew := n.broken[v.ID], n.held(v.ID)
	if b != nil {
		b.next = 0
	}
	n.mu.Unlock()
	switch {
	case anew:
		return fmt.Errorf("the replica of volume %q on node %s is being made anew from the others (see trinas status)", name, n.identity.Name)
	case b == nil:
		return fmt.Errorf("the replica of volume %q on node %s is not out of service (see trinas status)", name, n.identity.Name)
	}
	for try := 0; ; try++ {
		n.mu.RLock()
		_, out := n.broken[v.ID]
		tried, reason := b.next != 0, b.err
		n.mu.RUnlock()
		switch {
		case !out && n.group(uint64(v.ID)) != nil:
			return nil
		case out && tried:
			return fmt.Errorf("the replica of volume %q stays out of service: %w", name, reason)
		}
		if err := n.pause(ctx, nil, try); err != nil {
			return err
		}
	}
}
