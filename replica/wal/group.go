package wal

import (
	"fmt"
	"slices"
	"sync"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// Group is one Raft group's part of the log. It implements the log half of raft.Storage: Entries,
// Term, FirstIndex and LastIndex, which show what is durable and nothing else. Safe for
// concurrent use.
type Group struct {
	log *Log
	id  uint64

	next next // the writer's

	mu       sync.Mutex // guards below; never held across I/O
	hard     hardState
	base     uint64 // entries up to here are no longer needed; FirstIndex-1
	baseTerm uint64
	// refs hold the entries [first, last] that are in the log. Invariant: first-1 <= base <= last:
	// entries from first to base stay until the disk knows the base (a state record), since a
	// restart needs them until then. While Open replays, first-1 may be above base, when older
	// segments are already freed.
	first  uint64
	refs   []ref
	cached []*raftpb.Entry // of the last len(cached) refs
	bytes  int64           // logBytes of entries above base
}

// next is what a group will be once all that has been queued is durable. Only the writer uses it.
type next struct {
	hard           hardState
	reset          bool // a Reset to base and baseTerm is not durable yet
	base, baseTerm uint64
	last           uint64
	dirty          bool  // the next frame must hold a state record
	removed        bool  // nothing may follow
	err            error // the group was used wrongly and takes nothing more
}

func newGroup(l *Log, id uint64) *Group { return &Group{log: l, id: id, first: 1} }

// ID returns the number that the group was made with.
func (g *Group) ID() uint64 { return g.id }

func (g *Group) last() uint64 { return g.first - 1 + uint64(len(g.refs)) }

// HardState returns the hard state, nil when there has never been one.
func (g *Group) HardState() *raftpb.HardState {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.hard == (hardState{}) {
		return nil
	}
	return &raftpb.HardState{
		Term: new(g.hard.term), Vote: new(g.hard.vote), Commit: new(g.hard.commit),
	}
}

// FirstIndex returns the index of the first entry that Entries gives, one above the base.
func (g *Group) FirstIndex() (uint64, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.base + 1, nil
}

// LastIndex returns the index of the last durable entry, the base's when there is none.
func (g *Group) LastIndex() (uint64, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.last(), nil
}

// Term returns the term of entry i, from the base on. raft.ErrCompacted, raft.ErrUnavailable.
func (g *Group) Term(i uint64) (uint64, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case i < g.base:
		return 0, raft.ErrCompacted
	case i == g.base:
		return g.baseTerm, nil
	case i > g.last():
		return 0, raft.ErrUnavailable
	}
	return g.refs[i-g.first].term, nil
}

// Bytes returns how many bytes of the log the group needs.
func (g *Group) Bytes() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.bytes
}

// BytesAfter returns how many bytes of the log the entries after index take, counted up to a limit. What has
// been compacted counts as the limit.
func (g *Group) BytesAfter(index uint64, limit int64) (n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if index < g.base {
		return limit
	}
	for i := index + 1; i <= g.last() && n < limit; i++ {
		n += g.refs[i-g.first].logBytes()
	}
	return min(n, limit)
}

// Compact says that entries up to index (at most LastIndex) are no longer needed. FirstIndex
// becomes index+1 at once, Term(index) stays known, and segments that nobody needs are freed.
func (g *Group) Compact(index uint64) {
	g.mu.Lock()
	index = min(index, g.last())
	if index <= g.base {
		g.mu.Unlock()
		return
	}
	g.setBase(index, g.refs[index-g.first].term)
	g.mu.Unlock()
	g.log.enqueue(item{op: opCompact, group: g})
}

// Reset is queued as Append is: the log becomes empty with the base (index, term), for a new
// volume or an installed snapshot. The hard state stays, with its commit raised to index. done,
// which may be nil, is called as Append.Done is, once that is durable.
func (g *Group) Reset(index, term uint64, done func(error)) {
	g.log.enqueue(item{op: opReset, group: g, index: index, term: term, done: done})
}

// Remove is queued as Append is: the group is gone, nothing of it is needed, and nothing may be
// appended to it. done, which may be nil, is called as Append.Done is; after it Log.Group gives a new
// group for the id.
func (g *Group) Remove(done func(error)) { g.log.enqueue(item{op: opRemove, group: g, done: done}) }

// setBase moves the base up; g.mu is held and index is at most last.
func (g *Group) setBase(index, term uint64) {
	from := max(g.base+1, g.first)
	for i := from; i <= index; i++ {
		g.bytes -= g.refs[i-g.first].logBytes()
	}
	g.base, g.baseTerm = index, term
	if keep := g.last() - index; uint64(len(g.cached)) > keep {
		g.uncache(len(g.cached) - int(keep))
	}
}

// put makes the entry at index the last one; index is at most last+1 and above the base.
func (g *Group) put(index uint64, r ref, e *raftpb.Entry) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if index <= g.base {
		return // compacted meanwhile
	}
	g.cut(index)
	g.refs = append(g.refs, r)
	g.bytes += r.logBytes()
	if e != nil {
		g.cached = append(g.cached, e)
		g.log.cached.Add(cacheCost(e))
	}
}

// cut drops the entries from index on; g.mu is held.
func (g *Group) cut(index uint64) {
	if index < g.first {
		g.first, g.refs, g.bytes = index, nil, 0
		return
	}
	keep := int(index - g.first)
	for _, r := range g.refs[keep:] {
		g.bytes -= r.logBytes()
	}
	freed := int64(0)
	for n := len(g.refs) - keep; n > 0 && len(g.cached) > 0; n-- {
		end := len(g.cached) - 1
		freed += cacheCost(g.cached[end])
		g.cached[end] = nil
		g.cached = g.cached[:end]
	}
	g.refs = g.refs[:keep]
	g.log.cached.Add(-freed)
}

// settle is called when a state record with this base is durable: what it makes needless goes.
// It reports whether anything did.
func (g *Group) settle(hard hardState, base uint64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hard = hard
	if base < g.first {
		return false
	}
	n := int(base - g.first + 1)
	g.first = base + 1
	if n > len(g.refs)/2 {
		g.refs = slices.Clone(g.refs[n:]) // gives the memory back
	} else {
		g.refs = g.refs[n:]
	}
	return true
}

// reset empties the group.
func (g *Group) reset(index, term uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.uncache(len(g.cached))
	g.refs, g.cached, g.bytes = nil, nil, 0
	g.base, g.baseTerm, g.first = index, term, index+1
}

// oldest returns the oldest segment that the group has an entry in; false: none. Needed leaves
// out entries that only wait for a state record.
func (g *Group) oldest(needed bool) (uint32, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	skip := 0
	if needed && g.base >= g.first {
		skip = int(g.base - g.first + 1)
	}
	if skip >= len(g.refs) {
		return 0, false
	}
	return g.refs[skip].segment, true // entries of higher index never stand in an older segment
}

// pick finds the entries of [lo, hi) up to maxSize bytes: refs for the first of them, which are to
// be read from the disk, and the rest from the cache.
func (g *Group) pick(lo, hi, maxSize uint64) (refs []ref, cached []*raftpb.Entry, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case lo <= g.base:
		return nil, nil, raft.ErrCompacted
	case hi > g.last()+1:
		return nil, nil, raft.ErrUnavailable
	case lo >= hi:
		return nil, nil, nil
	}
	end, size := lo, uint64(0)
	for ; end < hi; end++ {
		size += g.refs[end-g.first].protoBytes(end)
		if size > maxSize && end > lo {
			break
		}
	}
	firstCached := g.last() + 1 - uint64(len(g.cached))
	split := min(max(lo, firstCached), end)
	if lo < split {
		refs = slices.Clone(g.refs[lo-g.first : split-g.first])
	}
	if split < end {
		cached = g.cached[split-firstCached : end-firstCached]
	}
	out := make([]*raftpb.Entry, int(end-lo))
	copy(out[split-lo:], cached)
	return refs, out, nil
}

// Entries returns the entries of [lo, hi), up to maxSize bytes by proto.Size but at least one.
// They must not be changed. raft.ErrCompacted, raft.ErrUnavailable; else the disk's error or a
// checksum that does not match.
func (g *Group) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	const tries = 3 // the entries may be cut or compacted, and their segment reused, while we read
	for try := 1; ; try++ {
		refs, out, err := g.pick(lo, hi, maxSize)
		if err != nil {
			return nil, err
		}
		if err = g.log.read(lo, refs, out); err == nil {
			return out, nil
		}
		if try == tries || !g.changed(lo, refs) {
			return nil, fmt.Errorf("read entries from %d of group %d: %w", lo, g.id, err)
		}
	}
}

// changed reports whether the refs from lo on are no longer those.
func (g *Group) changed(lo uint64, refs []ref) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	end := lo + uint64(len(refs))
	return lo <= g.base || end > g.last()+1 || !slices.Equal(g.refs[lo-g.first:end-g.first], refs)
}
