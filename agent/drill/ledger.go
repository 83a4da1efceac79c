package drill

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
)

const blockMagic = 0x7472696e61730001

// EncodeBlock fills b, whose length is a multiple of 8, at least 32:
//
//	| magic 8 | slot 8 | sequence 8 | noise made from the sequence | 4 zeros | crc32c 4 over all before it |
func EncodeBlock(b []byte, slot, sequence uint64) {
	binary.LittleEndian.PutUint64(b[0:], blockMagic)
	binary.LittleEndian.PutUint64(b[8:], slot)
	binary.LittleEndian.PutUint64(b[16:], sequence)
	noise := rand.NewPCG(sequence, blockMagic)
	for i := 24; i+8 <= len(b)-8; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], noise.Uint64())
	}
	clear(b[len(b)-8:])
	binary.LittleEndian.PutUint32(b[len(b)-4:], checksum(b))
}

// checksum is over all of a block but its last 4 bytes.
func checksum(b []byte) uint32 {
	return crc32.Checksum(b[:len(b)-4], crc32.MakeTable(crc32.Castagnoli))
}

// DecodeBlock returns what a block says it is; ok is false when it is not whole.
func DecodeBlock(b []byte) (slot, sequence uint64, ok bool) {
	if len(b) < 32 || binary.LittleEndian.Uint64(b) != blockMagic || binary.LittleEndian.Uint32(b[len(b)-4:]) != checksum(b) {
		return 0, 0, false
	}
	return binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:]), true
}

// Ledger remembers what was written to a file of numbered slots, and what of it was acknowledged.
// Sequence numbers count from 1. Each slot is written in turn, round and round.
type Ledger struct {
	Slots        uint64 `json:"slots"`
	Begun        uint64 `json:"begun"`        // the highest sequence that may have reached the file
	Acknowledged uint64 `json:"acknowledged"` // every sequence up to here was acknowledged
}

// Next is the block to write after all those acknowledged. It may be asked for again, to write
// it again, until Acknowledge.
func (l *Ledger) Next() (slot, sequence uint64) {
	l.Begun = l.Acknowledged + 1
	return (l.Begun - 1) % l.Slots, l.Begun
}

// Acknowledge notes that the block of the last Next is durable.
func (l *Ledger) Acknowledge() { l.Acknowledged = l.Begun }

// Expect is the newest sequence that was acknowledged for a slot, 0 when none was.
func (l *Ledger) Expect(slot uint64) uint64 {
	if l.Acknowledged < slot+1 {
		return 0
	}
	return slot + 1 + (l.Acknowledged-slot-1)/l.Slots*l.Slots
}

// Losses is what checks of files have found.
type Losses struct {
	Lost    int    `json:"lost"`            // slots that hold less than was acknowledged
	Damaged int    `json:"damaged"`         // slots that hold what was never written there
	First   string `json:"first,omitempty"` // what is wrong with the first of them
}

// Check compares one slot's bytes with the ledger. A slot may hold the one write that was begun
// and not acknowledged.
func (l *Ledger) Check(slot uint64, b []byte, found *Losses) {
	want := l.Expect(slot)
	gotSlot, got, ok := DecodeBlock(b)
	var what string
	switch {
	case ok && gotSlot == slot && (got == want || got == l.Begun && (got-1)%l.Slots == slot):
		return
	case want == 0 && blank(b):
		return
	case ok && gotSlot == slot && got < want, blank(b):
		found.Lost++
		what = fmt.Sprintf("slot %d: write %d was acknowledged, write %d is there", slot, want, got)
	default:
		found.Damaged++
		what = fmt.Sprintf("slot %d: write %d was acknowledged, there is slot %d write %d, checksum right: %t",
			slot, want, gotSlot, got, ok)
	}
	if found.First == "" {
		found.First = what
	}
}

// blank reports whether b reads as never written: nothing, or zeros.
func blank(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

// Shows checks what a read of a slot has shown that began when least was the newest acknowledged
// write there: that or a newer one, up to the one begun last.
func (l *Ledger) Shows(slot, least uint64, b []byte) error {
	gotSlot, got, ok := DecodeBlock(b)
	switch {
	case least == 0 && blank(b):
		return nil
	case !ok || gotSlot != slot || (got-1)%l.Slots != slot || got > l.Begun:
		return fmt.Errorf("slot %d shows slot %d write %d, checksum right: %t; write %d was acknowledged", slot, gotSlot, got, ok, least)
	case got < least:
		return fmt.Errorf("slot %d shows write %d: stale, write %d was acknowledged before the read", slot, got, least)
	}
	return nil
}
