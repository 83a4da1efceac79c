package volume

import (
	"testing"

	"trinas/replica/disk"
)

// by gives the operation a request id.
func (op Op) by(client uint64, xid uint32) Op {
	op.ID = RequestID{Client: client, XID: xid, Sum: xid * 3}
	return op
}

// TestReplies_Again: an operation that comes again gets its first answer and changes nothing,
// also after a checkpoint and a restart.
func TestReplies_Again(t *testing.T) {
	fs := disk.NewMem(1).FS()
	r := newRig(t, fs)
	d := r.must(in(rootDir, MkDir, "d"))
	ops := []struct {
		op   Op
		want Errno
	}{
		{in(d, Create, "f"), OK},
		{Op{Kind: MkDir, File: d.File, Gen: d.Gen, Name: "sub"}, OK},
		{in(d, MkDir, "sub"), EEXIST},
		{in(d, Rename, "f").to(rootDir, "g"), OK},
		{in(d, Rename, "f").to(rootDir, "g"), ENOENT},
		{in(rootDir, Remove, "g"), OK},
		{in(d, RmDir, "sub"), OK},
		{in(d, Symlink, "l"), ENOENT},
		{on(d, SetAttr).set(mode(0o700)), OK},
	}
	var files []FileID
	for i, o := range ops {
		if o.op.Kind == Create || o.op.Kind == MkDir {
			o.op.How = Guarded
		}
		res := r.do(o.op.by(9, uint32(i)+1))
		if res.Err != o.want {
			t.Fatalf("%d: errno %d, want %d", i, res.Err, o.want)
		}
		files = append(files, res.Obj.After.File)
	}
	for range 2 {
		for i, o := range ops {
			before := r.v.Stat()
			rootBefore, dBefore := r.rootAttr(), r.attr(d)
			res := r.do(o.op.by(9, uint32(i)+1))
			if res.Err != o.want {
				t.Errorf("%d again: errno %d, want %d", i, res.Err, o.want)
			}
			if res.Obj.Known && res.Obj.After.File != files[i] {
				t.Errorf("%d again: file %d, want %d", i, res.Obj.After.File, files[i])
			}
			if r.v.Stat() != before || r.rootAttr() != rootBefore || r.attr(d) != dBefore {
				t.Errorf("%d again: something changed", i)
			}
		}
		r.checkpoint()
		r.open(fs, Options{})
	}
	// Another client, another checksum, or no id at all: new requests.
	if res := r.do(in(rootDir, Remove, "g").by(10, 6)); res.Err != ENOENT {
		t.Errorf("another client: errno %d", res.Err)
	}
	op := in(rootDir, Remove, "g").by(9, 6)
	op.ID.Sum++
	if res := r.do(op); res.Err != ENOENT {
		t.Errorf("another checksum: errno %d", res.Err)
	}
	r.must(in(d, MkDir, "x"))
	if res := r.do(in(d, MkDir, "x")); res.Err != EEXIST {
		t.Errorf("no id: errno %d", res.Err)
	}
}

// TestReplies_Write: a WRITE that comes again late does not undo what came after it.
func TestReplies_Write(t *testing.T) {
	r := newRig(t, disk.NewMem(1).FS())
	f := r.must(in(rootDir, Create, "f"))
	old := on(f, Write).data(0, []byte("old")).by(1, 1)
	r.must(old)
	r.must(on(f, Write).data(0, []byte("new")).by(1, 2))
	r.term = 5
	if res := r.do(old); res.Err != OK || res.Count != 3 || res.Verifier != 5 || res.Obj.After != r.attr(f) {
		t.Errorf("%+v", res)
	}
	if res := r.ask(on(f, Read).read(0, 3)); string(res.Data) != "new" {
		t.Errorf("read %q", res.Data)
	}
}

// TestReplies_Bounds: 256 replies of a client and 1024 clients, the longest quiet one going first.
func TestReplies_Bounds(t *testing.T) {
	r := newReplies()
	id := func(client uint64, xid uint32) RequestID { return RequestID{Client: client, XID: xid} }
	index := uint64(0)
	remember := func(client uint64, xid uint32) {
		index++
		r.remember(id(client, xid), index, reply{err: Errno(xid % 7)})
	}
	for xid := range uint32(1000) {
		remember(1, xid+1)
		if lo := max(1, int(xid)+2-maxReplies); r.find(id(1, uint32(lo)), index) == nil {
			t.Fatalf("after %d, %d is forgotten", xid+1, lo)
		} else if lo > 1 && r.find(id(1, uint32(lo-1)), index) != nil {
			t.Fatalf("after %d, %d is remembered", xid+1, lo-1)
		}
	}
	if n := len(r.clients[1].replies); n != maxReplies {
		t.Errorf("%d replies", n)
	}
	for c := uint64(2); c <= maxClients; c++ {
		remember(c, 1)
	}
	remember(1, 5000) // not the oldest any more
	remember(0, 1)    // a client like any other
	if len(r.clients) != maxClients || r.clients[2] != nil || r.clients[1] == nil || r.clients[0] == nil {
		t.Errorf("%d clients", len(r.clients))
	}
	if cap(r.clients[3].replies) > 4 {
		t.Errorf("a client with one request has room for %d", cap(r.clients[3].replies))
	}
	r.remember(RequestID{}, index+1, reply{})
	if r.find(RequestID{}, index+2) != nil {
		t.Error("the zero id was remembered")
	}
}
