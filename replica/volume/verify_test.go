package volume

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"trinas/replica/disk"
)

// compared applies one entry that compares and gives what it found.
func (r *rig) compared(op Op) Digest {
	r.t.Helper()
	if res := r.do(op); res.Err != OK {
		r.t.Fatalf("errno %d", res.Err)
	}
	d, err := r.v.Compared(r.t.Context(), r.index)
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

// verifyAll digests every extent.
func (r *rig) verifyAll() (parts []Part) {
	r.t.Helper()
	op := Op{Kind: VerifyRange, File: RootID, Count: MaxVerifyBytes}
	for {
		d := r.compared(op)
		if d.Unsettled {
			r.t.Fatal("not settled")
		}
		parts = append(parts, d.Parts...)
		if d.Next == 0 {
			return parts
		}
		op.File, op.Offset = d.Next, d.NextOffset
	}
}

// differing gives the parts of two replicas that are not the same.
func differing(a, b []Part) (out []Part) {
	for i := range a {
		if i >= len(b) || a[i].State != b[i].State || !bytes.Equal(a[i].Sum, b[i].Sum) || a[i].File != b[i].File || a[i].Offset != b[i].Offset {
			out = append(out, a[i])
		}
	}
	return out
}

// follow applies what other has applied and r has not.
func (r *rig) follow(other *rig) {
	r.t.Helper()
	for r.index < other.index {
		r.index++
		r.log = append(r.log, other.log[r.index-2])
		if _, err := r.v.Apply(r.index, r.term, r.log[r.index-2]); err != nil {
			r.t.Fatal(err)
		}
	}
}

// Goal: two replicas that have applied the same entries digest the same, at every step of any
// history; each extent comes once, within the bounds of an entry.
func TestVerify_Same(t *testing.T) {
	for seed := range uint64(6) {
		a, b := newRig(t, disk.NewMem(seed).FS()), newRig(t, disk.OS(t.TempDir()))
		a.v.Settle(0)
		b.v.Settle(0)
		play := newPlayer(seed)
		for range 30 {
			for range 20 {
				op := play.next()
				play.saw(op, a.do(op))
			}
			parts := a.verifyAll()
			from := b.index
			b.follow(a)
			var got []Part
			for index := from + 1; index <= b.index; index++ {
				if d, err := b.v.Compared(t.Context(), index); err == nil {
					got = append(got, d.Parts...)
				}
			}
			if len(got) != len(parts) || len(differing(parts, got)) > 0 {
				t.Fatalf("seed %d: %d and %d parts, these differ: %+v", seed, len(parts), len(got), differing(parts, got))
			}
			ta, tb := a.compared(Op{Kind: VerifyTable, File: RootID, Count: 5}), Digest{}
			b.follow(a)
			if tb, _ = b.v.Compared(t.Context(), b.index); !bytes.Equal(ta.Parts[0].Sum, tb.Parts[0].Sum) || ta.Next != tb.Next {
				t.Fatalf("seed %d: tables differ", seed)
			}
		}
	}
}

// damages are what can happen to an object behind the agent.
var damages = map[string]func(t *testing.T, path string){
	"a flipped bit": func(t *testing.T, path string) {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		b := make([]byte, 1)
		if _, err := f.ReadAt(b, 70_000); err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{b[0] ^ 0x10}, 70_000); err != nil {
			t.Fatal(err)
		}
	},
	"cut short":          func(t *testing.T, path string) { must(t, os.Truncate(path, 50_000)) },
	"removed":            func(t *testing.T, path string) { must(t, os.Remove(path)) },
	"a hole filled":      func(t *testing.T, path string) { poke(t, path, 512<<10, []byte("junk")) },
	"zeros in the place": func(t *testing.T, path string) { poke(t, path, 4096, make([]byte, 8192)) },
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func poke(t *testing.T, path string, off int64, p []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	_, err = f.WriteAt(p, off)
	must(t, err)
}

// Goal: whatever happens to an object on a real disk behind a running replica is found, and repaired
// by a Repair with the bytes of another, holes included; a Repair for another node changes nothing.
func TestVerify_DamageAndRepair(t *testing.T) {
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			good, bad := newRig(t, disk.NewMem(1).FS()), newRig(t, disk.OS(dir))
			bad.v.opt.Node = 3
			good.v.opt.Node = 1
			f := good.must(in(rootDir, Create, "f"))
			good.must(on(f, Write).data(0, bytes.Repeat([]byte("image!! "), 25<<10)))
			good.must(on(f, Write).data(1<<20, bytes.Repeat([]byte("second. "), 25<<10)))
			bad.follow(good)
			good.v.Settle(0)
			bad.v.Settle(0)
			path := filepath.Join(dir, objectPath(f.File))
			damage(t, path)

			want := good.verifyAll()
			index := good.index - 1 // of the first part: two entries were needed, one each
			bad.follow(good)
			first, _ := bad.v.Compared(t.Context(), index)
			second, _ := bad.v.Compared(t.Context(), index+1)
			got := append(first.Parts, second.Parts...)
			found := differing(want, got)
			if len(found) == 0 || found[0].Offset != 0 {
				t.Fatalf("found %+v", found)
			}
			before := bad.digestParts(t)
			good.repair(t, found, index+1, 2)
			bad.follow(good)
			if again := bad.digestParts(t); len(differing(before, again)) > 0 {
				t.Error("a repair for another node changed something")
			}
			good.repair(t, found, index+1, 3)
			bad.follow(good)
			if again := bad.digestParts(t); len(differing(want, again)) > 0 {
				t.Errorf("after the repair these differ: %+v", differing(want, again))
			}
			bad.checkpoint()
			info, err := bad.v.fs.Stat(objectPath(f.File))
			if err != nil || info.AllocatedBytes > 416<<10 {
				t.Errorf("holes: %+v, %v", info, err)
			}
		})
	}
}

// digestParts gives the object's parts as they are now, without an entry.
func (r *rig) digestParts(t *testing.T) []Part {
	t.Helper()
	c := &comparison{done: make(chan struct{})}
	r.v.choose(c, &Op{File: RootID, Count: 64 << 20})
	r.v.digestParts(c)
	return c.digest.Parts
}

// repair proposes what is found, with this replica's bytes.
func (r *rig) repair(t *testing.T, found []Part, index uint64, node uint16) {
	t.Helper()
	for _, p := range found {
		b, err := r.v.ReadExtent(p.File, p.Offset)
		must(t, err)
		if res := r.do(Op{Kind: Repair, File: p.File, Offset: p.Offset, Verifier: index, Nodes: []uint16{node}, Data: b}); res.Err != OK {
			t.Fatalf("repair: errno %d", res.Err)
		}
	}
}

// Goal: a repair never undoes a write: one that came after the digest makes it void, the same on
// every replica; so does a truncation, and a removal.
func TestRepair_Void(t *testing.T) {
	for name, change := range map[string]func(f Attr) Op{
		"write":    func(f Attr) Op { return on(f, Write).data(100, []byte("new")) },
		"truncate": func(f Attr) Op { return on(f, SetAttr).set(SetAttrs{Size: p(uint64(10))}) },
		"remove":   func(Attr) Op { return in(rootDir, Remove, "f") },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, disk.NewMem(1).FS())
			r.v.Settle(0)
			f := r.must(in(rootDir, Create, "f"))
			r.must(on(f, Write).data(0, bytes.Repeat([]byte{7}, 1<<20)))
			r.verifyAll()
			index := r.index
			old, err := r.v.ReadExtent(f.File, 0)
			must(t, err)
			r.do(change(f))
			after := r.digest(true)
			res := r.do(Op{Kind: Repair, File: f.File, Verifier: index, Data: old})
			if res.Err != ENOTSYNC && res.Err != ESTALE {
				t.Errorf("errno %d", res.Err)
			}
			r.index-- // the digest covers the index
			r.v.applied--
			if r.digest(true) != after {
				t.Error("an old repair changed the file")
			}
		})
	}
}

// Goal: a digest is of the bytes at its entry, whatever comes after: the disk is slow in reading, and
// entries that change the extent wait, others do not.
func TestVerify_AtOnePlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := disk.NewMem(1)
		r := newRig(t, mem.FS())
		r.v.Settle(0)
		f, other := r.must(in(rootDir, Create, "f")), r.must(in(rootDir, Create, "other"))
		for i, change := range []Op{
			on(f, Write).data(0, []byte("changed")),
			on(f, SetAttr).set(SetAttrs{Size: p(uint64(1))}),
			in(rootDir, Remove, "f"),
		} {
			r.must(on(f, Write).data(0, bytes.Repeat([]byte{9}, 100<<10)))
			want := r.digestParts(t)
			hold := make(chan struct{})
			mem.OnOp(func(op, name string, _, _ int64) error {
				if op == "read" && strings.HasPrefix(name, objectsDir) {
					<-hold
				}
				return nil
			})
			r.do(Op{Kind: VerifyRange, File: f.File, Count: 1})
			index := r.index
			r.must(on(other, Write).data(0, []byte("goes on"))) // would hang for ever
			r.must(on(f, Write).data(uint64(5+i)<<20, []byte("goes on")))
			done := make(chan struct{})
			go func() {
				r.do(change)
				_ = r.v.Tidy()
				close(done)
			}()
			synctest.Wait()
			select {
			case <-done:
				t.Error("an entry changed what was being read")
			default:
			}
			close(hold)
			<-done
			mem.OnOp(nil)
			d, err := r.v.Compared(t.Context(), index)
			if err != nil || len(differing(want[:1], d.Parts)) > 0 {
				t.Errorf("%+v, %v", d, err)
			}
		}
	})
}

// Goal: a block that cannot be read is said to be so, and breaks nothing; a Repair writes it anew.
func TestVerify_Unreadable(t *testing.T) {
	mem := disk.NewMem(1)
	r := newRig(t, mem.FS())
	r.v.Settle(0)
	f := r.must(in(rootDir, Create, "f"))
	r.must(on(f, Write).data(0, []byte("hello")))
	good, err := r.v.ReadExtent(f.File, 0)
	must(t, err)
	bad := true
	mem.OnOp(func(op, name string, _, _ int64) error {
		if strings.HasPrefix(name, objectsDir) && op == "write" {
			bad = false
		}
		if strings.HasPrefix(name, objectsDir) && op == "read" && bad {
			return syscall.EIO
		}
		return nil
	})
	if parts := r.verifyAll(); parts[0].State != PartUnreadable || !strings.Contains(parts[0].Detail, objectPath(f.File)) {
		t.Errorf("%+v", parts)
	}
	if res := r.do(Op{Kind: Repair, File: f.File, Verifier: r.index, Data: good[:5]}); res.Err != OK {
		t.Fatal(res.Err)
	}
	if parts := r.verifyAll(); parts[0].State != PartRead {
		t.Errorf("%+v", parts)
	}
}

// Goal: while the log is replayed over objects that may be newer, nothing is digested; the note comes
// back from checkpoint and log, and one that is damaged is told.
func TestVerify_Replay(t *testing.T) {
	fs := disk.NewMem(1).FS()
	r := newRig(t, fs)
	f := r.must(in(rootDir, Create, "f"))
	r.must(on(f, Write).data(0, []byte("hello")))
	if d := r.compared(Op{Kind: VerifyRange, File: RootID, Count: 1}); !d.Unsettled || len(d.Parts) != 1 || d.Parts[0].Sum != nil {
		t.Errorf("before it is settled: %+v", d)
	}
	r.do(Op{Kind: VerifyNote, Data: []byte("one")})
	r.checkpoint()
	must(t, r.v.Close())
	r.open(fs, Options{})
	if string(r.v.Note()) != "one" {
		t.Errorf("note %q", r.v.Note())
	}
	r.do(Op{Kind: VerifyNote, Data: []byte("two, longer")})
	must(t, r.v.Close())
	r.open(fs, Options{})
	if string(r.v.Note()) != "two, longer" {
		t.Errorf("note %q after a replay", r.v.Note())
	}
	r.do(Op{Kind: VerifyNote, Data: []byte("3")})
	r.checkpoint()
	must(t, r.v.Close())
	r.open(fs, Options{})
	if string(r.v.Note()) != "3" {
		t.Errorf("note %q", r.v.Note())
	}
	must(t, r.v.Close())
	file, err := fs.Open(noteFile, disk.ReadWrite)
	must(t, err)
	_, err = file.WriteAt([]byte("4"), 4)
	must(t, err)
	r.open(fs, Options{})
	if r.v.Note() != nil {
		t.Errorf("a damaged note counts: %q", r.v.Note())
	}
}
