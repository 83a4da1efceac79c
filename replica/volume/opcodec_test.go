package volume

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
)

// sampleOps has one operation of each kind, with every field set that counts.
func sampleOps() []Op {
	groups := make([]uint32, maxGroups)
	for i := range groups {
		groups[i] = uint32(i) * 1e8
	}
	base := Op{
		Time: -5, Node: 65535, ID: RequestID{1 << 63, 2, 3},
		Cred: Cred{UID: 4, GID: 5, Groups: groups}, File: 6, Gen: 7,
	}
	sets := SetAttrs{
		Mode: p(uint32(0o7777)), UID: p(uint32(1)), GID: p(uint32(2)), Size: p(uint64(1 << 40)),
		AtimeHow: TimeClient, MtimeHow: TimeServer, Atime: -1, Mtime: 1 << 62,
	}
	var ops []Op
	add := func(kind Kind, change func(*Op)) {
		op := base
		op.Kind = kind
		if change != nil {
			change(&op)
		}
		ops = append(ops, op)
	}
	add(GetAttr, nil)
	add(Lookup, func(op *Op) { op.Name = "name" })
	add(Access, func(op *Op) { op.Count = 63 })
	add(ReadLink, nil)
	add(Read, func(op *Op) { op.Offset, op.Count = 1<<63, 1<<20 })
	add(ReadDir, func(op *Op) { op.Offset, op.Count, op.Size = 9, 10, 11 })
	add(FSStat, nil)
	add(Commit, nil)
	add(SetAttr, func(op *Op) { op.Set, op.Guard = sets, p(int64(-9)) })
	add(SetAttr, nil)
	add(Write, func(op *Op) { op.Offset, op.Data = 12, []byte("payload") })
	add(Create, func(op *Op) { op.Name, op.How, op.Set, op.Verifier = strings.Repeat("x", maxName), Exclusive, sets, 99 })
	add(MkDir, func(op *Op) { op.Name, op.Set = "", sets })
	add(Symlink, func(op *Op) { op.Name, op.Target, op.Set = "l", "../t", sets })
	add(MkNod, func(op *Op) { op.Name, op.Type, op.Rdev, op.Set = "n", Block, [2]uint32{8, 1}, sets })
	add(Remove, func(op *Op) { op.Name = "r" })
	add(RmDir, func(op *Op) { op.Name = "d" })
	add(Rename, func(op *Op) { op.Name, op.File2, op.Gen2, op.Name2 = "a", 20, 21, "b" })
	add(Link, func(op *Op) { op.File2, op.Gen2, op.Name2 = 20, 21, "b" })
	add(Activate, func(op *Op) { op.Nodes = []uint16{0, 1, 65535} })
	add(Activate, nil)
	add(Deactivate, nil)
	add(VerifyRange, func(op *Op) { op.Offset, op.Count = 1<<40, 1<<20 })
	add(VerifyTable, func(op *Op) { op.Count = 1024 })
	add(VerifyNote, func(op *Op) { op.Data = []byte("{}") })
	add(Repair, func(op *Op) {
		op.Offset, op.Verifier, op.Nodes, op.Data = 1<<20, 77, []uint16{2, 3}, []byte("good bytes")
	})
	return ops
}

// TestOp_RoundTrip: every kind comes back as it went, and no shorter, longer or newer one does.
func TestOp_RoundTrip(t *testing.T) {
	for _, op := range sampleOps() {
		b, err := op.Encode([]byte("before"))
		if err != nil {
			t.Fatal(err)
		}
		b = b[len("before"):]
		var got Op
		if err := got.Decode(b); err != nil {
			t.Fatalf("kind %d: %v", op.Kind, err)
		}
		if !reflect.DeepEqual(got, op) {
			t.Errorf("kind %d:\n got %+v\nwant %+v", op.Kind, got, op)
		}
		if PeekKind(b) != op.Kind || PeekID(b) != op.ID {
			t.Errorf("kind %d: peeked %d, %+v", op.Kind, PeekKind(b), PeekID(b))
		}
		for n := range b {
			if err := got.Decode(b[:n]); err == nil {
				t.Errorf("kind %d: decoded %d of %d bytes", op.Kind, n, len(b))
			}
		}
		if err := got.Decode(append(bytes.Clone(b), 0)); err == nil {
			t.Errorf("kind %d: decoded with a byte too many", op.Kind)
		}
		b[0]++
		if err := got.Decode(b); err == nil || !strings.Contains(err.Error(), "upgrade") {
			t.Errorf("kind %d: newer version: %v", op.Kind, err)
		}
	}
}

// TestOp_Room: a Write's header goes before its payload, which does not move.
func TestOp_Room(t *testing.T) {
	op := Op{Kind: Write, Cred: Cred{Groups: make([]uint32, maxGroups)}}
	plain := op
	op.Room = make([]byte, MaxHeaderBytes+100)
	op.Data = op.Room[MaxHeaderBytes:]
	for i := range op.Data {
		op.Data[i] = byte(i)
	}
	b, err := op.Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	if &b[len(b)-1] != &op.Data[99] || len(b) != MaxHeaderBytes+100 {
		t.Errorf("not in place: %d bytes", len(b))
	}
	plain.Data = op.Data
	if want, _ := plain.Encode(nil); !bytes.Equal(b, want) {
		t.Error("in place, it is another operation")
	}
	if MaxHeaderBytes > 160 {
		t.Errorf("the header takes %d bytes", MaxHeaderBytes)
	}
	if n := testing.AllocsPerRun(100, func() { b, err = op.Encode(nil) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	for _, room := range [][]byte{op.Room[1:], op.Room[:50], make([]byte, 1000)} {
		bad := op
		bad.Room = room
		if got, err := bad.Encode(nil); err != nil || !bytes.Equal(got, b) {
			t.Errorf("with no room of its own: %d bytes, %v", len(got), err)
		}
	}
}

func TestOp_Stamp(t *testing.T) {
	op := sampleOps()[10]
	b, _ := op.Encode(nil)
	StampTime(b, 1234567890123456789)
	var got Op
	if err := got.Decode(b); err != nil || got.Time != 1234567890123456789 {
		t.Errorf("%+v, %v", got, err)
	}
	StampTime(nil, 1) // no panic on what is no operation
	if PeekKind(b[:20]) != 0 || PeekID(nil) != (RequestID{}) {
		t.Error("peeked into what is no operation")
	}
}

func TestOp_Limits(t *testing.T) {
	for name, op := range map[string]Op{
		"kind":   {Kind: 9},
		"groups": {Kind: GetAttr, Cred: Cred{Groups: make([]uint32, 17)}},
		"name":   {Kind: Lookup, Name: strings.Repeat("x", maxName+1)},
		"data":   {Kind: Write, Data: make([]byte, MaxIOBytes+1)},
		"how":    {Kind: Create, How: 3},
		"time":   {Kind: SetAttr, Set: SetAttrs{AtimeHow: 3}},
	} {
		if _, err := op.Encode(nil); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
}

// FuzzOp_Decode: no input panics, and what decodes encodes to the same bytes, but for values of
// attributes that are not set.
func FuzzOp_Decode(f *testing.F) {
	for _, op := range sampleOps() {
		b, _ := op.Encode(nil)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var op, again Op
		if op.Decode(b) != nil {
			return
		}
		c, err := op.Encode(nil)
		if err != nil || len(c) != len(b) {
			t.Fatalf("decoded %d bytes, encodes to %d: %v", len(b), len(c), err)
		}
		if err := again.Decode(c); err != nil || !reflect.DeepEqual(op, again) {
			t.Fatalf("%v\n%+v\n%+v", err, op, again)
		}
	})
}
