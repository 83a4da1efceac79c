package wal

import (
	"math/bits"

	"go.etcd.io/raft/v3/raftpb"
)

// ref is where an entry's data is: 24 bytes for each entry that the log holds.
type ref struct {
	term     uint64
	segment  uint32
	place    uint32 // of the data, from the start of the segment
	crc      uint32 // of the data
	sizeForm uint32 // length of the data in the low 24 bits, form above
}

const refBytes = 24 // in memory

func newRef(term uint64, segment, place, crc uint32, size int, form uint8) ref {
	return ref{term, segment, place, crc, uint32(size) | uint32(form)<<24}
}

func (r ref) size() int   { return int(r.sizeForm & maxDataBytes) }
func (r ref) form() uint8 { return uint8(r.sizeForm >> 24) }

// position orders refs by their place in the log.
func (r ref) position() uint64 { return uint64(r.segment)<<32 | uint64(r.place) }

// logBytes is the room that the entry takes in the log.
func (r ref) logBytes() int64 { return slotBytes + int64(r.size()) }

// The form of an entry keeps what protobuf tells apart and the data does not say, so that an entry
// read back has the same encoded size as the one that was appended: bits 0 to 6 hold the type plus
// one (0: not set), bit 7 says that Data is set.
const formHasData = 0x80

// formOf gives an entry's form; false when its type does not fit.
func formOf(e *raftpb.Entry) (uint8, bool) {
	form := uint8(0)
	if e.Type != nil {
		if *e.Type < 0 || *e.Type > 126 {
			return 0, false
		}
		form = uint8(*e.Type) + 1
	}
	if e.Data != nil {
		form |= formHasData
	}
	return form, true
}

// entryOf makes the entry that formOf was given. Data is kept, not copied.
func entryOf(index uint64, r ref, data []byte) *raftpb.Entry {
	e := &raftpb.Entry{Term: new(r.term), Index: new(index)}
	if t := r.form() &^ formHasData; t != 0 {
		e.Type = raftpb.EntryType(t - 1).Enum()
	}
	if r.form()&formHasData != 0 {
		e.Data = data
	}
	return e
}

// protoBytes is what proto.Size gives for the entry, without having it: the unit of the limit
// that raft.Storage's Entries obeys.
func (r ref) protoBytes(index uint64) uint64 {
	n := 2 + varintBytes(r.term) + varintBytes(index)
	if r.form()&^formHasData != 0 {
		n += 2 // types are below 128: one byte
	}
	if r.form()&formHasData != 0 {
		n += 1 + varintBytes(uint64(r.size())) + uint64(r.size())
	}
	return n
}

func varintBytes(v uint64) uint64 { return uint64(bits.Len64(v|1)+6) / 7 }
