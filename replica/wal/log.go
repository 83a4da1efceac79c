// Package wal is a node's one write-ahead log, which all its Raft groups append to. It holds
// entries, hard states and bases (what a group's log starts after) of every group, and makes
// whatever has queued up durable with one write (group commit). DESIGN.md has the format, the
// limits and the crash cases.
//
// It must never call a Done without error before everything up to it is durable, never write
// again after a write or sync that failed, and never start over damage in its middle.
//
// Floor 1: imports replica/disk.
package wal

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"trinas/replica/disk"

	"go.etcd.io/raft/v3/raftpb"
)

// ErrClosed is what Done gets for what is appended to a closed log.
var ErrClosed = errors.New("the write-ahead log is closed")

// Options are a log's settings; a zero field takes its default.
type Options struct {
	// SegmentBytes is the size of a new segment: default 64 MiB, a multiple of disk.BlockBytes,
	// 64 KiB to 2 GiB. One entry takes at most half of it, and at most MaxEntryBytes.
	SegmentBytes int64
	// CacheBytes is the most that recent entries take in memory over all groups; default 32 MiB.
	CacheBytes int64
	// QueueBytes is how many bytes of entries may wait for the disk before AwaitRoom waits; default 32 MiB.
	QueueBytes int64
	// SpareSegments are prepared ahead in the background; default 1.
	SpareSegments int
	// OnSync, when set, is told after each write how long it took, how many bytes it wrote and
	// how many appends it served. Called from the log's goroutine: must not block.
	OnSync func(took time.Duration, bytes, batches int)
}

func (o Options) withDefaults() (Options, error) {
	o.SegmentBytes = cmp.Or(o.SegmentBytes, 64<<20)
	o.CacheBytes = cmp.Or(o.CacheBytes, 32<<20)
	o.QueueBytes = cmp.Or(o.QueueBytes, 32<<20)
	o.SpareSegments = cmp.Or(o.SpareSegments, 1)
	switch {
	case o.SegmentBytes < 64<<10 || o.SegmentBytes > 2<<30 || o.SegmentBytes%disk.BlockBytes != 0:
		return o, fmt.Errorf("segment size of %d bytes: want a multiple of %d from 64 KiB to 2 GiB",
			o.SegmentBytes, disk.BlockBytes)
	case o.CacheBytes < 0 || o.SpareSegments < 0 || o.SpareSegments > 64:
		return o, fmt.Errorf("cache of %d bytes, %d spare segments: want 0 or more, and at most 64 spares",
			o.CacheBytes, o.SpareSegments)
	}
	return o, nil
}

// Log is an open write-ahead log. Safe for concurrent use.
type Log struct {
	fs     disk.FS
	opt    Options
	logger *slog.Logger
	id     uint64

	cached      atomic.Int64  // cacheCost of all cached entries
	writingFrom atomic.Int64  // nanoseconds since opened; 0: no write under way
	steps       atomic.Uint64 // batches and frames that the writer is done with
	busy        atomic.Bool   // the writer has a batch
	swift       atomic.Bool   // the last frame took less than swiftWrite
	opened      time.Time
	done        chan struct{} // closed when the log has failed
	stopped     chan struct{} // closed when the writer has returned
	prepared    chan struct{} // closed when the preparer has returned

	w writer // of whoever writes: the writer goroutine, or one that was lent (Lend)

	mu       sync.Mutex // guards below; never held across I/O
	work     sync.Cond  // the writer waits here: for items, or for a segment
	prepare  sync.Cond  // the preparer waits here
	writing  bool       // somebody writes
	queue    []item     // bounded by what Raft lets be in flight, and by who calls AwaitRoom
	queued   int64      // cacheCost of the entries in queue, and of those that are being written
	room     sync.Cond  // queued went down, or the log ends
	groups   map[uint64]*Group
	closing  bool  // nothing more is taken
	stopPrep bool  // the writer has returned
	err      error // final
	full     error // why no segment could be prepared; cleared when one could
	// segments are all files, by number and without gaps: freed ones, below oldest; those in use,
	// to tail; spares, above it. Only the preparer changes the slice once the log is open.
	segments     []*segment
	oldest, tail uint32
}

// Append is what one group adds to the log at a time.
type Append struct {
	Group *Group
	// Entries are contiguous. One whose index is at most LastIndex cuts the entries from there on.
	// They and their data must not be changed until they are compacted.
	Entries   []*raftpb.Entry
	HardState *raftpb.HardState // nil: unchanged
	// Sync false says that a HardState with a new commit index only need not be durable: it rides
	// with the next frame. Entries, a new term and a new vote are synced all the same.
	Sync bool
	// Lend says that the caller will call Lend right after, from a goroutine that may wait for the disk:
	// the log's goroutine is not woken.
	Lend bool
	// Done is called from the log's goroutine, or one that was lent to it, in the order of the queue, once this and everything
	// queued before it is durable (or, without Sync, everything before it). After an error every
	// later Done gets it too. May be nil; must not block.
	Done func(error)
}

type op uint8

const (
	opAppend op = iota
	opReset
	opCompact
	opRemove
	opProbe
)

// item is one thing in the queue.
type item struct {
	op          op
	sync        bool
	hasHard     bool
	group       *Group
	entries     []*raftpb.Entry
	hard        hardState
	index, term uint64
	bytes       int64 // cacheCost of entries
	done        func(error)
	err         error // for this item alone
}

// Append queues a. It never waits for the disk; the order of all callers is kept.
func (l *Log) Append(a Append) {
	it := item{op: opAppend, group: a.Group, entries: a.Entries, sync: a.Sync, done: a.Done}
	if h := a.HardState; h != nil {
		it.hasHard, it.hard = true, hardState{h.GetTerm(), h.GetVote(), h.GetCommit()}
	}
	l.put(it, a.Lend)
}

func (l *Log) enqueue(it item) { l.put(it, false) }

func (l *Log) put(it item, lend bool) {
	for _, e := range it.entries {
		it.bytes += cacheCost(e)
	}
	l.mu.Lock()
	closing := l.closing
	if !closing {
		l.queue = append(l.queue, it)
		l.queued += it.bytes
		if !lend && !l.writing { // whoever writes looks again
			l.work.Signal()
		}
	}
	l.mu.Unlock()
	if closing && it.done != nil {
		go it.done(cmp.Or(l.Err(), ErrClosed)) // not from here: the caller may hold a lock
	}
}

// AwaitRoom waits while more than Options.QueueBytes of entries wait for the disk. Whoever takes entries in
// from elsewhere calls it before the next ones; it ends when the log fails or is closed.
func (l *Log) AwaitRoom() {
	l.mu.Lock()
	for l.queued > l.opt.QueueBytes && l.err == nil && !l.closing {
		l.room.Wait()
	}
	l.mu.Unlock()
}

// Wake has the log's goroutine write what was appended with Lend, instead of the caller.
func (l *Log) Wake() {
	l.mu.Lock()
	l.work.Signal()
	l.mu.Unlock()
}

// Probe writes a frame that says nothing new, unless something is being written anyway: a disk that hangs shows then
// (InFlight, Progress).
func (g *Group) Probe() {
	l := g.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closing && !l.writing && len(l.queue) == 0 {
		l.queue = append(l.queue, item{op: opProbe, group: g})
		l.work.Signal()
	}
}

// Groups returns the ids of all groups, sorted.
func (l *Log) Groups() []uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.groups))
}

// Group returns a group; an empty one when it is not known.
func (l *Log) Group(id uint64) *Group {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.groups[id]
	if g == nil {
		g = newGroup(l, id)
		l.groups[id] = g
	}
	return g
}

// allGroups returns the groups by id.
func (l *Log) allGroups(to []*Group) []*Group {
	l.mu.Lock()
	for _, g := range l.groups {
		to = append(to, g)
	}
	l.mu.Unlock()
	slices.SortFunc(to, func(a, b *Group) int { return cmp.Compare(a.id, b.id) })
	return to
}

// Bytes returns the size of the segments in use.
func (l *Log) Bytes() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := int64(0)
	for _, s := range l.segments {
		if s.num >= l.oldest && s.num <= l.tail {
			n += s.size
		}
	}
	return n
}

// IndexBytes returns what the places of the entries that are kept take in memory.
func (l *Log) IndexBytes() int64 {
	n := 0
	for _, g := range l.allGroups(nil) {
		g.mu.Lock()
		n += len(g.refs)
		g.mu.Unlock()
	}
	return int64(n) * refBytes
}

// Oldest returns the groups whose entries keep the oldest segment from being freed.
func (l *Log) Oldest() (groups []uint64) {
	l.mu.Lock()
	oldest := l.oldest
	l.mu.Unlock()
	for _, g := range l.allGroups(nil) {
		if s, ok := g.oldest(true); ok && s == oldest {
			groups = append(groups, g.id)
		}
	}
	return groups
}

// InFlight returns how long the write under way has taken so far, 0 when there is none: OnSync
// never hears of a disk that hangs.
func (l *Log) InFlight() time.Duration {
	from := l.writingFrom.Load()
	if from == 0 {
		return 0
	}
	return time.Since(l.opened) - time.Duration(from)
}

// Progress returns a number that grows whenever the log's goroutine has made a frame durable or
// answered what it was given, and whether it is at work. At work, and the same number again and
// again: a write, the wait for a segment, or a Done hangs.
func (l *Log) Progress() (steps uint64, busy bool) { return l.steps.Load(), l.busy.Load() }

// Done is closed when the log has failed, which is final: Err says why. Close does not close it.
func (l *Log) Done() <-chan struct{} { return l.done }

// Err returns why the log failed; nil while it has not.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// fail makes err the log's end, unless it had one. It returns the error that counts.
func (l *Log) fail(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
		close(l.done)
	}
	l.work.Broadcast()
	l.prepare.Broadcast()
	l.room.Broadcast()
	return l.err
}

// Close writes what is queued, answers every Done and closes the files. What is appended later
// gets ErrClosed. May be called twice.
func (l *Log) Close() error {
	l.mu.Lock()
	first := !l.closing
	l.closing = true
	l.work.Broadcast()
	l.room.Broadcast()
	l.mu.Unlock()
	<-l.stopped

	l.mu.Lock()
	l.stopPrep = true
	l.prepare.Broadcast()
	l.mu.Unlock()
	<-l.prepared
	if !first {
		return l.Err()
	}
	if err := l.Err(); err != nil {
		return errors.Join(err, l.closeFiles())
	}
	if err := l.saveIndex(); err != nil {
		l.logger.Warn("the index of the log could not be written: the next start takes longer",
			"event", "log-no-index", "path", l.fs.Path(indexName), "err", err)
	}
	return l.closeFiles()
}

func (l *Log) closeFiles() error {
	l.mu.Lock()
	segments := l.segments
	l.segments = nil
	l.mu.Unlock()
	var errs []error
	for _, s := range segments {
		errs = append(errs, s.file.Close())
	}
	return errors.Join(errs...)
}
