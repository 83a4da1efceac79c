package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"trinas/replica/disk"
)

// filled makes a volume with a bit of everything.
func filled(t testing.TB, fs disk.FS) *rig {
	r := newRig(t, fs)
	d := r.must(in(rootDir, MkDir, "d"))
	f := r.must(in(d, Create, "f").by(1, 1))
	r.must(on(f, Write).data(100, []byte("hello")).by(1, 2))
	r.must(on(f, Write).data(5<<20, make([]byte, 100)).by(2, 2))
	big := r.must(in(d, Create, "big"))
	data := make([]byte, 1<<20)
	for i := range data {
		data[i] = byte(i%255) + 1
	}
	r.must(on(big, Write).data(1<<20, data))
	r.must(on(big, Write).data(6<<20+4096, data))
	r.must(Op{Kind: Symlink, File: d.File, Gen: d.Gen, Name: "l", Target: "t"})
	r.must(Op{Kind: MkNod, File: d.File, Gen: d.Gen, Name: "n", Type: Block, Rdev: [2]uint32{8, 1}})
	op := in(d, Create, "x")
	op.How, op.Verifier = Exclusive, 77
	r.must(op)
	r.must(on(f, Link).to(rootDir, "second"))
	for i := range 600 {
		r.must(in(d, Create, fmt.Sprintf("name that takes room %d", i)))
	}
	return r
}

func TestCheckpoint_RoundTrip(t *testing.T) {
	fs := disk.NewMem(1).FS()
	r := filled(t, fs)
	if err := r.v.ApplyConf(r.index+1, 3, []byte("new conf")); err != nil {
		t.Fatal(err)
	}
	want := r.digest(true)
	index := r.checkpoint()
	v, err := Open(fs, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if got, err := v.Digest(true); err != nil || got != want {
		t.Errorf("another digest after loading: %v", err)
	}
	if i, term := v.Applied(); i != index || i != r.index+1 || term != 3 {
		t.Errorf("applied %d of term %d, checkpoint %d", i, term, index)
	}
	if string(v.Conf()) != "new conf" || v.Info() != (Info{7, "vmstore", testTime}) {
		t.Errorf("conf %q, info %+v", v.Conf(), v.Info())
	}
	if a, b := v.Stat(), r.v.Stat(); a.Files != b.Files || a.UsedBytes != b.UsedBytes || a.Replies != b.Replies {
		t.Errorf("%+v, was %+v", a, b)
	}
	if n := r.v.DirtyBytes(); n != 0 {
		t.Errorf("%d bytes dirty after a checkpoint", n)
	}
}

// TestOpen_Damage: whatever byte is wrong or missing, Open says so, naming file and place.
func TestOpen_Damage(t *testing.T) {
	mem := disk.NewMem(1)
	r := filled(t, mem.FS())
	r.checkpoint()
	fsys := mem.FS()
	file, err := fsys.Open(checkpointFile, disk.ReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	info, _ := file.Stat()
	if info.SizeBytes < chunkBytes+100 {
		t.Fatalf("%d bytes are not two chunks", info.SizeBytes)
	}
	fails := func(what string) {
		t.Helper()
		v, err := Open(fsys, Options{})
		if err == nil {
			v.Close()
			t.Fatalf("%s: opened", what)
		}
		for _, part := range []string{fsys.Path(checkpointFile), "at byte"} {
			if !strings.Contains(err.Error(), part) {
				t.Fatalf("%s: %q is missing in: %v", what, part, err)
			}
		}
		if !errors.As(err, new(*damage)) || !errors.Is(err, ErrDamaged) {
			t.Fatalf("%s: %v", what, err)
		}
	}
	b := make([]byte, 1)
	for off := int64(0); off < info.SizeBytes; off += 1 + off/7 {
		file.ReadAt(b, off)
		b[0] ^= 0x10
		file.WriteAt(b, off)
		fails(fmt.Sprintf("flipped a bit at %d", off))
		b[0] ^= 0x10
		file.WriteAt(b, off)
	}
	file.WriteAt([]byte{0}, info.SizeBytes)
	fails("a byte more")
	all := make([]byte, info.SizeBytes)
	file.ReadAt(all, 0)
	for _, n := range []int64{0, 5, 31, 32, 40, chunkBytes, chunkBytes + 36, info.SizeBytes - 1} {
		file.Truncate(n)
		fails(fmt.Sprintf("cut at %d", n))
	}
	file.WriteAt(all, 0)
	if v, err := Open(fsys, Options{}); err != nil {
		t.Fatal(err)
	} else {
		v.Close()
	}
	head := slices.Clone(all[:headBytes])
	head[8] = checkpointVersion + 1
	file.WriteAt(appendU32(head[:headBytes-4], crcOf(0, head[:headBytes-4])), 0)
	if _, err := Open(fsys, Options{}); err == nil || !strings.Contains(err.Error(), "upgrade trinas") {
		t.Errorf("newer format: %v", err)
	}
	if _, err := Open(disk.NewMem(1).FS(), Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("empty folder: %v", err)
	}
}

// TestOpen_ReadsOnly: Open touches nothing on the disk.
func TestOpen_ReadsOnly(t *testing.T) {
	mem := disk.NewMem(1)
	filled(t, mem.FS()).checkpoint()
	mem.OnOp(func(op, name string, _, _ int64) error {
		switch op {
		case "open", "read", "stat", "list":
			return nil
		}
		return fmt.Errorf("%s %s", op, name)
	})
	v, err := Open(mem.FS(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	v.Close()
}

func TestMake(t *testing.T) {
	fsys := disk.NewMem(1).FS()
	r := newRig(t, fsys)
	r.must(in(rootDir, MkDir, "d"))
	r.checkpoint()
	if err := Make(fsys, Info{ID: 7, Name: "other"}, nil); err != nil {
		t.Errorf("the same again: %v", err)
	}
	if err := Make(fsys, Info{ID: 8}, nil); err == nil || !strings.Contains(err.Error(), "vmstore") {
		t.Errorf("another volume: %v", err)
	}
	r.open(fsys, Options{})
	if a := r.rootAttr(); a.Nlink != 3 || a.Mode != 0o755 || a.UID != 0 || a.Type != Directory {
		t.Errorf("%+v", a)
	}
	// Objects without a checkpoint would show through.
	f := r.must(in(rootDir, Create, "f"))
	r.must(on(f, Write).data(0, []byte("x")))
	fsys.Remove(checkpointFile)
	if err := Make(fsys, Info{ID: 7}, nil); err == nil || !strings.Contains(err.Error(), "objects") {
		t.Errorf("over objects: %v", err)
	}
}

// TestCheckpoint_Failure: every failed disk operation of a checkpoint is final; none is tried
// again, and the old checkpoint stands.
func TestCheckpoint_Failure(t *testing.T) {
	for _, fail := range []string{"writeback", "sync", "syncdir", "create", "write", "truncate", "rename"} {
		t.Run(fail, func(t *testing.T) {
			mem := disk.NewMem(1)
			r := filled(t, mem.FS())
			f := r.must(in(rootDir, Create, "more"))
			r.must(on(f, Write).data(0, []byte("x")))
			mem.OnOp(func(op, name string, _, _ int64) error {
				if op == fail {
					return syscall.EIO
				}
				return nil
			})
			if _, err := r.v.Checkpoint(t.Context()); !errors.Is(err, syscall.EIO) {
				t.Fatalf("%v", err)
			}
			mem.OnOp(nil)
			if _, err := r.v.Checkpoint(t.Context()); !errors.Is(err, syscall.EIO) {
				t.Errorf("checkpoint afterwards: %v", err)
			}
			if _, err := r.v.Apply(r.index+1, 1, nil); !errors.Is(err, syscall.EIO) {
				t.Errorf("apply afterwards: %v", err)
			}
			if _, err := r.v.Query(&Op{Kind: GetAttr, File: RootID, Gen: 1}); !errors.Is(err, syscall.EIO) {
				t.Errorf("query afterwards: %v", err)
			}
			if _, err := r.v.Query(&Op{Kind: Read, File: f.File, Gen: f.Gen, Count: 1}); !errors.Is(err, syscall.EIO) {
				t.Errorf("read afterwards: %v", err)
			}
			mem.Crash()
			r.open(mem.FS(), Options{}) // replays
			if res := r.ask(on(f, Read).read(0, 1)); string(res.Data) != "x" {
				t.Errorf("%+v", res)
			}
		})
	}
}

// TestCheckpoint_Pace: write-back keeps to its rate, can be stopped, and goes on next time.
func TestCheckpoint_Pace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := disk.NewMem(1).FS()
		r := newRig(t, fsys)
		r.open(fsys, Options{WritebackBytesPerSecond: 1 << 20})
		f := r.must(in(rootDir, Create, "f"))
		for i := range 10 {
			for range 3 { // over and over, it is still one MiB
				r.must(on(f, Write).data(uint64(i)<<20, []byte(strings.Repeat("x", 1<<20))))
			}
		}
		if n := r.v.DirtyBytes(); n != 10<<20 {
			t.Errorf("%d bytes dirty", n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		if _, err := r.v.Checkpoint(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("%v", err)
		}
		r.must(on(f, Write).data(0, []byte("y")))
		if n := r.v.DirtyBytes(); n != 10<<20+1 {
			t.Errorf("%d bytes dirty after a checkpoint that was stopped", n)
		}
		start := time.Now()
		if index := r.checkpoint(); index != r.index {
			t.Errorf("checkpoint at %d of %d", index, r.index)
		}
		if took := time.Since(start); took < 10*time.Second || took > 11*time.Second {
			t.Errorf("10 MiB at 1 MiB/s took %v", took)
		}
		if n := r.v.DirtyBytes(); n != 0 {
			t.Errorf("%d bytes dirty", n)
		}
	})
}

// FuzzOpen: no content of a checkpoint file panics, with good checksums or bad ones.
func FuzzOpen(f *testing.F) {
	r := filled(f, disk.NewMem(1).FS())
	image := r.v.appendImage(nil)
	f.Add(image, false)
	small := newRig(f, disk.NewMem(1).FS())
	image = small.v.appendImage(nil)
	f.Add(image, false)
	mem := disk.NewMem(1).FS()
	if err := writeCheckpoint(context.Background(), mem, image, newPacer(1<<40, never)); err != nil {
		f.Fatal(err)
	}
	file, _ := mem.Open(checkpointFile, disk.ReadOnly)
	whole := make([]byte, headBytes+len(image)+4)
	if n, err := file.ReadAt(whole, 0); n != len(whole) {
		f.Fatal(n, err)
	}
	f.Add(whole, true)
	f.Fuzz(func(t *testing.T, b []byte, chunks bool) {
		if chunks {
			var err error
			if b, err = joinChunks(append([]byte(nil), b...)); err != nil {
				return
			}
		}
		v := &Volume{}
		if _, err := decodeImage(v, b); err != nil {
			return
		}
		// What is taken for good encodes and decodes to itself.
		again := v.appendImage(nil)
		w := &Volume{}
		if _, err := decodeImage(w, again); err != nil {
			t.Fatal(err)
		}
		if string(w.appendImage(nil)) != string(again) {
			t.Fatal("an image does not come back")
		}
	})
}
