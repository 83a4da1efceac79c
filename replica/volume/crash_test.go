package volume

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"trinas/replica/disk"
)

// player makes random operations that mostly succeed.
type player struct {
	rng   *rand.Rand
	dirs  []Attr
	files []Attr
	xid   uint32
	last  Op
}

func newPlayer(seed uint64) *player {
	return &player{rng: rand.New(rand.NewPCG(seed, 1)), dirs: []Attr{rootDir}}
}

func (p *player) name() string { return fmt.Sprintf("n%d", p.rng.IntN(12)) }

func (p *player) dir() Attr { return p.dirs[p.rng.IntN(len(p.dirs))] }

func (p *player) next() Op {
	p.xid++
	if p.xid > 1 && p.rng.IntN(20) == 0 {
		return p.last // a retransmission
	}
	p.last = p.pick().by(uint64(p.rng.IntN(3)), p.xid)
	return p.last
}

func (p *player) pick() Op {
	if len(p.files) > 0 && p.rng.IntN(10) < 6 {
		f := p.files[p.rng.IntN(len(p.files))]
		switch p.rng.IntN(8) {
		case 0:
			size := p.rng.Uint64N(3 << 19)
			return on(f, SetAttr).set(SetAttrs{Size: &size})
		case 1:
			return on(f, Link).to(p.dir(), p.name())
		case 2:
			op := on(f, Write).data(p.rng.Uint64N(1<<20), make([]byte, 1+p.rng.IntN(300<<10)))
			return op
		default:
			return on(f, Write).data(p.rng.Uint64N(1<<20), patches(p.rng, 1+p.rng.IntN(40<<10)))
		}
	}
	switch p.rng.IntN(8) {
	case 0:
		return in(p.dir(), MkDir, p.name())
	case 1, 2:
		return in(p.dir(), Rename, p.name()).to(p.dir(), p.name())
	case 3, 4:
		return in(p.dir(), Remove, p.name())
	case 5:
		return in(p.dir(), RmDir, p.name())
	default:
		op := in(p.dir(), Create, p.name())
		op.How = Guarded
		return op
	}
}

// saw remembers what an operation made.
func (p *player) saw(op Op, r Result) {
	switch {
	case r.Err != OK || !r.Obj.Known:
	case op.Kind == Create:
		if p.files = append(p.files, r.Obj.After); len(p.files) > 8 {
			p.files = p.files[1:]
		}
	case op.Kind == MkDir:
		if p.dirs = append(p.dirs, r.Obj.After); len(p.dirs) > 4 {
			p.dirs = append(p.dirs[:1:1], p.dirs[2:]...)
		}
	}
}

// TestCrash: random operations, checkpoints with operations in the midst of them, and crashes
// before any operation on the disk, among them those of a checkpoint and of a replay; half of them are of the program
// alone, so that nothing is lost, and nothing is durable that was not. Whatever a crash leaves, the log from the checkpoint on brings back the volume that never crashed, every
// byte of it; and no entry is needed that a checkpoint said is not.
func TestCrash(t *testing.T) {
	for seed := range uint64(16) {
		if !t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { crashRun(t, seed) }) {
			return
		}
	}
}

func crashRun(t *testing.T, seed uint64) {
	mem := disk.NewMem(seed)
	good := newRig(t, disk.NewMem(seed).FS()) // never crashes
	play := newPlayer(seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	if err := Make(mem.FS(), Info{ID: 7, Name: "vmstore", Created: testTime}, []byte("conf")); err != nil {
		t.Fatal(err)
	}
	opt := Options{OpenObjects: 2, DirtyObjects: 1 + rng.IntN(4), WritebackBytesPerSecond: 1 << 40}

	var v *Volume
	var crashed, within bool // within: in a checkpoint, whose hook may apply entries
	var saved uint64         // entries up to here are not needed
	until := 0               // operations on the disk until the next crash
	apply := func() {
		index := good.index + 1
		op := play.next()
		want := good.do(op)
		play.saw(op, want)
		got, err := v.Apply(index, 1, good.log[index-2])
		if err != nil && !crashed {
			t.Fatal(err)
		}
		if err == nil && (got.Err != want.Err || got.Obj != want.Obj || got.Dir != want.Dir) {
			t.Fatalf("entry %d: %+v, want %+v", index, got, want)
		}
		if err == nil && rng.IntN(2) == 0 { // else the next Apply, or a checkpoint, does it
			if err := v.Tidy(); err != nil && !crashed {
				t.Fatal(err)
			}
		}
	}
	mem.OnOp(func(op, _ string, _, _ int64) error {
		if until--; until == 0 {
			if crashed = true; rng.IntN(2) == 0 {
				mem.Kill()
			} else {
				mem.Crash()
			}
			return nil // the dead file system says so itself
		}
		// A checkpoint's one removal is Tidy's, with Apply locked out.
		if within && op != "remove" && !crashed && rng.IntN(3) == 0 {
			within = false // not again from the operations that it makes itself
			apply()
			within = true
		}
		return nil
	})
	for range 12 {
		crashed, until = false, 1+rng.IntN(400)
		err := mem.FS().SyncDir(".")
		if err == nil {
			v, err = Open(mem.FS(), opt)
		}
		if err != nil {
			if !crashed {
				t.Fatal(err)
			}
			continue
		}
		index, _ := v.Applied()
		if index < saved {
			t.Fatalf("opened at %d, though entries up to %d were said to be saved", index, saved)
		}
		for index++; index <= good.index && !crashed; index++ {
			if _, err := v.Apply(index, 1, good.log[index-2]); err != nil && !crashed {
				t.Fatal(err)
			}
		}
		if !crashed {
			rest := until
			until = 0 // not now
			compare(t, v, good)
			until = rest
		}
		for !crashed {
			apply()
			if !crashed && rng.IntN(15) == 0 {
				within = true
				at, err := v.Checkpoint(t.Context())
				within = false
				if err == nil {
					saved = max(saved, at)
				} else if !crashed {
					t.Fatal(err)
				}
			}
			if !crashed && v.WantsFlush() && rng.IntN(4) == 0 {
				within = true
				err := v.Flush(t.Context())
				if within = false; err != nil && !crashed {
					t.Fatal(err)
				}
			}
		}
		v.Close()
	}
	mem.OnOp(nil)
	mem.Crash()
	last := &rig{t: t, term: 1, log: good.log}
	last.open(mem.FS(), opt)
	compare(t, last.v, good)
	if err := last.v.Tidy(); err != nil { // the last entry may be a removal
		t.Fatal(err)
	}
	sameObjects(t, mem.FS(), last.v)
}

func compare(t *testing.T, v *Volume, good *rig) {
	t.Helper()
	got, err := v.Digest(true)
	if err != nil {
		t.Fatal(err)
	}
	if got != good.digest(true) {
		t.Fatal("the volume that came back is another")
	}
}

// sameObjects: no object is left over, and unallocated blocks take no room.
func sameObjects(t *testing.T, fsys disk.FS, v *Volume) {
	t.Helper()
	dirs, _ := fsys.List(objectsDir)
	for _, dir := range dirs {
		names, err := fsys.List(objectsDir + "/" + dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			var id FileID
			fmt.Sscanf(name, "%016x", &id)
			in := v.table.inodes[id]
			if in == nil {
				t.Errorf("object %s belongs to no file", name)
				continue
			}
			info, err := fsys.Stat(objectPath(id))
			if err != nil || info.AllocatedBytes > int64(in.ext.blocks*disk.BlockBytes) {
				t.Errorf("object %s takes %d bytes, the table says %d: %v",
					name, info.AllocatedBytes, in.ext.blocks*disk.BlockBytes, err)
			}
		}
	}
}

// TestDeterminism: two replicas that apply one log hold the same, though one of them makes
// checkpoints and restarts and the other has other settings.
func TestDeterminism(t *testing.T) {
	fs := disk.NewMem(1).FS()
	a, b := newRig(t, fs), newRig(t, disk.OS(t.TempDir()))
	play := newPlayer(99)
	for i := range 1500 {
		op := play.next()
		r := a.do(op)
		play.saw(op, r)
		got, err := b.v.Apply(a.index, 1, a.log[a.index-2])
		if err != nil {
			t.Fatal(err)
		}
		if string(got.Encode(nil)) != string(r.Encode(nil)) {
			t.Fatalf("entry %d: %+v and %+v", a.index, r, got)
		}
		if i%400 == 399 {
			a.checkpoint()
			a.open(fs, Options{OpenObjects: 1, DirtyObjects: 1})
		}
	}
	if a.digest(true) != b.digest(true) {
		t.Error("two replicas differ")
	}
	if s := a.v.Stat(); s.DirtyObjects > 1 || s.OpenObjects > 2 {
		t.Errorf("more objects open than allowed: %+v", s)
	}
}
