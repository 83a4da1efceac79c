package volume

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"trinas/replica/disk"
)

// TestWrite_Model: random writes with runs of zeros, and changes of size, against a byte slice.
// The blocks that the table says are allocated are those that can hold something, and the object
// takes no more room than they.
func TestWrite_Model(t *testing.T) {
	const size = 3 << 20
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 0))
		fs := disk.NewMem(1).FS()
		r := newRig(t, fs)
		f := r.must(in(rootDir, Create, "f"))
		var want []byte
		for range 60 {
			if rng.IntN(6) == 0 {
				n := rng.Uint64N(size)
				r.must(on(f, SetAttr).set(SetAttrs{Size: &n}))
				want = append(want, make([]byte, size)...)[:n]
				continue
			}
			off := rng.Uint64N(size)
			data := patches(rng, 1+rng.IntN(MaxIOBytes))
			if rng.IntN(2) == 0 {
				off &^= disk.BlockBytes - 1
			}
			r.must(on(f, Write).data(off, data))
			if end := int(off) + len(data); end > len(want) {
				want = append(want, make([]byte, end-len(want))...)
			}
			copy(want[off:], data)
		}
		for off := 0; off < len(want); off += MaxIOBytes {
			res := r.ask(on(f, Read).read(uint64(off), MaxIOBytes))
			end := min(len(want), off+MaxIOBytes)
			if !bytes.Equal(res.Data, want[off:end]) || res.EOF != (end == len(want)) {
				t.Fatalf("seed %d: read at %d differs", seed, off)
			}
		}
		a := r.attr(f)
		x := &r.v.table.inodes[f.File].ext
		for b := uint64(0); b < blocksOf(uint64(len(want))); b++ {
			block := want[b*disk.BlockBytes : min(uint64(len(want)), (b+1)*disk.BlockBytes)]
			if !zero(block) && !x.allocated(b) {
				t.Fatalf("seed %d: block %d has bytes and is not allocated", seed, b)
			}
		}
		info, err := fs.Stat(objectPath(f.File))
		if err != nil || a.SizeBytes != uint64(len(want)) || info.AllocatedBytes > int64(a.UsedBytes) {
			t.Fatalf("seed %d: size %d used %d, want %d; object %+v, %v", seed, a.SizeBytes, a.UsedBytes, len(want), info, err)
		}
		if r.v.Stat().UsedBytes != a.UsedBytes {
			t.Fatalf("seed %d: the volume uses %d bytes", seed, r.v.Stat().UsedBytes)
		}
	}
}

// hinted counts what objects are asked for besides ordinary I/O.
type hinted struct {
	disk.FS
	direct, dropped int
}

type hintedFile struct {
	disk.File
	of *hinted
}

func (h *hinted) Open(name string, mode disk.Mode) (disk.File, error) {
	f, err := h.FS.Open(name, mode)
	return hintedFile{f, h}, err
}

func (f hintedFile) WriteDirect(p []byte, off int64) error {
	f.of.direct++
	return f.File.WriteDirect(p, off)
}

func (f hintedFile) DropCached() error {
	f.of.dropped++
	return f.File.DropCached()
}

// TestWrite_Direct: much at once over blocks that hold nothing goes past the kernel's memory, and nothing else does. On
// either disk the bytes are the same.
func TestWrite_Direct(t *testing.T) {
	for name, fs := range map[string]disk.FS{"mem": disk.NewMem(1).FS(), "os": disk.OS(t.TempDir())} {
		t.Run(name, func(t *testing.T) {
			h := &hinted{FS: fs}
			r := newRig(t, h)
			f := r.must(in(rootDir, Create, "f"))
			want := make([]byte, 8<<20)
			for i, w := range []struct {
				off    uint64
				bytes  int
				direct bool
			}{
				{0, 1 << 20, true},
				{0, 1 << 20, false},              // holds something
				{1<<20 - 4096, 512 << 10, false}, // in part
				{2 << 20, directBytes - 4096, false},
				{3 << 20, directBytes, true},
				{4<<20 + 512, 512 << 10, false}, // not of whole blocks
				{5 << 20, 512<<10 + 1, false},
				{6 << 20, 1 << 20, true},
			} {
				before := h.direct
				data := bytes.Repeat([]byte{byte(i + 1)}, w.bytes)
				r.must(on(f, Write).data(w.off, data))
				copy(want[w.off:], data)
				if h.direct > before != w.direct {
					t.Errorf("%d bytes at %d: direct: %t, want %t", w.bytes, w.off, h.direct > before, w.direct)
				}
			}
			r.checkpoint()
			for off := 0; off < 7<<20; off += MaxIOBytes {
				if got := r.ask(on(f, Read).read(uint64(off), MaxIOBytes)).Data; !bytes.Equal(got, want[off:off+len(got)]) {
					t.Errorf("the MiB at %d differs", off)
				}
			}
		})
	}
}

// TestFlush: objects become durable and clean, and leave memory where nobody reads them; the table stays; Apply then has
// nothing to sync.
func TestFlush(t *testing.T) {
	mem := disk.NewMem(1)
	h := &hinted{FS: mem.FS()}
	r := newRig(t, h)
	_ = r.v.Close()
	secondary := true
	r.open(h, Options{DirtyObjects: 8, DropSynced: func() bool { return secondary }})
	syncs := 0
	mem.OnOp(func(op, _ string, _, _ int64) error {
		if op == "sync" {
			syncs++
		}
		return nil
	})
	file := func(i int) Attr {
		f := r.must(in(rootDir, Create, fmt.Sprint("f", i)))
		r.must(on(f, Write).data(0, []byte("something")))
		return f
	}
	for i := range 3 {
		file(i)
	}
	if r.v.WantsFlush() {
		t.Error("wants a flush with 3 of 8 objects dirty")
	}
	file(3)
	if !r.v.WantsFlush() || syncs != 0 {
		t.Errorf("half of what may be is dirty: wants a flush: %t; %d syncs", r.v.WantsFlush(), syncs)
	}
	if err := r.v.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := r.v.Stat(); s.DirtyObjects != 0 || s.DirtyBytes != 0 || syncs != 4 || h.dropped != 4 {
		t.Errorf("after the flush: %+v; %d syncs, %d dropped", s, syncs, h.dropped)
	}
	secondary = false
	file(4)
	r.checkpoint()
	if h.dropped != 4 {
		t.Error("what a primary has in memory was dropped")
	}
	for i := range 9 {
		file(10 + i)
	}
	if s := r.v.Stat(); s.DirtyObjects != 8 {
		t.Errorf("more dirty than may be: %+v", s)
	}
	mem.OnOp(func(op, _ string, _, _ int64) error {
		if op == "sync" {
			return syscall.EIO
		}
		return nil
	})
	if err := r.v.Flush(t.Context()); !errors.Is(err, syscall.EIO) {
		t.Errorf("a flush whose sync fails: %v", err)
	}
	if _, err := r.v.Apply(r.index+1, 1, nil); !errors.Is(err, syscall.EIO) {
		t.Errorf("it goes on after that: %v", err)
	}
}

// TestPacer: it keeps to its rate until there is hurry.
func TestPacer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hurry atomic.Bool
		p := newPacer(1<<20, hurry.Load)
		begun := time.Now()
		if err := p.wait(t.Context(), 10<<20); err != nil || time.Since(begun) != 10*time.Second {
			t.Errorf("10 MiB at 1 MiB/s took %v: %v", time.Since(begun), err)
		}
		time.AfterFunc(time.Second, func() { hurry.Store(true) })
		begun = time.Now()
		if err := p.wait(t.Context(), 10<<20); err != nil || time.Since(begun) > time.Second+pacerStep {
			t.Errorf("with hurry after 1 s it took %v: %v", time.Since(begun), err)
		}
	})
}

// patches gives n bytes in runs of zeros and of something.
func patches(rng *rand.Rand, n int) []byte {
	data := make([]byte, n)
	for at := 0; at < n; {
		run := min(n-at, 1+rng.IntN(n))
		if rng.IntN(2) == 0 {
			something := []byte(fmt.Sprintf("%016x", rng.Uint64()|1))
			for i := at; i < at+run; i += copy(data[i:at+run], something) {
			}
		}
		at += run
	}
	return data
}

// TestWrite_Zeros: what is skipped, what is punched, what is written.
func TestWrite_Zeros(t *testing.T) {
	fs := disk.NewMem(1).FS()
	r := newRig(t, fs)
	f := r.must(in(rootDir, Create, "f"))
	used := func(want uint64) {
		t.Helper()
		if a := r.attr(f); a.UsedBytes != want {
			t.Errorf("%d bytes used, want %d", a.UsedBytes, want)
		}
	}
	r.must(on(f, Write).data(1<<20, make([]byte, 1<<20)))
	used(0)
	if _, err := fs.Stat(objectPath(f.File)); err == nil {
		t.Error("zeros made an object")
	}
	if res := r.ask(on(f, Read).read(2<<20-10, 100)); !bytes.Equal(res.Data, make([]byte, 10)) || !res.EOF {
		t.Errorf("%+v", res)
	}
	r.must(on(f, Write).data(1<<20, bytes.Repeat([]byte{1}, 1<<20)))
	used(1 << 20)
	r.must(on(f, Write).data(1<<20, make([]byte, 60<<10))) // short: written
	used(1 << 20)
	r.must(on(f, Write).data(1<<20+100, make([]byte, 128<<10))) // 31 whole blocks
	used(1<<20 - 31*4096)
	if info, err := fs.Stat(objectPath(f.File)); err != nil || info.AllocatedBytes != 1<<20-31*4096 {
		t.Errorf("object: %+v, %v", info, err)
	}
	r.must(on(f, SetAttr).set(SetAttrs{Size: p(uint64(1<<20 + 200<<10 + 1))}))
	used((50 + 1 - 31) * 4096)
	r.must(on(f, SetAttr).set(SetAttrs{Size: p(uint64(0))}))
	used(0)
}

// TestWrite_Sparse: a byte at the far end costs one block, little memory and no time.
func TestWrite_Sparse(t *testing.T) {
	r := newRig(t, disk.NewMem(1).FS())
	f := r.must(in(rootDir, Create, "f"))
	for _, off := range []uint64{MaxFileBytes - 1, 1 << 40, 0} {
		r.must(on(f, Write).data(off, []byte("x")))
	}
	a := r.attr(f)
	if a.UsedBytes != 3*4096 || a.SizeBytes != MaxFileBytes {
		t.Errorf("%+v", a)
	}
	if res := r.ask(on(f, Read).read(1<<40, 2)); string(res.Data) != "x\x00" {
		t.Errorf("%q", res.Data)
	}
	if res := r.ask(on(f, Read).read(MaxFileBytes-2, 5)); string(res.Data) != "\x00x" || !res.EOF {
		t.Errorf("%q", res.Data)
	}
	r.checkpoint()
}

// TestRead_Buffer: the caller's memory is used if it suffices.
func TestRead_Buffer(t *testing.T) {
	r := newRig(t, disk.NewMem(1).FS())
	f := r.must(in(rootDir, Create, "f"))
	r.must(on(f, Write).data(0, []byte("hello")))
	buf := make([]byte, 0, 5)
	op := on(f, Read).read(0, 5)
	op.Data = buf
	if res := r.ask(op); &res.Data[0] != &buf[:1][0] || string(res.Data) != "hello" {
		t.Error("the buffer was not used")
	}
	op.Data = buf[:0:4]
	if res := r.ask(op); string(res.Data) != "hello" {
		t.Errorf("%q", res.Data)
	}
}

// A removed file's object goes with Tidy at the latest when a checkpoint counts or another entry is
// applied: after the answer, but before anything could rely on it.
func TestTidy(t *testing.T) {
	for name, next := range map[string]func(*rig) error{
		"tidy":       func(r *rig) error { return r.v.Tidy() },
		"checkpoint": func(r *rig) error { _, err := r.v.Checkpoint(t.Context()); return err },
		"entry":      func(r *rig) error { r.must(in(rootDir, MkDir, "next")); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			fs := disk.NewMem(1).FS()
			r := newRig(t, fs)
			f := r.must(in(rootDir, Create, "f"))
			r.must(on(f, Write).data(0, []byte("gone soon")))
			r.must(in(rootDir, Remove, "f"))
			if res := r.ask(on(f, Read).read(0, 10)); res.Err != ESTALE {
				t.Errorf("read of a removed file: errno %d", res.Err)
			}
			if _, err := fs.Stat(objectPath(f.File)); err != nil {
				t.Errorf("the answer has waited for the object's removal: %v", err)
			}
			if err := next(r); err != nil {
				t.Fatal(err)
			}
			if _, err := fs.Stat(objectPath(f.File)); err == nil {
				t.Error("the object of a removed file is still there")
			}
		})
	}
}
