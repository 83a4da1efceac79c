package volume

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"trinas/replica/disk"
)

// onRead runs f, once, as the disk is about to read from an object.
func onRead(mem *disk.Mem, f func()) {
	done := false
	mem.OnOp(func(op, name string, _, _ int64) error {
		if op == "read" && strings.HasPrefix(name, objectsDir) && !done {
			done = true
			f()
		}
		return nil
	})
}

// TestRead_Beside: a read whose object is cut, removed or written to under its hands answers as
// if it had come before or after that, never with half of it.
func TestRead_Beside(t *testing.T) {
	mem := disk.NewMem(1)
	r := newRig(t, mem.FS())
	f := r.must(in(rootDir, Create, "f"))
	r.must(on(f, Write).data(0, []byte("hello")))

	onRead(mem, func() {
		r.must(on(f, SetAttr).set(SetAttrs{Size: p(uint64(0))}))
		r.must(on(f, SetAttr).set(SetAttrs{Size: p(uint64(1 << 20))}))
	})
	res := r.ask(on(f, Read).read(0, 5))
	if res.Err != OK || string(res.Data) != "\x00\x00\x00\x00\x00" || res.Obj.After != r.attr(f) {
		t.Errorf("cut: %+v", res)
	}

	r.must(on(f, Write).data(0, []byte("hello")))
	onRead(mem, func() { r.must(on(f, Write).data(100<<10, []byte("far"))) })
	res = r.ask(on(f, Read).read(0, 200<<10))
	if res.Err != OK || len(res.Data) != 200<<10 || string(res.Data[:5]) != "hello" {
		t.Errorf("written: %+v", res.Err)
	}

	onRead(mem, func() { r.do(in(rootDir, Remove, "f")) })
	if res = r.ask(on(f, Read).read(0, 5)); res.Err != ESTALE {
		t.Errorf("removed: %+v", res)
	}
	if s := r.v.Stat(); s.OpenObjects != 0 || s.DirtyBytes != 0 {
		t.Errorf("the removed object is still open: %+v", s)
	}
}

// Goal: a read that was under way when a resync put another table in place does not make the replica forget what is to
// be synced: what is written after the resync is there after a checkpoint and a power cut. Method: the resync and the
// write take place as the disk is about to read.
func TestRead_BesideResync(t *testing.T) {
	source := newRig(t, disk.NewMem(1).FS())
	f := source.must(in(rootDir, Create, "f"))
	source.must(on(f, Write).data(0, bytes.Repeat([]byte("a"), disk.BlockBytes)))
	mem := disk.NewMem(2)
	r := newRig(t, mem.FS())
	r.follow(source)
	source.must(on(f, Write).data(0, bytes.Repeat([]byte("b"), disk.BlockBytes)))
	onRead(mem, func() {
		image, index, err := source.v.Image()
		if err != nil {
			t.Error(err)
		}
		err = r.v.Restore(t.Context(), image, func(_ context.Context, id FileID, off uint64, p []byte) error {
			return source.v.ReadObject(id, off, p)
		}, func(uint64, uint64) {})
		if err != nil {
			t.Error(err)
		}
		r.log, r.index = slices.Clone(source.log), index
		source.must(on(f, Write).data(0, bytes.Repeat([]byte("c"), disk.BlockBytes)))
		r.follow(source)
	})
	if res := r.ask(on(f, Read).read(0, 1)); string(res.Data) != "c" {
		t.Errorf("read %q", res.Data)
	}
	if s := r.v.Stat(); s.DirtyBytes != disk.BlockBytes {
		t.Errorf("%d bytes are to be synced, want a block", s.DirtyBytes)
	}
	saved := r.checkpoint()
	mem.Crash()
	_ = r.v.Close()
	r.open(mem.FS(), Options{})
	if index, _ := r.v.Applied(); index != saved {
		t.Fatalf("opened at %d, want %d", index, saved)
	}
	if r.digest(true) != source.digest(true) {
		t.Error("what was written after the resync is lost")
	}
}

// TestRead_Damage: an object that lost what the table says it has is an error, not zeros, wherever in a block the
// read begins, and the replica leaves service; one that is only read from for a rescue goes on with the rest.
func TestRead_Damage(t *testing.T) {
	cut := func(fsys disk.FS, path string) error {
		f, err := fsys.Open(path, disk.ReadWrite)
		if err != nil {
			return err
		}
		return f.Truncate(4096)
	}
	for _, c := range []struct {
		name   string
		damage func(fsys disk.FS, path string) error
		off    uint64
		count  uint32
		rescue bool
	}{
		{"missing", func(fsys disk.FS, path string) error { return fsys.Remove(path) }, 0, 10000, false},
		{"short", cut, 0, 10000, false},
		{"short, a block", cut, 4096, 4096, false},
		{"short, in a block", cut, 8200, 100, false},
		{"short, in the first block that is lost", cut, 4097, 1, false},
		{"rescue", cut, 0, 10000, true},
	} {
		fsys := disk.NewMem(1).FS()
		r := newRig(t, fsys)
		f := r.must(in(rootDir, Create, "f"))
		r.must(on(f, Write).data(0, bytes.Repeat([]byte("x"), 10000)))
		r.checkpoint()
		r.log = nil
		r.open(fsys, Options{Rescue: c.rescue})
		if err := c.damage(fsys, objectPath(f.File)); err != nil {
			t.Fatal(err)
		}
		op := on(f, Read).read(c.off, c.count)
		if _, err := r.v.Query(&op); err == nil || !strings.Contains(err.Error(), objectPath(f.File)) ||
			strings.Contains(err.Error(), "trinas verify") == c.rescue || !strings.Contains(err.Error(), "after") {
			t.Errorf("%s: %v", c.name, err)
		}
		if _, err := r.v.Apply(r.index+1, 1, nil); (err == nil) != c.rescue {
			t.Errorf("%s: in service %t, want %t", c.name, err == nil, c.rescue)
		}
		whole := on(f, Read).read(0, 4096)
		if res, err := r.v.Query(&whole); c.rescue && (err != nil || len(res.Data) != 4096) {
			t.Errorf("%s: what is not damaged: %v, %d bytes", c.name, err, len(res.Data))
		}
	}
}

// TestApply_Broken: a disk that fails or is full, an entry that cannot be read and a gap in the
// log each end it.
func TestApply_Broken(t *testing.T) {
	write := func(r *rig, f Attr) []byte {
		op := on(f, Write).data(0, []byte("x"))
		b, _ := op.Encode(nil)
		return b
	}
	for name, c := range map[string]struct {
		entry func(r *rig, f Attr, mem *disk.Mem) (uint64, uint64, []byte)
		want  string
	}{
		"eio": {func(r *rig, f Attr, mem *disk.Mem) (uint64, uint64, []byte) {
			mem.OnOp(func(op, _ string, _, _ int64) error {
				if op == "write" {
					return syscall.EIO
				}
				return nil
			})
			return r.index + 1, 1, write(r, f)
		}, "input/output error"},
		"enospc": {func(r *rig, f Attr, mem *disk.Mem) (uint64, uint64, []byte) {
			mem.SetSpace(1)
			return r.index + 1, 1, write(r, f)
		}, "no space"},
		"garbage": {func(r *rig, f Attr, mem *disk.Mem) (uint64, uint64, []byte) {
			return r.index + 1, 1, []byte("garbage")
		}, "cut short"},
		"query": {func(r *rig, f Attr, mem *disk.Mem) (uint64, uint64, []byte) {
			op := on(f, GetAttr)
			b, _ := op.Encode(nil)
			return r.index + 1, 1, b
		}, "no place in the log"},
		"newer": {func(r *rig, f Attr, mem *disk.Mem) (uint64, uint64, []byte) {
			b := write(r, f)
			b[0]++
			return r.index + 1, 1, b
		}, "upgrade"},
		"gap":      {func(r *rig, f Attr, mem *disk.Mem) (uint64, uint64, []byte) { return r.index + 2, 1, nil }, "gap"},
		"again":    {func(r *rig, f Attr, mem *disk.Mem) (uint64, uint64, []byte) { return r.index, 1, nil }, "gap"},
		"old term": {func(r *rig, f Attr, mem *disk.Mem) (uint64, uint64, []byte) { return r.index + 1, 0, nil }, "gap"},
	} {
		t.Run(name, func(t *testing.T) {
			mem := disk.NewMem(1)
			r := newRig(t, mem.FS())
			f := r.must(in(rootDir, Create, "f"))
			index, term, data := c.entry(r, f, mem)
			_, err := r.v.Apply(index, term, data)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "vmstore") {
				t.Fatalf("%v", err)
			}
			mem.OnOp(nil)
			mem.SetSpace(0)
			if _, err2 := r.v.Apply(r.index+1, 1, nil); err2 != err {
				t.Errorf("afterwards: %v", err2)
			}
			if i, _ := r.v.Applied(); i != r.index {
				t.Errorf("applied %d", i)
			}
		})
	}
}

func TestClose(t *testing.T) {
	r := filled(t, disk.NewMem(1).FS())
	for range 2 {
		if err := r.v.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.v.Apply(r.index+1, 1, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("%v", err)
	}
	if _, err := r.v.Query(&Op{Kind: GetAttr, File: RootID, Gen: 1}); !errors.Is(err, ErrClosed) {
		t.Errorf("%v", err)
	}
	if _, err := r.v.Checkpoint(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("%v", err)
	}
}

// TestConcurrent: queries and checkpoints beside Apply, for the race detector; every block that
// is read is one that was written whole, and as long as the attributes say.
func TestConcurrent(t *testing.T) {
	fsys := disk.NewMem(1).FS()
	r := newRig(t, fsys)
	r.open(fsys, Options{OpenObjects: 1, DirtyObjects: 1})
	var files []Attr
	for _, name := range []string{"a", "b", "c"} {
		files = append(files, r.must(in(rootDir, Create, name)))
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for _, f := range files {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				op := on(f, Read).read(4096, 8192)
				res, err := r.v.Query(&op)
				if err != nil || res.Err != OK {
					t.Errorf("%+v, %v", res, err)
					return
				}
				if size := int(res.Obj.After.SizeBytes); len(res.Data) != max(0, min(8192, size-4096)) {
					t.Errorf("%d bytes of a file of %d", len(res.Data), size)
				}
				for len(res.Data) > 0 {
					if b := res.Data[:4096]; !bytes.Equal(b[:4095], b[1:]) {
						t.Error("a block is torn")
					}
					res.Data = res.Data[4096:]
				}
				list := on(rootDir, ReadDir)
				_, _ = r.v.Query(&list)
			}
		})
	}
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := r.v.Checkpoint(t.Context()); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for i := range 2000 {
		f := files[i%3]
		if i%10 == 0 {
			r.must(on(f, SetAttr).set(SetAttrs{Size: p(uint64(0))}))
		}
		r.must(on(f, Write).data(uint64(i%3+1)*4096, bytes.Repeat([]byte{byte(i)}, 4096)))
	}
	close(stop)
	wg.Wait()
}
