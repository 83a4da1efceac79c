package wal

import (
	"errors"
	"fmt"
	"io"

	"trinas/replica/disk"
)

const scanBytes = 1 << 20 // what the search for later frames reads at a time

// replay applies all frames in order.
//
// There is never more than one frame in flight. So the log ends at the first frame that is not
// valid, and what is there may be torn; but a valid frame anywhere later means that the invalid
// one had been acknowledged.
type replay struct {
	log  *Log
	buf  []byte
	recs []record
	last struct { // the last valid frame
		frame uint64
		off   int64
		n     int
	}
}

func (r *replay) run() error {
	l := r.log
	if err := r.findLogID(); err != nil {
		return err
	}
	for i, s := range l.segments {
		err := r.segment(s)
		if errors.Is(err, errUnstarted) {
			return r.unstarted(l.segments[i:], err)
		}
		if err != nil {
			return err
		}
	}
	return r.unstarted(nil, nil)
}

// errUnstarted says that a segment holds nothing of its own at its start.
var errUnstarted = errors.New("no first frame")

// segment replays one segment up to its first invalid frame.
func (r *replay) segment(s *segment) error {
	l := r.log
	off := int64(0)
	for off < s.size {
		h, b, bad, err := l.readFrame(s, off, r.buf)
		if err != nil {
			return err
		}
		r.buf = b[:cap(b)]
		if bad == nil {
			r.recs, bad = decodeFrame(b, h, r.recs[:0])
		}
		if bad != nil {
			if off == 0 {
				return fmt.Errorf("%w: %w", errUnstarted, bad)
			}
			break
		}
		if r.last.frame != 0 && h.frame != r.last.frame+1 {
			at, end := s, off
			if off == 0 { // what is lost stood at the end of the segment before
				at, end = l.w.tail, l.w.tail.end
			}
			return l.damage(at, end, fmt.Errorf("frame %d is followed by frame %d in %s",
				r.last.frame, h.frame, segmentName(s.num)))
		}
		for i := range r.recs {
			if err := r.apply(&r.recs[i], s, off); err != nil {
				return l.damage(s, off, err)
			}
		}
		r.last.frame, r.last.off, r.last.n = h.frame, off, frameBytes(int(h.payload))
		off += int64(r.last.n)
	}
	s.end = off
	if l.oldest == 0 {
		l.oldest = s.num
	}
	l.tail, l.w.tail, l.w.frame, l.w.last = s.num, s, r.last.frame, r.last.off
	return nil
}

// unstarted looks at what comes after the end of the log: the rest of its tail, and the spares.
// A valid frame there means damage.
func (r *replay) unstarted(spares []*segment, cause error) error {
	l := r.log
	if tail := l.w.tail; tail != nil {
		at, err := r.find(tail, tail.end+disk.BlockBytes)
		if err != nil {
			return err
		}
		if at >= 0 {
			return l.damage(tail, tail.end, fmt.Errorf("no valid frame, but there is one at %d", at))
		}
	} else if len(spares) > 0 {
		l.oldest, l.tail = spares[0].num, spares[0].num-1
	} else {
		l.oldest = 1
	}
	for i, s := range spares {
		from := int64(0)
		if i == 0 {
			from = disk.BlockBytes // the frame in flight may stand here, torn
		}
		at, err := r.find(s, from)
		if err != nil {
			return err
		}
		if at >= 0 {
			return l.damage(spares[0], 0, fmt.Errorf("%w, but there is a valid frame in %s at %d",
				cause, segmentName(s.num), at))
		}
	}
	return nil
}

func (l *Log) damage(s *segment, off int64, cause error) error {
	return fmt.Errorf("segment %s at offset %d: %w: %w", segmentName(s.num), off, cause, ErrDamaged)
}

// apply does to the groups what one record says.
func (r *replay) apply(rec *record, s *segment, off int64) error {
	l := r.log
	g, known := l.groups[rec.group]
	if !known {
		g = newGroup(l, rec.group)
		l.groups[rec.group] = g
	}
	switch rec.kind {
	case kindEntry:
		if rec.index <= g.base || rec.index > g.last()+1 {
			return fmt.Errorf("entry %d of group %d, which has %d to %d", rec.index, g.id, g.base+1, g.last())
		}
		place := uint32(off) + rec.place
		g.put(rec.index, newRef(rec.term, s.num, place, rec.crc, len(rec.data), rec.form), nil)
	case kindState:
		if !known { // its entries, if any, stood in segments that are freed by now
			g.base, g.baseTerm, g.first = rec.index, rec.term, rec.last+1
		}
		if rec.last != g.last() || rec.index < g.base || rec.index > rec.last || rec.last+1 == 0 {
			return fmt.Errorf("state of group %d with entries %d to %d, which has %d to %d",
				g.id, rec.index+1, rec.last, g.base+1, g.last())
		}
		g.rebase(rec.index, rec.term)
		g.settle(rec.hard, rec.index)
	case kindReset:
		if rec.index+1 == 0 {
			return fmt.Errorf("reset of group %d to index %d", g.id, rec.index)
		}
		g.reset(rec.index, rec.term)
	case kindRemove:
		delete(l.groups, rec.group)
	}
	return nil
}

// rebase moves the base up as a state record says.
func (g *Group) rebase(index, term uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if index > g.base {
		g.setBase(index, term)
	}
}

// rewriteLast writes the last frame again. When a sync failed, or the process was killed before
// it, and the machine went on, the frame may be in the page cache and nowhere else, and a sync
// would not know. Only one frame is ever in flight, so the others are durable.
func (r *replay) rewriteLast() error {
	s := r.log.w.tail
	buf := disk.AlignedBytes(r.last.n)
	if err := readFull(s.file, buf, r.last.off); err != nil {
		return fmt.Errorf("segment %s: %w", segmentName(s.num), err)
	}
	if err := s.file.WriteSync(buf, r.last.off); err != nil {
		return fmt.Errorf("segment %s: %w", segmentName(s.num), err)
	}
	return nil
}

// findLogID takes the log's id from the first segment that begins with a frame.
func (r *replay) findLogID() error {
	for _, s := range r.log.segments {
		h, b, bad, err := r.log.readFrame(s, 0, r.buf)
		if err != nil {
			return err
		}
		r.buf = b[:cap(b)]
		if bad == nil && checkTable(b, h) == nil {
			r.log.id = h.logID
			return nil
		}
	}
	return nil
}

// readFrame reads the frame at off of s, into buf when it is large enough. Bad says why there is
// no frame of this segment; err is the disk's, or says that the log is not ours to read. The
// frame's checksums are not checked yet.
func (l *Log) readFrame(s *segment, off int64, buf []byte) (h header, b []byte, bad, err error) {
	if len(buf) < scanBytes {
		buf = make([]byte, scanBytes)
	}
	room := s.size - off
	if room < disk.BlockBytes {
		return h, buf, errNoFrame, nil
	}
	b = buf[:disk.BlockBytes]
	if err := readFull(s.file, b, off); err != nil {
		return h, b, nil, l.segmentError(s, off, err)
	}
	h, bad = decodeHeader(b, room)
	switch {
	case errors.Is(bad, ErrNewerFormat):
		return h, b, nil, l.segmentError(s, off, bad)
	case bad == nil && h.segment != uint64(s.num):
		bad = fmt.Errorf("%w: this one belongs to segment %d", errNoFrame, h.segment)
	}
	if bad != nil {
		return h, b, bad, nil
	}
	n := frameBytes(int(h.payload))
	if n > len(buf) {
		buf = make([]byte, n)
	}
	b = buf[:n]
	if err := readFull(s.file, b, off); err != nil {
		return h, b, nil, l.segmentError(s, off, err)
	}
	if l.id != 0 && h.logID != l.id && checkTable(b, h) == nil {
		if off == 0 {
			return h, b, nil, l.damage(s, off, fmt.Errorf("log %x here, log %x before it", h.logID, l.id))
		}
		bad = fmt.Errorf("%w: this one belongs to log %x", errNoFrame, h.logID)
	}
	return h, b, bad, nil
}

// find looks for a frame of s that is later than the last valid one, from an offset on. It
// returns where it is, -1 when there is none. A header with its table is proof enough.
func (r *replay) find(s *segment, from int64) (int64, error) {
	l := r.log
	buf := make([]byte, scanBytes)
	for off := from; off < s.size; off += scanBytes {
		chunk := buf[:min(scanBytes, s.size-off)]
		if err := readFull(s.file, chunk, off); err != nil {
			return 0, l.segmentError(s, off, err)
		}
		for in := int64(0); in < int64(len(chunk)); in += disk.BlockBytes {
			h, bad := decodeHeader(chunk[in:], s.size-off-in)
			if bad != nil || h.segment != uint64(s.num) || h.frame <= r.last.frame ||
				l.id != 0 && h.logID != l.id {
				continue
			}
			table := make([]byte, h.tableBytes())
			if err := readFull(s.file, table, off+in); err != nil {
				return 0, l.segmentError(s, off+in, err)
			}
			if checkTable(table, h) == nil {
				return off + in, nil
			}
		}
	}
	return -1, nil
}

func (l *Log) segmentError(s *segment, off int64, err error) error {
	return fmt.Errorf("segment %s at offset %d: %w", segmentName(s.num), off, err)
}

func readFull(f disk.File, b []byte, off int64) error {
	n, err := f.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
