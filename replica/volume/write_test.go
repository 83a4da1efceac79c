package volume

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

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
			data := patches(rng, 1+rng.IntN(300<<10))
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

// patches gives n bytes in runs of zeros and of something.
func patches(rng *rand.Rand, n int) []byte {
	data := make([]byte, n)
	for at := 0; at < n; {
		run := min(n-at, 1+rng.IntN(100<<10))
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
