package wal

import (
	"cmp"
	"fmt"
	"time"

	"trinas/replica/disk"

	"go.etcd.io/raft/v3/raftpb"
)

const keepBufferBytes = maxFrameBytes + 64<<10 // a larger buffer is not kept

// smallFrameBytes: a larger frame gets a buffer for the largest. A log that has small frames only never needs it.
const smallFrameBytes = 128 << 10

// swiftWrite: while a frame takes this long or longer, no goroutine is borrowed to write the next one.
const swiftWrite = time.Millisecond

// writer is what only whoever writes uses (and Open before anybody does). The path of an
// append: enqueue -> run -> handle -> stage (records of the frame) -> flush -> writeFrame (one
// write, one sync) -> publish (now visible) -> answer (Done).
type writer struct {
	frame   uint64 // number of the last frame
	tail    *segment
	last    int64    // where the last frame begins in the tail
	recs    []record // staged for the next frame
	payload int      // payloadBytes of recs
	mustDo  bool     // the staged records must not wait for company
	dirty   []*Group // need a state record in the next frame
	heads   []record // of a new segment's first frame
	groups  []*Group
	buf     []byte
	batch   []item
	served  int  // appends since the last frame
	freed   bool // a segment may have become free
}

// run is the writer goroutine.
func (l *Log) run() {
	defer close(l.stopped)
	for {
		l.mu.Lock()
		for l.writing || len(l.queue) == 0 && !l.closing {
			l.work.Wait()
		}
		if len(l.queue) == 0 {
			l.mu.Unlock()
			break
		}
		l.writeQueue()
	}
	if l.Err() == nil {
		_ = l.flush() // what was waiting for company; its error is in l.err
	}
}

// Lend writes what is queued in the caller's goroutine, if that is a single append, nobody writes, and
// the disk is swift: on an idle log that saves waking the log's goroutine and waiting for it. Else it
// wakes that. Whoever appends with Lend set calls it.
func (l *Log) Lend() {
	l.mu.Lock()
	if l.writing || len(l.queue) != 1 || !l.swift.Load() {
		if len(l.queue) > 0 {
			l.work.Signal() // does nothing while somebody writes, who will look again
		}
		l.mu.Unlock()
		return
	}
	l.writeQueue()
	l.mu.Lock()
	if len(l.queue) > 0 || l.closing {
		l.work.Signal()
	}
	l.mu.Unlock()
}

// writeQueue writes all that is queued; mu is held, and released.
func (l *Log) writeQueue() {
	w := &l.w
	l.writing = true
	w.batch, l.queue = l.queue, w.batch[:0]
	l.mu.Unlock()
	l.busy.Store(true)
	l.handle(w.batch)
	l.steps.Add(1)
	l.busy.Store(false)
	written := int64(0)
	for i := range w.batch {
		written += w.batch[i].bytes
	}
	clear(w.batch)
	l.mu.Lock()
	l.queued -= written
	l.room.Broadcast()
	l.writing = false
	l.mu.Unlock()
}

// handle writes a batch and answers it.
func (l *Log) handle(batch []item) {
	answered := 0
	for i := range batch {
		it := &batch[i]
		l.w.served++
		if it.err = l.check(it); it.err != nil {
			continue
		}
		l.stageVote(it)
		for _, e := range it.entries {
			if l.w.payload > 0 && l.w.payload+slotBytes+len(e.Data) > l.maxFrame() {
				_ = l.flush() // after an error answer and flush repeat it
				l.answer(batch[answered:i])
				answered = i
			}
			l.stageEntry(it.group, e)
		}
		l.stage(it)
	}
	if l.w.mustDo || l.compactionFrees() {
		_ = l.flush()
	} else {
		l.showHardStates()
	}
	l.answer(batch[answered:])
	l.evict()
}

// answer calls each Done, in order.
func (l *Log) answer(items []item) {
	err := l.Err()
	for i := range items {
		if done := items[i].done; done != nil {
			done(cmp.Or(err, items[i].err))
		}
	}
}

func (l *Log) maxFrame() int { return int(min(maxFrameBytes, l.opt.SegmentBytes/4)) }
func (l *Log) maxEntry() int { return int(min(MaxEntryBytes, l.opt.SegmentBytes/2)) }

// check finds what cannot go into the log. It is a bug of the group's owner, and because a log
// with a hole in it is worth nothing, the group takes nothing more.
func (l *Log) check(it *item) error {
	g := it.group
	if g.next.err != nil {
		return g.next.err
	}
	if g.next.removed {
		return fmt.Errorf("append to group %d: it was removed from the log", g.id)
	}
	want := uint64(0)
	if len(it.entries) > 0 {
		if want = it.entries[0].GetIndex(); want == 0 || want > g.next.last+1 {
			g.next.err = fmt.Errorf("append entry %d to group %d, whose last is %d: entries are missing",
				want, g.id, g.next.last)
		}
	}
	for i, e := range it.entries {
		_, known := formOf(e)
		switch {
		case g.next.err != nil:
		case e.GetIndex() != want+uint64(i):
			g.next.err = fmt.Errorf("append entry %d to group %d after %d: not contiguous",
				e.GetIndex(), g.id, want+uint64(i)-1)
		case len(e.Data) > l.maxEntry():
			g.next.err = fmt.Errorf("append entry %d of %d bytes to group %d: the log takes at most %d",
				e.GetIndex(), len(e.Data), g.id, l.maxEntry())
		case !known:
			g.next.err = fmt.Errorf("append entry %d of type %d to group %d: no such type",
				e.GetIndex(), e.GetType(), g.id)
		}
	}
	return g.next.err
}

// stageEntry puts an entry into the next frame, unless its group does not need it any more.
func (l *Log) stageEntry(g *Group, e *raftpb.Entry) {
	index := e.GetIndex()
	if base, _ := g.nextBase(); index <= base {
		return
	}
	form, _ := formOf(e)
	l.push(record{
		kind: kindEntry, form: form, group: g.id, index: index, term: e.GetTerm(),
		data: e.Data, owner: g, entry: e,
	})
	g.next.last = index
}

// stageVote puts an item's term and vote into the next frame. They go ahead of its entries and its
// commit index comes after them: should the item take several frames, a crash between them never
// leaves an entry above the term or a commit above the last entry.
func (l *Log) stageVote(it *item) {
	hard := &it.group.next.hard
	if it.hasHard && (it.hard.term != hard.term || it.hard.vote != hard.vote) {
		hard.term, hard.vote = it.hard.term, it.hard.vote
		l.w.mustDo = true
		l.markDirty(it.group)
	}
}

// stage puts the rest of an item into the next frame.
func (l *Log) stage(it *item) {
	g := it.group
	switch it.op {
	case opAppend:
		if it.hasHard {
			g.next.hard.commit = it.hard.commit
			l.w.mustDo = l.w.mustDo || it.sync
			l.markDirty(g)
		}
	case opReset:
		l.push(record{kind: kindReset, group: g.id, index: it.index, term: it.term, owner: g})
		g.next.hard.commit = max(g.next.hard.commit, it.index)
		g.next.reset, g.next.base, g.next.baseTerm, g.next.last = true, it.index, it.term, it.index
		l.markDirty(g)
	case opCompact:
		l.markDirty(g)
	case opProbe:
		l.w.mustDo = true
		l.markDirty(g)
	case opRemove:
		l.push(record{kind: kindRemove, group: g.id, owner: g})
		g.next.removed = true
	}
}

func (l *Log) push(r record) {
	l.w.recs = append(l.w.recs, r)
	l.w.payload += slotBytes + r.dataBytes()
	l.w.mustDo = true
}

func (l *Log) markDirty(g *Group) {
	if !g.next.dirty {
		g.next.dirty = true
		l.w.dirty = append(l.w.dirty, g)
	}
}

// flush writes the next frame and makes it visible.
func (l *Log) flush() error {
	w := &l.w
	for _, g := range w.dirty {
		g.next.dirty = false
		base, term := g.nextBase()
		switch {
		case g.next.removed:
		case base > g.next.last: // never written: it would read as damage after a restart
			g.next.err = fmt.Errorf("group %d was compacted to %d while entries from %d on were cut",
				g.id, base, g.next.last+1)
		default:
			l.push(g.state(base, term, g.next.hard, g.next.last))
		}
	}
	clear(w.dirty)
	w.dirty = w.dirty[:0]
	err := l.Err()
	if err == nil && len(w.recs) > 0 {
		err = l.writeRecords()
	}
	clear(w.recs)
	w.recs, w.payload, w.mustDo, w.served = w.recs[:0], 0, false, 0
	return err
}

// writeRecords writes the staged records as one frame, in a new segment when this one is full.
func (l *Log) writeRecords() error {
	w := &l.w
	n := int64(frameBytes(w.payload))
	if w.tail == nil || w.tail.end+n > w.tail.size {
		if err := l.roll(n); err != nil {
			return l.fail(err)
		}
	}
	if err := l.writeFrame(w.recs, int(n), w.served); err != nil {
		return l.fail(err)
	}
	l.publish(w.recs, w.tail.end-n)
	l.freeSegments()
	return nil
}

// roll goes on to a spare segment, whose first frame holds the state of every group: whatever
// stands in older segments but needed entries can then go. It leaves room for n bytes.
func (l *Log) roll(n int64) error {
	w := &l.w
	next, err := l.nextSegment()
	if err != nil {
		return err
	}
	w.groups = l.allGroups(w.groups[:0])
	for _, g := range w.groups {
		g.mu.Lock()
		w.heads = append(w.heads, g.state(g.base, g.baseTerm, g.hard, g.last()))
		g.mu.Unlock()
	}
	size := frameBytes(payloadBytes(w.heads))
	if int64(size)+n > next.size {
		return fmt.Errorf("log segment %d of %d bytes is too small for the states of %d groups "+
			"and a frame of %d bytes", next.num, next.size, len(w.groups), n)
	}
	w.tail = next
	w.tail.end = 0
	if err := l.writeFrame(w.heads, size, 0); err != nil {
		return err
	}
	l.mu.Lock()
	l.tail = next.num
	l.prepare.Signal()
	l.mu.Unlock()
	l.publish(w.heads, 0)
	clear(w.heads)
	clear(w.groups)
	w.heads = w.heads[:0]
	w.freed = true
	return nil
}

// writeFrame makes recs durable as the next frame of the tail; n is the frame's length, and
// served the number of appends in it.
func (l *Log) writeFrame(recs []record, n, served int) error {
	w := &l.w
	buf := l.buffer(n)
	encodeFrame(buf, header{logID: l.id, segment: uint64(w.tail.num), frame: w.frame + 1}, recs)
	from := time.Since(l.opened)
	l.writingFrom.Store(max(1, int64(from)))
	err := w.tail.file.WriteSync(buf, w.tail.end)
	l.writingFrom.Store(0)
	if err != nil {
		return fmt.Errorf("write log segment %s at offset %d: the log writes nothing more; check the disk, "+
			"then start the agent again: %w", l.fs.Path(segmentName(w.tail.num)), w.tail.end, err)
	}
	w.frame++
	w.last = w.tail.end
	w.tail.end += int64(n)
	l.steps.Add(1)
	l.swift.Store(time.Since(l.opened)-from < swiftWrite)
	if l.opt.OnSync != nil {
		l.opt.OnSync(time.Since(l.opened)-from, n, served)
	}
	return nil
}

// buffer returns n bytes of aligned memory, the same again as long as that is enough.
func (l *Log) buffer(n int) []byte {
	if n > keepBufferBytes {
		return disk.AlignedBytes(n)
	}
	switch {
	case n <= len(l.w.buf):
	case n > smallFrameBytes:
		l.w.buf = disk.HugeBytes(keepBufferBytes)
	default:
		l.w.buf = disk.AlignedBytes(max(2*n, 64<<10))
	}
	return l.w.buf[:n]
}

// publish shows what is durable now; the frame begins at start in the tail.
func (l *Log) publish(recs []record, start int64) {
	for i := range recs {
		r := &recs[i]
		g := r.owner
		switch r.kind {
		case kindEntry:
			place := uint32(start) + r.place // below 2^32: segments have at most 2 GiB
			g.put(r.index, newRef(r.term, l.w.tail.num, place, r.crc, len(r.data), r.form), r.entry)
		case kindState:
			l.w.freed = g.settle(r.hard, r.index) || l.w.freed
		case kindReset:
			g.reset(r.index, r.term)
			g.next.reset = false
			l.w.freed = true
		case kindRemove:
			g.reset(0, 0)
			l.mu.Lock()
			delete(l.groups, g.id)
			l.mu.Unlock()
			l.w.freed = true
		}
	}
}

// showHardStates shows hard states that need not be durable and still wait for company.
func (l *Log) showHardStates() {
	for _, g := range l.w.dirty {
		g.mu.Lock()
		g.hard = g.next.hard
		g.mu.Unlock()
	}
}

// state makes a group's state record.
func (g *Group) state(base, term uint64, hard hardState, last uint64) record {
	return record{kind: kindState, group: g.id, index: base, term: term, hard: hard, last: last, owner: g}
}

// nextBase returns the base that the group will have, and its term.
func (g *Group) nextBase() (index, term uint64) {
	if g.next.reset {
		return g.next.base, g.next.baseTerm
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.base, g.baseTerm
}

// oldestNeeded returns the oldest segment that some group has an entry in, at most the tail.
func (l *Log) oldestNeeded(needed bool) uint32 {
	if l.w.tail == nil {
		return 0
	}
	oldest := l.w.tail.num
	l.w.groups = l.allGroups(l.w.groups[:0])
	for _, g := range l.w.groups {
		if s, ok := g.oldest(needed); ok {
			oldest = min(oldest, s)
		}
	}
	clear(l.w.groups)
	return oldest
}

// compactionFrees reports whether writing the state records that wait would free a segment.
func (l *Log) compactionFrees() bool {
	if len(l.w.dirty) == 0 || l.w.tail == nil {
		return false
	}
	oldest := l.oldestNeeded(true)
	l.mu.Lock()
	defer l.mu.Unlock()
	return oldest > l.oldest
}

// freeSegments gives the segments that no group needs any more to the preparer.
func (l *Log) freeSegments() {
	if !l.w.freed {
		return
	}
	l.w.freed = false
	oldest := l.oldestNeeded(false)
	l.mu.Lock()
	if oldest > l.oldest {
		l.oldest = oldest
		l.prepare.Signal()
	}
	l.mu.Unlock()
}
