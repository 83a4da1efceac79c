package volume

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// flush makes durable what was dirty when capture was called.
//
//	capture   between two entries: what is dirty becomes what is to be flushed
//	flush     write-back extent by extent at the given pace; then a sync of every object, by now
//	          with little left to write; then of the directories that got or lost objects
//
// Objects that are removed meanwhile need no sync. When ctx ends, what is left stays to be
// flushed and the next capture adds to it.

// capture gives the objects to flush, sorted.
func (s *objects) capture() []FileID {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]FileID, 0, s.dirty.Len())
	for e := s.dirty.Front(); e != nil; e = e.Next() {
		o := e.Value.(*object)
		ids = append(ids, o.id)
		if o.flush == nil {
			o.flush, o.since = o.since, nil
			continue
		}
		for num, n := range o.since { // left over from a checkpoint that was stopped
			both := min(o.flush[num]+n, ExtentBytes)
			s.dirtyBytes -= int64(o.flush[num] + n - both)
			o.flush[num] = both
		}
		o.since = nil
	}
	for dir := range s.changedDirs {
		s.flushDirs[dir] = struct{}{}
	}
	clear(s.changedDirs)
	slices.Sort(ids)
	return ids
}

// flush makes the captured objects and directories durable. An error other than ctx's is final.
func (s *objects) flush(ctx context.Context, ids []FileID, pace *pacer) error {
	for _, id := range ids {
		if err := s.writeBack(ctx, id, pace); err != nil {
			return err
		}
	}
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.syncObject(id); err != nil {
			return err
		}
	}
	return s.syncDirs()
}

// flushing gives the object, if it is still to be flushed; the caller releases it.
func (s *objects) flushing(id FileID) *object {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.open[id]
	if o == nil || o.flush == nil {
		return nil // removed, or synced by settle
	}
	o.refs++
	return o
}

func (s *objects) writeBack(ctx context.Context, id FileID, pace *pacer) error {
	o := s.flushing(id)
	if o == nil {
		return nil
	}
	defer s.release(o)
	s.mu.Lock()
	nums := sortedKeys(o.flush)
	bytes := make([]uint32, len(nums))
	for i, num := range nums {
		bytes[i] = o.flush[num]
	}
	s.mu.Unlock()
	for i, num := range nums {
		if err := o.file.StartWriteback(int64(num)*ExtentBytes, ExtentBytes); err != nil {
			return fmt.Errorf("start write-back of object %s: %w", s.fs.Path(objectPath(id)), err)
		}
		if err := pace.wait(ctx, int64(bytes[i])); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (s *objects) syncObject(id FileID) error {
	o := s.flushing(id)
	if o == nil {
		return nil
	}
	defer s.release(o)
	if err := o.file.Sync(); err != nil {
		return fmt.Errorf("sync object %s: %w", s.fs.Path(objectPath(id)), err)
	}
	if s.dropSynced() {
		_ = o.file.DropCached() // no more than a hint
	}
	s.mu.Lock()
	if !o.gone {
		s.dirtyBytes -= sum(o.flush)
		if o.flush = nil; o.since == nil {
			s.dirty.Remove(o.place)
			o.place = s.clean.PushFront(o)
		}
	}
	idle := s.evictClean()
	s.mu.Unlock()
	closeAll(idle)
	return nil
}

func (s *objects) syncDirs() error {
	s.mu.Lock()
	dirs := sortedKeys(s.flushDirs)
	s.mu.Unlock()
	for _, dir := range dirs {
		if err := s.fs.SyncDir(dir); err != nil {
			return fmt.Errorf("sync directory %s: %w", s.fs.Path(dir), err)
		}
	}
	s.mu.Lock()
	clear(s.flushDirs) // only capture adds to it, and one checkpoint runs at a time
	s.mu.Unlock()
	return nil
}

// pacer spreads work evenly over time, unless there is hurry.
type pacer struct {
	bytesPerSecond int64
	hurry          func() bool
	start          time.Time
	bytes          int64
}

func newPacer(bytesPerSecond int64, hurry func() bool) *pacer {
	return &pacer{bytesPerSecond: bytesPerSecond, hurry: hurry, start: time.Now()}
}

// pacerSlack is how far work may be ahead before it waits: sleeping for less costs more than it
// smooths.
const pacerSlack = 10 * time.Millisecond

// pacerStep is how long it waits at most before it asks again whether there is hurry.
const pacerStep = 100 * time.Millisecond

// wait accounts for n bytes and returns when the next may follow, or ctx's error.
func (p *pacer) wait(ctx context.Context, n int64) error {
	p.bytes += n
	due := time.Duration(float64(p.bytes) / float64(p.bytesPerSecond) * float64(time.Second))
	for {
		ahead := due - time.Since(p.start)
		if ahead < pacerSlack || p.hurry() {
			return ctx.Err()
		}
		timer := time.NewTimer(min(ahead, pacerStep))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}
