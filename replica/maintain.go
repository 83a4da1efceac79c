package replica

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/raft/v3/tracker"

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
		n.shapeGroups(ctx)
		n.checkpoint(ctx, last)
		n.shrinkLog(ctx, last)
	}
}

// checkpoint makes every group's checkpoint that is due by time.
func (n *Node) checkpoint(ctx context.Context, last map[uint64]time.Time) {
	for _, g := range n.snapshotGroups() {
		if at, ok := last[g.id]; !ok {
			last[g.id] = time.Now()
		} else if time.Since(at) >= n.opt.CheckpointInterval {
			n.checkpointGroup(ctx, g, last)
		}
	}
}

func (n *Node) checkpointGroup(ctx context.Context, g *group, last map[uint64]time.Time) {
	last[g.id] = time.Now()
	index, err := g.sm.Checkpoint(ctx)
	switch {
	case err == nil:
		g.checkpointed.Store(index)
	case !errors.Is(err, context.Canceled) && !errors.Is(err, volume.ErrBusy):
		g.fail(err)
	}
}

// shrinkLog keeps the log below its limit. Entries are kept beyond their checkpoint for replicas
// that lag, until the log has half its limit; then the groups that hold the oldest segment drop
// what their checkpoints cover, after a new checkpoint where that is too old. While a replica is
// being brought up to date they wait until the log has its limit.
func (n *Node) shrinkLog(ctx context.Context, last map[uint64]time.Time) {
	if n.wal.Bytes() <= n.opt.LogBytes/2 {
		return
	}
	for _, id := range n.wal.Oldest() {
		g := n.group(id)
		if g == nil {
			continue // its replica is out of service: the log stays until it is mended or removed
		}
		if n.wal.Bytes() <= n.opt.LogBytes && g.feeds() {
			continue
		}
		if first, err := g.store.FirstIndex(); err == nil && g.checkpointed.Load() >= first {
			g.store.Compact(g.checkpointed.Load())
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
