package main

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
)

// blockBytes is the size of one of the writer's blocks.
const blockBytes = 4096

const blockMagic = 0x7472696e61730001

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encodeBlock fills b, blockBytes long:
//
//	| magic 8 | slot 8 | sequence 8 | noise made from the sequence | crc32c 4 over all before it |
func encodeBlock(b []byte, slot, sequence uint64) {
	binary.LittleEndian.PutUint64(b[0:], blockMagic)
	binary.LittleEndian.PutUint64(b[8:], slot)
	binary.LittleEndian.PutUint64(b[16:], sequence)
	noise := rand.NewPCG(sequence, blockMagic)
	for i := 24; i+8 <= blockBytes-8; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], noise.Uint64())
	}
	clear(b[blockBytes-8:])
	binary.LittleEndian.PutUint32(b[blockBytes-4:], crc32.Checksum(b[:blockBytes-4], castagnoli))
}

// decodeBlock returns what a block says it is; ok is false when it is not whole.
func decodeBlock(b []byte) (slot, sequence uint64, ok bool) {
	if len(b) != blockBytes || binary.LittleEndian.Uint64(b) != blockMagic ||
		binary.LittleEndian.Uint32(b[blockBytes-4:]) != crc32.Checksum(b[:blockBytes-4], castagnoli) {
		return 0, 0, false
	}
	return binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:]), true
}

// ledger remembers what was written to a file of numbered slots, and what of it was acknowledged.
// Sequence numbers count from 1. Each slot is written in turn, round and round.
type ledger struct {
	slots        uint64
	begun        uint64 // the highest sequence that may have reached the file
	acknowledged uint64 // every sequence up to here was acknowledged
}

// next is the block to write after all those acknowledged. It may be asked for again, to write
// it again, until acknowledge.
func (l *ledger) next() (slot, sequence uint64) {
	l.begun = l.acknowledged + 1
	return (l.begun - 1) % l.slots, l.begun
}

func (l *ledger) acknowledge() { l.acknowledged = l.begun }

// expect is the newest sequence that was acknowledged for a slot, 0 when none was.
func (l *ledger) expect(slot uint64) uint64 {
	if l.acknowledged < slot+1 {
		return 0
	}
	return slot + 1 + (l.acknowledged-slot-1)/l.slots*l.slots
}

// losses is what a check of the file has found.
type losses struct {
	lost    int // slots that hold less than was acknowledged
	damaged int // slots that hold what was never written there
	first   string
}

// check compares one slot's bytes with the ledger. A slot may hold the one write that was begun
// and not acknowledged.
func (l *ledger) check(slot uint64, b []byte, found *losses) {
	want := l.expect(slot)
	gotSlot, got, ok := decodeBlock(b)
	var what string
	switch {
	case ok && gotSlot == slot && (got == want || got == l.begun && (got-1)%l.slots == slot):
		return
	case want == 0 && blank(b):
		return
	case ok && gotSlot == slot && got < want, blank(b):
		found.lost++
		what = fmt.Sprintf("slot %d: write %d was acknowledged, write %d is there", slot, want, got)
	default:
		found.damaged++
		what = fmt.Sprintf("slot %d: write %d was acknowledged, there is slot %d write %d, checksum right: %t",
			slot, want, gotSlot, got, ok)
	}
	if found.first == "" {
		found.first = what
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
