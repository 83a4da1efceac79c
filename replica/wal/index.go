package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"

	"trinas/replica/disk"
)

// A Close without error leaves the file "index": what a replay of the log would find, so that the next
// Open need not read it. It says too that the log ends where it says: nobody has to search for frames
// after that. Open takes it away, durably, before anything is written. Little endian:
//
//	 0          8         12        16         24         32         40         48       52       56
//	+----------+---------+---------+----------+----------+----------+----------+--------+--------+
//	| magic    | version | CRC-32C | log id   | frame    | last     | end      | oldest | tail   |
//	+----------+---------+---------+----------+----------+----------+----------+--------+--------+
//	| groups 8 | for each group: 8 numbers of 8 bytes: id, term, vote, commit, base, base's term,  |
//	| first, refs; then so many refs: term 8, segment 4, place 4, CRC 4, size and form 4           |
//	+----------------------------------------------------------------------------------------------+
//
// The CRC covers everything after it. Frame is the number of the log's last frame, which stands in
// segment tail from last to end.
const (
	indexName      = "index"
	indexNew       = "index.new"
	indexMagic     = "trinaIDX"
	indexVersion   = 1
	indexHeadBytes = 64
	indexGroup     = 64
	indexRef       = 24

	// maxIndexBytes bounds the file: a log of more entries (2.8 million) is replayed.
	maxIndexBytes = 64 << 20
)

// saveIndex writes the index once nothing else uses the log. Without a frame there is nothing to index.
// Nothing is synced, because guests wait for the agent to be back: what a power cut leaves of it is
// whole, and right, or its checksum is wrong.
func (l *Log) saveIndex() error {
	if l.w.tail == nil {
		return nil
	}
	b := l.appendIndex()
	if b == nil {
		return nil
	}
	f, err := l.fs.Open(indexNew, disk.Create)
	if err != nil {
		return err
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt(b, 0)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return l.fs.Rename(indexNew, indexName)
}

// appendIndex encodes the index; nil when it would be too large, or a group was used wrongly.
func (l *Log) appendIndex() []byte {
	groups := l.allGroups(nil)
	size := indexHeadBytes
	for _, g := range groups {
		if size += indexGroup + indexRef*len(g.refs); size > maxIndexBytes || g.next.err != nil {
			return nil
		}
	}
	le := binary.LittleEndian
	b := make([]byte, 0, size)
	b = append(b, indexMagic...)
	b = le.AppendUint32(b, indexVersion)
	b = le.AppendUint32(b, 0)
	b = appendWords(b, l.id, l.w.frame, uint64(l.w.last), uint64(l.w.tail.end))
	b = le.AppendUint32(b, l.oldest)
	b = le.AppendUint32(b, l.tail)
	b = le.AppendUint64(b, uint64(len(groups)))
	for _, g := range groups {
		b = appendWords(b, g.id, g.hard.term, g.hard.vote, g.hard.commit, g.base, g.baseTerm, g.first, uint64(len(g.refs)))
		for _, r := range g.refs {
			b = le.AppendUint64(b, r.term)
			b = le.AppendUint32(b, r.segment)
			b = le.AppendUint32(b, r.place)
			b = le.AppendUint32(b, r.crc)
			b = le.AppendUint32(b, r.sizeForm)
		}
	}
	le.PutUint32(b[12:], crc32.Checksum(b[16:], castagnoli))
	return b
}

func appendWords(b []byte, words ...uint64) []byte {
	for _, w := range words {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return b
}

// loadIndex makes the Log what its index says. An error says why it is not used, and changes nothing:
// the log is replayed then.
func (l *Log) loadIndex() error {
	b, err := l.readIndex()
	if err != nil {
		return err
	}
	d := indexReader{b: b[16:]}
	id, frame, last, end := d.word(), d.word(), int64(d.word()), int64(d.word())
	oldest, tail := d.half(), d.half()
	groups := map[uint64]*Group{}
	for n := d.word(); n > 0 && !d.short; n-- {
		if g := d.group(l); g != nil {
			groups[g.id] = g
		}
	}
	if d.short || len(d.b) > 0 {
		return errors.New("it has another length than it says")
	}
	for _, g := range groups {
		for _, r := range g.refs {
			if s := l.segment(r.segment); s == nil || int64(r.place)+int64(r.size()) > s.size {
				return fmt.Errorf("its segment %s is not there, or is short", segmentName(r.segment))
			}
		}
	}
	l.id = id
	if err := l.endsAt(oldest, tail, frame, last, end); err != nil {
		l.id = 0
		return err
	}
	l.groups, l.oldest, l.tail = groups, oldest, tail
	l.w.tail, l.w.frame, l.w.last = l.segment(tail), frame, last
	l.w.tail.end = end
	return nil
}

func (l *Log) readIndex() ([]byte, error) {
	f, err := l.fs.Open(indexName, disk.ReadOnly)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.SizeBytes < indexHeadBytes || info.SizeBytes > maxIndexBytes {
		return nil, fmt.Errorf("it has %d bytes", info.SizeBytes)
	}
	b := make([]byte, info.SizeBytes)
	if err := readFull(f, b, 0); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	switch {
	case string(b[:8]) != indexMagic || le.Uint32(b[8:]) != indexVersion:
		return nil, errors.New("it has another format")
	case crc32.Checksum(b[16:], castagnoli) != le.Uint32(b[12:]):
		return nil, errors.New("its checksum does not match")
	}
	return b, nil
}

// endsAt is nil when the segments there are go with the index: its last frame stands where it says,
// whole, and none follows.
func (l *Log) endsAt(oldest, tail uint32, frame uint64, last, end int64) error {
	s := l.segment(tail)
	if s == nil || l.segment(oldest) == nil || oldest > tail || last < 0 || last >= end || end > s.size {
		return errors.New("its segments are not there")
	}
	h, b, bad, err := l.readFrame(s, last, nil)
	if err == nil && bad == nil {
		_, bad = decodeFrame(b, h, nil)
	}
	if err != nil || bad != nil {
		return fmt.Errorf("its last frame is not there: %w", errors.Join(err, bad))
	}
	if h.frame != frame || last+int64(frameBytes(int(h.payload))) != end {
		return errors.New("another frame stands where its last one should")
	}
	follows := func(s *segment, off int64) error {
		if s == nil {
			return nil
		}
		h, b, bad, err := l.readFrame(s, off, nil)
		if err == nil && bad == nil && checkTable(b, h) == nil {
			err = fmt.Errorf("a frame follows its last one in segment %s", segmentName(s.num))
		}
		return err
	}
	if err := follows(s, end); err != nil {
		return err
	}
	return follows(l.segment(tail+1), 0)
}

// dropIndex removes the index, since the log is going to change; durably, or a later Open would take
// it for the log's.
func (l *Log) dropIndex() error {
	err := l.fs.Remove(indexName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return l.fs.SyncDir(".")
}

// indexReader takes numbers off b; short when it has ended before.
type indexReader struct {
	b     []byte
	short bool
}

func (d *indexReader) take(n int) []byte {
	if len(d.b) < n {
		d.b, d.short = nil, true
		return make([]byte, n)
	}
	taken := d.b[:n]
	d.b = d.b[n:]
	return taken
}

func (d *indexReader) word() uint64 { return binary.LittleEndian.Uint64(d.take(8)) }
func (d *indexReader) half() uint32 { return binary.LittleEndian.Uint32(d.take(4)) }

// group reads one group.
func (d *indexReader) group(l *Log) *Group {
	g := newGroup(l, d.word())
	g.hard = hardState{d.word(), d.word(), d.word()}
	g.base, g.baseTerm, g.first = d.word(), d.word(), d.word()
	n := d.word()
	if n > uint64(len(d.b)/indexRef) {
		d.short = true
		return nil
	}
	g.refs = make([]ref, n)
	for i := range g.refs {
		g.refs[i] = ref{term: d.word(), segment: d.half(), place: d.half(), crc: d.half(), sizeForm: d.half()}
		if g.first+uint64(i) > g.base {
			g.bytes += g.refs[i].logBytes()
		}
	}
	return g
}
