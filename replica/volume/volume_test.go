package volume

import (
	"testing"

	"trinas/replica/disk"
)

// testTime is a test's clock: every operation gets the next second.
const testTime = 1_700_000_000_000_000_000

var root = Cred{}

func user(uid uint32, gids ...uint32) Cred {
	c := Cred{UID: uid, GID: uid}
	if len(gids) > 0 {
		c.GID, c.Groups = gids[0], gids[1:]
	}
	return c
}

// rig is one volume and its log: what a group does to it, done by hand.
type rig struct {
	t     testing.TB
	v     *Volume
	index uint64
	term  uint64
	now   int64
	log   [][]byte // entries from index 2 on
}

func newRig(t testing.TB, fs disk.FS) *rig {
	t.Helper()
	if err := Make(fs, Info{ID: 7, Name: "vmstore", Created: testTime}, []byte("conf")); err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, term: 1, now: testTime}
	r.open(fs, Options{})
	return r
}

// open opens the volume and replays the log.
func (r *rig) open(fs disk.FS, opt Options) {
	r.t.Helper()
	if opt.WritebackBytesPerSecond == 0 {
		opt.WritebackBytesPerSecond = 1 << 40
	}
	v, err := Open(fs, opt)
	if err != nil {
		r.t.Fatal(err)
	}
	r.v = v
	r.index, _ = v.Applied()
	r.t.Cleanup(func() { _ = v.Close() })
	for r.index < uint64(len(r.log))+1 {
		r.index++
		if _, err := v.Apply(r.index, r.term, r.log[r.index-2]); err != nil {
			r.t.Fatalf("replay %d: %v", r.index, err)
		}
	}
}

// do applies one mutation. Without a Time it gets the next second.
func (r *rig) do(op Op) Result {
	r.t.Helper()
	if r.now += 1e9; op.Time == 0 {
		op.Time = r.now
	}
	data, err := op.Encode(nil)
	if err != nil {
		r.t.Fatal(err)
	}
	r.index++
	r.log = append(r.log, data)
	res, err := r.v.Apply(r.index, r.term, data)
	if err != nil {
		r.t.Fatal(err)
	}
	return res
}

// ask answers one query.
func (r *rig) ask(op Op) Result {
	r.t.Helper()
	res, err := r.v.Query(&op)
	if err != nil {
		r.t.Fatal(err)
	}
	return res
}

// must is do, of what has to succeed; it gives the file's attributes.
func (r *rig) must(op Op) Attr {
	r.t.Helper()
	res := r.do(op)
	if res.Err != OK {
		r.t.Fatalf("operation %d %q: errno %d", op.Kind, op.Name, res.Err)
	}
	return res.Obj.After
}

func (r *rig) attr(a Attr) Attr {
	r.t.Helper()
	res := r.ask(Op{Kind: GetAttr, File: a.File, Gen: a.Gen})
	if res.Err != OK {
		r.t.Fatalf("file %d: errno %d", a.File, res.Err)
	}
	return res.Obj.After
}

func (r *rig) rootAttr() Attr { return r.attr(Attr{File: RootID, Gen: 1}) }

func (r *rig) checkpoint() uint64 {
	r.t.Helper()
	index, err := r.v.Checkpoint(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return index
}

func (r *rig) digest(objects bool) [32]byte {
	r.t.Helper()
	d, err := r.v.Digest(objects)
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

func p[T any](v T) *T { return &v }

func mode(m uint32) SetAttrs { return SetAttrs{Mode: &m} }

// in starts an operation on a name in a directory.
func in(dir Attr, kind Kind, name string) Op {
	return Op{Kind: kind, File: dir.File, Gen: dir.Gen, Name: name}
}

// on starts an operation on a file.
func on(file Attr, kind Kind) Op { return Op{Kind: kind, File: file.File, Gen: file.Gen} }

func (op Op) as(c Cred) Op { op.Cred = c; return op }

func (op Op) set(s SetAttrs) Op { op.Set = s; return op }

func (op Op) to(dir Attr, name string) Op {
	op.File2, op.Gen2, op.Name2 = dir.File, dir.Gen, name
	return op
}

func (op Op) data(off uint64, b []byte) Op { op.Offset, op.Data = off, b; return op }

func (op Op) read(off uint64, n uint32) Op { op.Offset, op.Count = off, n; return op }

// rootDir names the root directory.
var rootDir = Attr{File: RootID, Gen: 1}
