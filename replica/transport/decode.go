package transport

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

var errGarbage = errors.New("garbage in a frame")

// box is a decoded message with the memory that its fields point to: one allocation.
type box struct {
	m     raftpb.Message
	kind  raftpb.MessageType
	words [8]uint64
	no    bool
	one   [1]*raftpb.Entry
}

// entryBox is the same for an entry.
type entryBox struct {
	e           raftpb.Entry
	kind        raftpb.EntryType
	term, index uint64
}

// frameLength checks the length at the start of a frame; it counts what follows the length.
func frameLength(b []byte, atLeast int) (int, error) {
	n := int64(binary.LittleEndian.Uint32(b))
	if n < int64(atLeast-lengthBytes) || n > MaxFrameBytes-lengthBytes {
		return 0, fmt.Errorf("%w: length %d", errGarbage, n)
	}
	return int(n), nil
}

// readRaft reads one frame of a Raft lane and returns its length too. Entry data is read into
// fresh memory, one piece per entry.
func readRaft(r *bufio.Reader) (Message, int, error) {
	head, err := r.Peek(raftHead)
	if err != nil {
		return Message{}, 0, err
	}
	length, err := frameLength(head, raftHead)
	if err != nil {
		return Message{}, 0, err
	}
	kind := raftpb.MessageType(head[5])
	if _, ok := laneOf(kind); !ok {
		return Message{}, 0, fmt.Errorf("%w: Raft message of type %d", errGarbage, kind)
	}
	var m Message
	switch head[4] {
	case kindRaft:
		m, err = readFields(r, kind, length+lengthBytes)
	case kindProto:
		m, err = readProto(r, kind, length+lengthBytes)
	default:
		err = fmt.Errorf("%w: kind %d on a Raft lane", errGarbage, head[4])
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return m, length + lengthBytes, err
}

func readFields(r *bufio.Reader, kind raftpb.MessageType, left int) (Message, error) {
	head, err := r.Peek(raftHead)
	if err != nil {
		return Message{}, err
	}
	mask := binary.LittleEndian.Uint16(head[6:])
	fixed := fixedBytes(mask)
	if mask&^uint16(allFields) != 0 || fixed > left {
		return Message{}, fmt.Errorf("%w: mask %#x, length %d", errGarbage, mask, left)
	}
	if head, err = r.Peek(fixed); err != nil {
		return Message{}, err
	}
	in := &box{kind: kind}
	m := Message{Group: binary.LittleEndian.Uint64(head[8:]), Raft: &in.m, Slow: mask&isSlow != 0}
	in.m.Type = &in.kind
	rest := head[raftHead:]
	word := func(bit uint16) (uint64, bool) {
		if mask&bit == 0 {
			return 0, false
		}
		v := binary.LittleEndian.Uint64(rest)
		rest = rest[8:]
		return v, true
	}
	fields := [...]**uint64{&in.m.To, &in.m.From, &in.m.Term, &in.m.LogTerm,
		&in.m.Index, &in.m.Commit, &in.m.Vote, &in.m.RejectHint}
	for i, field := range fields {
		if v, ok := word(hasTo << i); ok {
			in.words[i] = v
			*field = &in.words[i]
		}
	}
	if v, ok := word(hasRound); ok {
		m.Round = int64(v)
	}
	if v, ok := word(hasFree); ok {
		m.Free = v
	}
	if mask&hasReject != 0 {
		in.no = mask&isReject != 0
		in.m.Reject = &in.no
	}
	var contextLength, entries uint32
	if mask&hasContext != 0 {
		contextLength, rest = binary.LittleEndian.Uint32(rest), rest[4:]
	}
	if mask&hasEntries != 0 {
		entries = binary.LittleEndian.Uint32(rest)
	}
	if _, err := r.Discard(fixed); err != nil {
		return Message{}, err
	}
	left -= fixed

	if int64(contextLength) > int64(left) {
		return Message{}, fmt.Errorf("%w: context of %d bytes", errGarbage, contextLength)
	}
	if mask&hasContext != 0 {
		in.m.Context = make([]byte, contextLength)
		if _, err := io.ReadFull(r, in.m.Context); err != nil {
			return Message{}, err
		}
		left -= int(contextLength)
	}
	if int64(entries)*entryHead > int64(left) {
		return Message{}, fmt.Errorf("%w: %d entries in %d bytes", errGarbage, entries, left)
	}
	if left, err = readEntries(r, in, int(entries), left); err != nil {
		return Message{}, err
	}
	if left != 0 {
		return Message{}, fmt.Errorf("%w: %d bytes after the last entry", errGarbage, left)
	}
	return m, nil
}

// entryChunk is how many entries share an allocation: one that is kept keeps the others of its
// chunk, and a count that no entries follow costs no memory.
const entryChunk = 256

// readEntries reads count entries out of left bytes and returns how many are left after them.
func readEntries(r *bufio.Reader, in *box, count, left int) (int, error) {
	if count == 1 {
		in.m.Entries = in.one[:0]
	} else if count > 0 {
		in.m.Entries = make([]*raftpb.Entry, 0, min(count, entryChunk))
	}
	var boxes []entryBox
	for i := range count {
		if len(boxes) == 0 {
			boxes = make([]entryBox, min(count-i, entryChunk))
		}
		head, err := r.Peek(entryHead)
		if err != nil {
			return 0, err
		}
		flags := head[0]
		length := int64(binary.LittleEndian.Uint32(head[4:]))
		left -= entryHead
		if flags&^byte(allEntryFields) != 0 || length > int64(left) || length > 0 && flags&entryHasData == 0 {
			return 0, fmt.Errorf("%w: entry with flags %#x and %d bytes", errGarbage, flags, length)
		}
		b := &boxes[0]
		boxes = boxes[1:]
		in.m.Entries = append(in.m.Entries, &b.e)
		if flags&entryHasType != 0 {
			b.kind = raftpb.EntryType(head[1])
			b.e.Type = &b.kind
		}
		if flags&entryHasTerm != 0 {
			b.term = binary.LittleEndian.Uint64(head[8:])
			b.e.Term = &b.term
		}
		if flags&entryHasIndex != 0 {
			b.index = binary.LittleEndian.Uint64(head[16:])
			b.e.Index = &b.index
		}
		if _, err := r.Discard(entryHead); err != nil {
			return 0, err
		}
		if flags&entryHasData != 0 {
			b.e.Data = make([]byte, length)
			if _, err := io.ReadFull(r, b.e.Data); err != nil {
				return 0, err
			}
		}
		left -= int(length)
		if i+1 < count && left < entryHead {
			return 0, fmt.Errorf("%w: entry %d of %d is cut off", errGarbage, i+2, count)
		}
	}
	return left, nil
}

func readProto(r *bufio.Reader, kind raftpb.MessageType, length int) (Message, error) {
	if length < protoHead {
		return Message{}, fmt.Errorf("%w: length %d", errGarbage, length)
	}
	head, err := r.Peek(protoHead)
	if err != nil {
		return Message{}, err
	}
	m := Message{
		Group: binary.LittleEndian.Uint64(head[8:]),
		Round: int64(binary.LittleEndian.Uint64(head[16:])),
		Free:  binary.LittleEndian.Uint64(head[24:]),
		Raft:  new(raftpb.Message),
	}
	if _, err := r.Discard(protoHead); err != nil {
		return Message{}, err
	}
	body := make([]byte, length-protoHead)
	if _, err := io.ReadFull(r, body); err != nil {
		return Message{}, err
	}
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(body, m.Raft); err != nil {
		return Message{}, fmt.Errorf("%w: %w", errGarbage, err)
	}
	if m.Raft.GetType() != kind {
		return Message{}, fmt.Errorf("%w: %s in a frame for %s", errGarbage, m.Raft.GetType(), kind)
	}
	return m, nil
}
