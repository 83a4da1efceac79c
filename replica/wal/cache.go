package wal

import (
	"math"

	"go.etcd.io/raft/v3/raftpb"
)

// cacheCost is about what an entry takes in memory.
func cacheCost(e *raftpb.Entry) int64 { return int64(len(e.Data)) + 160 }

// uncache drops the n oldest entries from the cache; g.mu is held.
func (g *Group) uncache(n int) {
	freed := int64(0)
	for i, e := range g.cached[:n] {
		freed += cacheCost(e)
		g.cached[i] = nil
	}
	g.cached = g.cached[n:]
	g.log.cached.Add(-freed)
}

// evict drops cached entries, those oldest in the log first, when they take too much memory. It
// drops a sixteenth more than it must, so as not to look at all groups for each frame.
func (l *Log) evict() {
	if l.cached.Load() <= l.opt.CacheBytes {
		return
	}
	limit := l.opt.CacheBytes - l.opt.CacheBytes/16
	groups := l.allGroups(nil)
	for l.cached.Load() > limit {
		var oldest *Group
		first, second := uint64(math.MaxUint64), uint64(math.MaxUint64)
		for _, g := range groups {
			switch at := g.oldestCached(); {
			case at < first:
				oldest, first, second = g, at, first
			case at < second:
				second = at
			}
		}
		if oldest == nil {
			return // what counts is in groups that were removed meanwhile
		}
		oldest.uncacheTo(second, limit)
	}
}

// oldestCached returns the position of the oldest cached entry, MaxUint64 when there is none.
func (g *Group) oldestCached() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.cached) == 0 {
		return math.MaxUint64
	}
	return g.refs[len(g.refs)-len(g.cached)].position()
}

// uncacheTo drops cached entries up to a position (empty entries share one), until all groups' take no more than limit.
func (g *Group) uncacheTo(position uint64, limit int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	refs, over := g.refs[len(g.refs)-len(g.cached):], g.log.cached.Load()-limit
	n := 0
	for n < len(refs) && over > 0 && refs[n].position() <= position {
		over -= cacheCost(g.cached[n])
		n++
	}
	g.uncache(n)
}
