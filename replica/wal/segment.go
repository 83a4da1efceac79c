package wal

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math"
	"strconv"
	"strings"
	"syscall"

	"trinas/replica/disk"

	"go.etcd.io/raft/v3/raftpb"
)

const (
	segmentSuffix = ".wal"
	newName       = "new" + segmentSuffix // a segment while its zeros are being written

	// maxFreed is how many freed segments are kept for reuse; writing zeros over a new one costs
	// the disk as much as filling it.
	maxFreed = 16
)

// segment is one file of the log.
type segment struct {
	num  uint32
	file disk.File
	size int64
	end  int64 // where the next frame goes; the writer's
}

// segmentName has ten digits, so that names sort as their numbers do.
func segmentName(num uint32) string { return fmt.Sprintf("%010d%s", num, segmentSuffix) }

// segmentNumber reads a name; false when it is not one of ours.
func segmentNumber(name string) (uint32, bool) {
	num, err := strconv.ParseUint(strings.TrimSuffix(name, segmentSuffix), 10, 32)
	return uint32(num), err == nil && num > 0 && name == segmentName(uint32(num))
}

// runPreparer keeps the spare segments ready: it turns freed ones into spares, makes new ones, and
// removes freed ones that nobody will need. Each step is durable before the next begins, so
// that whatever a crash leaves is a run of numbers without gaps.
func (l *Log) runPreparer() {
	defer close(l.prepared)
	l.mu.Lock()
	defer l.mu.Unlock()
	for !l.stopPrep && l.err == nil {
		spares, freed := l.spares(), l.freed()
		switch {
		case spares < l.opt.SpareSegments && freed > 0 && l.segments[0].size == l.opt.SegmentBytes:
			l.background(l.recycle)
		case freed > maxFreed || freed > 0 && l.segments[0].size != l.opt.SegmentBytes:
			l.background(l.removeFreed)
		case spares < l.opt.SpareSegments && l.full == nil:
			l.background(l.create)
		default:
			l.prepare.Wait()
		}
	}
}

// spares and freed count segments; l.mu is held.
func (l *Log) spares() int {
	return len(l.segments) - l.freed() - int(l.tail+1-l.oldest)
}

func (l *Log) freed() int {
	if len(l.segments) == 0 {
		return 0
	}
	return int(l.oldest - l.segments[0].num)
}

// background runs one step of the preparer without the lock, which is held before and after. A
// disk without room is an error only when the writer needs a segment; another error is final.
func (l *Log) background(step func() error) {
	l.full = nil // not known while the step runs: the writer waits for it
	l.mu.Unlock()
	err := step()
	if err != nil && !errors.Is(err, syscall.ENOSPC) {
		_ = l.fail(err)
	}
	l.mu.Lock()
	if err != nil && l.err == nil {
		l.logger.Warn("no room to prepare a log segment: free space on this disk",
			"event", "log-no-room", "path", l.fs.Path("."), "err", err)
	}
	l.full = err
	l.work.Broadcast()
}

// nextNumber gives a new spare its number.
func (l *Log) nextNumber() (uint32, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := l.tail
	if n := len(l.segments); n > 0 {
		last = l.segments[n-1].num
	}
	if last == math.MaxUint32 {
		return 0, errors.New("prepare log segment: all 2^32 segment numbers are used")
	}
	return last + 1, nil
}

func (l *Log) addSpare(s *segment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.segments = append(l.segments, s)
}

// create makes a new segment. It gets its name when its zeros are durable.
func (l *Log) create() error {
	num, err := l.nextNumber()
	if err != nil {
		return err
	}
	f, err := l.fs.Open(newName, disk.Create)
	if err != nil {
		return fmt.Errorf("create log segment %d: %w", num, err)
	}
	err = f.Preallocate(l.opt.SegmentBytes)
	if err == nil {
		err = l.fs.Rename(newName, segmentName(num))
	}
	if err == nil {
		err = l.fs.SyncDir(".")
	}
	if err != nil {
		removed := l.fs.Remove(newName) // gives the room back, when there was not enough
		if errors.Is(removed, fs.ErrNotExist) {
			removed = nil
		}
		return fmt.Errorf("create log segment %d: %w", num, errors.Join(err, removed, f.Close()))
	}
	l.addSpare(&segment{num: num, file: f, size: l.opt.SegmentBytes})
	return nil
}

// recycle turns the oldest segment, which is freed, into a spare. What it holds names its old
// number, so nothing of it passes for the new one's.
func (l *Log) recycle() error {
	num, err := l.nextNumber()
	if err != nil {
		return err
	}
	old := l.takeFreed()
	err = l.fs.Rename(segmentName(old.num), segmentName(num))
	if err == nil {
		err = l.fs.SyncDir(".")
	}
	if err != nil {
		return fmt.Errorf("recycle log segment %d as %d: %w", old.num, num, errors.Join(err, old.file.Close()))
	}
	l.addSpare(&segment{num: num, file: old.file, size: old.size})
	return nil
}

// removeFreed removes the oldest segment, which is freed.
func (l *Log) removeFreed() error {
	old := l.takeFreed()
	err := l.fs.Remove(segmentName(old.num))
	if err == nil {
		err = l.fs.SyncDir(".")
	}
	if err = errors.Join(err, old.file.Close()); err != nil {
		return fmt.Errorf("remove log segment %d: %w", old.num, err)
	}
	return nil
}

func (l *Log) takeFreed() *segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.segments[0]
	l.segments = l.segments[1:]
	return old
}

// nextSegment waits until there is a spare and returns it.
func (l *Log) nextSegment() (*segment, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for retried := false; ; {
		switch {
		case l.err != nil:
			return nil, l.err
		case l.spares() > 0:
			return l.segments[l.freed()+int(l.tail+1-l.oldest)], nil
		case l.full != nil && l.freed() == 0 && !retried: // there may be room by now
			retried, l.full = true, nil
			l.prepare.Signal()
		case l.full != nil && l.freed() == 0:
			return nil, fmt.Errorf("the write-ahead log is full and has no room for another segment: "+
				"free space under %s and start the agent again: %w", l.fs.Path("."), l.full)
		}
		l.work.Wait()
	}
}

// segment finds an open segment by its number; nil when it is gone.
func (l *Log) segment(num uint32) *segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.segments) == 0 || num < l.segments[0].num {
		return nil
	}
	if i := num - l.segments[0].num; int(i) < len(l.segments) {
		return l.segments[i]
	}
	return nil
}

// read reads the entries from index lo on that refs lead to into out, those that stand next to
// each other at once, and checks each one's checksum.
func (l *Log) read(lo uint64, refs []ref, out []*raftpb.Entry) error {
	for i := 0; i < len(refs); {
		first := refs[i]
		end, size := i+1, first.size()
		for end < len(refs) && refs[end].segment == first.segment &&
			int64(refs[end].place) == int64(first.place)+int64(size) && size < maxFrameBytes {
			size += refs[end].size()
			end++
		}
		s := l.segment(first.segment)
		if s == nil {
			return fmt.Errorf("log segment %d: %w", first.segment, fs.ErrClosed)
		}
		data := make([]byte, size)
		if _, err := s.file.ReadAt(data, int64(first.place)); err != nil {
			return fmt.Errorf("log segment %d at offset %d: %w", first.segment, first.place, err)
		}
		for ; i < end; i++ {
			n := refs[i].size()
			if crc32.Checksum(data[:n], castagnoli) != refs[i].crc {
				return fmt.Errorf("log segment %s at offset %d: checksum does not match: %w",
					l.fs.Path(segmentName(refs[i].segment)), refs[i].place, ErrDamaged)
			}
			out[i] = entryOf(lo+uint64(i), refs[i], data[:n:n])
			data = data[n:]
		}
	}
	return nil
}
