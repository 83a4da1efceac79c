package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"

	"trinas/replica/disk"
)

// sampleFrame has one record of each kind.
func sampleFrame() []byte {
	recs := []record{
		{kind: kindReset, group: 1, index: 4, term: 2},
		{kind: kindEntry, form: formHasData, group: 1, index: 5, term: 2, data: []byte("five")},
		{kind: kindEntry, group: 1, index: 6, term: 3},
		{kind: kindState, group: 1, index: 4, term: 2, hard: hardState{3, 1, 5}, last: 6},
		{kind: kindRemove, group: 2},
	}
	buf := make([]byte, frameBytes(payloadBytes(recs)))
	encodeFrame(buf, header{logID: 7, segment: 1, frame: 1}, recs)
	return buf
}

// reseal makes the frame's own checksum right, so that the fuzzer gets past it.
func reseal(b []byte) {
	if h, err := decodeHeader(b, int64(len(b))); err == nil {
		binary.LittleEndian.PutUint32(b[12:], crc32.Checksum(b[16:h.tableBytes()], castagnoli))
	}
}

// FuzzFrame: no bytes make the decoder panic or read outside of them, and what it accepts encodes
// to the same frame.
func FuzzFrame(f *testing.F) {
	f.Add(sampleFrame())
	f.Add(sampleFrame()[:headerBytes])
	f.Add(make([]byte, disk.BlockBytes))
	f.Fuzz(func(t *testing.T, b []byte) {
		reseal(b)
		h, err := decodeHeader(b, int64(len(b)))
		if err != nil {
			return
		}
		recs, err := decodeFrame(b, h, nil)
		if err != nil {
			return
		}
		again := make([]byte, frameBytes(payloadBytes(recs)))
		encodeFrame(again, h, recs)
		for i := range recs { // the bytes of a slot that are for later may be anything
			clear(b[headerBytes+slotBytes*i+34:][:6])
		}
		reseal(b)
		if n := headerBytes + int(h.payload); !bytes.Equal(again[:n], b[:n]) {
			t.Fatalf("% x\nencodes again to\n% x", b[:n], again[:n])
		}
	})
}

// FuzzOpen: a log of arbitrary bytes opens, and then works, or gives an error; it never panics.
func FuzzOpen(f *testing.F) {
	f.Add(sampleFrame(), uint16(0))
	f.Add(append(sampleFrame(), sampleFrame()...), uint16(disk.BlockBytes+40))
	f.Add([]byte("garbage"), uint16(7))
	f.Add([]byte{}, uint16(0))
	f.Fuzz(func(t *testing.T, b []byte, flip uint16) {
		if len(b) > small {
			return
		}
		for off := 0; off < len(b); off += disk.BlockBytes {
			reseal(b[off:])
		}
		if int(flip) < len(b) {
			b[flip] ^= 1
		}
		l, err := Open(image{segmentName(1): b, segmentName(2): b}.load(t), Options{SegmentBytes: small}, nil)
		if err != nil {
			return
		}
		defer l.Close()
		for _, id := range l.Groups() {
			g := l.Group(id)
			first, _ := g.FirstIndex()
			last, _ := g.LastIndex()
			if first <= last {
				if _, err := g.Entries(first, last+1, 1<<20); err != nil {
					t.Fatal(err)
				}
			}
		}
		g := l.Group(1 << 40)
		last, _ := g.LastIndex()
		if err := do(l, Append{Group: g, Entries: entries(last+1, last+1, 1, 10)}); err != nil && !errors.Is(err, l.Err()) {
			t.Fatal(err)
		}
	})
}
