package disk

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"slices"
	"syscall"
	"testing"
)

// each runs one test over the real disk and the one in memory: they keep the same contract.
func each(t *testing.T, test func(t *testing.T, d FS)) {
	t.Run("OS", func(t *testing.T) { test(t, OS(t.TempDir())) })
	t.Run("Mem", func(t *testing.T) { test(t, NewMem(1).FS()) })
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("got error %v, want %v", err, target)
	}
}

func create(t *testing.T, d FS, name string) File {
	t.Helper()
	f, err := d.Open(name, Create)
	check(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func fill(n int, c byte) []byte { return bytes.Repeat([]byte{c}, n) }

func aligned(n int, c byte) []byte {
	b := AlignedBytes(n)
	copy(b, fill(n, c))
	return b
}

func content(t *testing.T, f File) []byte {
	t.Helper()
	info, err := f.Stat()
	check(t, err)
	b := make([]byte, info.SizeBytes)
	if n, err := f.ReadAt(b, 0); n != len(b) || err != nil && err != io.EOF {
		t.Fatalf("read %d of %d bytes: %v", n, len(b), err)
	}
	return b
}

func TestFS_Names(t *testing.T) {
	each(t, func(t *testing.T, d FS) {
		for _, name := range []string{"..", "../x", "/x", "a/../../x", "", "a//b", "a/"} {
			_, err := d.Open(name, Create)
			want(t, err, fs.ErrInvalid)
			_, err = d.Stat(name)
			want(t, err, fs.ErrInvalid)
			_, err = d.List(name)
			want(t, err, fs.ErrInvalid)
			want(t, d.MkdirAll(name), fs.ErrInvalid)
			want(t, d.Rename(name, "y"), fs.ErrInvalid)
			want(t, d.Rename("y", name), fs.ErrInvalid)
			want(t, d.Remove(name), fs.ErrInvalid)
			want(t, d.RemoveAll(name), fs.ErrInvalid)
			want(t, d.SyncDir(name), fs.ErrInvalid)
			want(t, d.Sub(name).MkdirAll("."), fs.ErrInvalid)
		}
		want(t, d.RemoveAll("."), fs.ErrInvalid)
		want(t, d.Remove("."), fs.ErrInvalid)
	})
}

func TestFS_Tree(t *testing.T) {
	each(t, func(t *testing.T, d FS) {
		_, err := d.Open("a", ReadWrite)
		want(t, err, fs.ErrNotExist)
		_, err = d.Open("no/a", Create)
		want(t, err, fs.ErrNotExist)
		_, err = d.Stat("a")
		want(t, err, fs.ErrNotExist)
		want(t, d.Remove("a"), fs.ErrNotExist)
		want(t, d.Rename("a", "b"), fs.ErrNotExist)
		check(t, d.RemoveAll("a"))

		check(t, d.MkdirAll("x/y"))
		check(t, d.MkdirAll("x/y"))
		create(t, d, "x/b")
		create(t, d.Sub("x"), "a")
		names, err := d.List("x")
		check(t, err)
		if !slices.Equal(names, []string{"a", "b", "y"}) {
			t.Fatal(names)
		}
		want(t, d.Remove("x"), syscall.ENOTEMPTY)
		want(t, d.MkdirAll("x/a"), syscall.ENOTDIR)
		_, err = d.Open("x", ReadWrite)
		want(t, err, syscall.EISDIR)
		want(t, d.Rename("x", "x/y/z"), syscall.EINVAL)
		_, err = create(t, d, "x/a").WriteAt([]byte("kept"), 0)
		check(t, err)
		check(t, d.Rename("x/a", "x/b"))
		if got := content(t, create(t, d, "x/b")); string(got) != "kept" {
			t.Fatalf("%q", got)
		}
		check(t, d.SyncDir("x"))
		check(t, d.SyncDir("."))
		want(t, d.SyncDir("x/b"), syscall.ENOTDIR)
		check(t, d.Remove("x/y"))
		check(t, d.RemoveAll("x"))
		if names, err = d.List("."); err != nil || len(names) > 0 {
			t.Fatal(names, err)
		}
		space, err := d.Space()
		if err != nil || space.FreeBytes == 0 || space.FreeBytes > space.TotalBytes {
			t.Fatal(space, err)
		}
	})
}

func TestFile_ReadWrite(t *testing.T) {
	each(t, func(t *testing.T, d FS) {
		f := create(t, d, "f")
		_, err := f.WriteAt(fill(3*BlockBytes, 'a'), 100)
		check(t, err)
		_, err = f.WriteAt([]byte("middle"), BlockBytes-3)
		check(t, err)
		model := append(make([]byte, 100), fill(3*BlockBytes, 'a')...)
		copy(model[BlockBytes-3:], "middle")
		if !bytes.Equal(content(t, f), model) {
			t.Fatal("content differs after writes")
		}

		check(t, f.Truncate(BlockBytes+10)) // cut inside a block, then grow: zeros
		check(t, f.Truncate(4*BlockBytes))
		model = append(model[:BlockBytes+10], make([]byte, 3*BlockBytes-10)...)
		if !bytes.Equal(content(t, f), model) {
			t.Fatal("content differs after truncation")
		}

		check(t, f.PunchHole(10, BlockBytes))
		clear(model[10 : 10+BlockBytes])
		if !bytes.Equal(content(t, f), model) {
			t.Fatal("content differs after a hole")
		}
		check(t, f.StartWriteback(0, 0))
		check(t, f.Sync())

		n, err := f.ReadAt(make([]byte, 10), 4*BlockBytes-4)
		if n != 4 || err != io.EOF {
			t.Fatal(n, err)
		}
		_, err = f.WriteAt([]byte("x"), -1)
		if err == nil {
			t.Fatal("wrote at a negative offset")
		}
		r, err := d.Open("f", ReadOnly)
		check(t, err)
		if _, err := r.WriteAt([]byte("x"), 0); err == nil {
			t.Fatal("wrote to a file opened for reading")
		}
		check(t, r.Close())
		if _, err := r.ReadAt(make([]byte, 1), 0); !errors.Is(err, fs.ErrClosed) {
			t.Fatal(err)
		}
	})
}

func TestFile_Sparse(t *testing.T) {
	each(t, func(t *testing.T, d FS) {
		f := create(t, d, "f")
		check(t, f.Truncate(1<<40))
		_, err := f.WriteAt([]byte("x"), 1<<39)
		check(t, err)
		check(t, f.Sync())
		info, err := f.Stat()
		check(t, err)
		if info.SizeBytes != 1<<40 || info.AllocatedBytes < BlockBytes || info.AllocatedBytes > 1<<20 {
			t.Fatalf("%+v", info)
		}
		check(t, f.PunchHole(1<<39, BlockBytes))
		check(t, f.Sync())
		if info, err = d.Stat("f"); err != nil || info.SizeBytes != 1<<40 || info.AllocatedBytes != 0 {
			t.Fatalf("%+v %v", info, err)
		}
	})
}

func TestFile_WriteSync(t *testing.T) {
	each(t, func(t *testing.T, d FS) {
		f := create(t, d, "f")
		check(t, f.Preallocate(8*BlockBytes))
		info, err := f.Stat()
		check(t, err)
		if info.SizeBytes != 8*BlockBytes || info.AllocatedBytes < 8*BlockBytes {
			t.Fatalf("%+v", info)
		}
		check(t, f.WriteSync(aligned(2*BlockBytes, 'a'), BlockBytes))
		check(t, d.Rename("f", "g")) // the second descriptor must follow the file, not the name
		create(t, d, "f")
		check(t, f.WriteSync(aligned(BlockBytes, 'b'), 2*BlockBytes))
		model := make([]byte, 8*BlockBytes)
		copy(model[BlockBytes:], fill(BlockBytes, 'a'))
		copy(model[2*BlockBytes:], fill(BlockBytes, 'b'))
		if !bytes.Equal(content(t, f), model) {
			t.Fatal("content differs")
		}
		want(t, f.WriteSync(aligned(BlockBytes, 'x'), 1), fs.ErrInvalid)
		want(t, f.WriteSync(aligned(BlockBytes, 'x')[:100], 0), fs.ErrInvalid)
		want(t, f.WriteSync(aligned(2*BlockBytes, 'x')[1:BlockBytes+1], 0), fs.ErrInvalid)
		check(t, f.Close())
		want(t, f.WriteSync(aligned(BlockBytes, 'x'), 0), fs.ErrClosed)
	})
}

// The way that a file system without O_DIRECT takes (tmpfs of older kernels, some network disks).
func TestFile_WriteSyncWithoutDirect(t *testing.T) {
	f := create(t, OS(t.TempDir()), "f")
	f.(*osFile).synced.refused = true
	check(t, f.WriteSync(aligned(BlockBytes, 'a'), 0))
	if !bytes.Equal(content(t, f), fill(BlockBytes, 'a')) || f.(*osFile).synced.file != nil {
		t.Fatal("not written by the buffered way")
	}
}

// TestFile_WriteDirect: bytes that go past the kernel's memory replace what that holds, whoever wrote last.
func TestFile_WriteDirect(t *testing.T) {
	each(t, func(t *testing.T, d FS) {
		f := create(t, d, "f")
		_, err := f.WriteAt(fill(3*BlockBytes, 'a'), 0) // in memory, not on the disk yet
		check(t, err)
		check(t, f.WriteDirect(aligned(2*BlockBytes, 'b'), BlockBytes))
		check(t, f.WriteDirect(aligned(BlockBytes, 'c'), 5*BlockBytes)) // a hole before it
		_, err = f.WriteAt(fill(10, 'd'), 2*BlockBytes)
		check(t, err)
		check(t, f.DropCached())
		model := make([]byte, 6*BlockBytes)
		copy(model, fill(BlockBytes, 'a'))
		copy(model[BlockBytes:], fill(2*BlockBytes, 'b'))
		copy(model[2*BlockBytes:], fill(10, 'd'))
		copy(model[5*BlockBytes:], fill(BlockBytes, 'c'))
		if !bytes.Equal(content(t, f), model) {
			t.Fatal("content differs")
		}
		check(t, f.Sync())
		check(t, f.DropCached())
		if !bytes.Equal(content(t, f), model) {
			t.Fatal("content differs once it is on the disk")
		}
		want(t, f.WriteDirect(aligned(BlockBytes, 'x'), 1), fs.ErrInvalid)
		check(t, f.Close())
		want(t, f.WriteDirect(aligned(BlockBytes, 'x'), 0), fs.ErrClosed)
	})
	t.Run("no O_DIRECT", func(t *testing.T) {
		f := create(t, OS(t.TempDir()), "f")
		f.(*osFile).plain.refused = true
		check(t, f.WriteDirect(aligned(BlockBytes, 'a'), 0))
		if !bytes.Equal(content(t, f), fill(BlockBytes, 'a')) || f.(*osFile).plain.file != nil {
			t.Fatal("not written by the buffered way")
		}
	})
}

func TestAlignedBytes(t *testing.T) {
	for _, bytesOf := range []func(int) []byte{AlignedBytes, HugeBytes} {
		for _, n := range []int{1, BlockBytes, 3*BlockBytes + 1, hugePageBytes, hugePageBytes + BlockBytes} {
			b := bytesOf(n)
			if len(b) != n || cap(b) != n || !bytes.Equal(b, make([]byte, n)) {
				t.Fatal(len(b), cap(b))
			}
			if n%BlockBytes == 0 {
				check(t, checkAligned("x", "x", b, 0))
			}
		}
	}
}

// Goal: ReadStored gives what was written, holes as zeros, and the end of the file where it is;
// what is not aligned is refused.
func TestFile_ReadStored(t *testing.T) {
	each(t, func(t *testing.T, d FS) {
		f := create(t, d, "x")
		_, err := f.WriteAt(fill(5000, 'a'), 8192)
		check(t, err)
		p := aligned(3*BlockBytes, 'z')
		n, err := f.ReadStored(p, BlockBytes)
		if want := append(fill(BlockBytes, 0), fill(5000, 'a')...); n != len(want) || err != io.EOF || !bytes.Equal(p[:n], want) {
			t.Errorf("%d bytes, %v", n, err)
		}
		if n, err := f.ReadStored(p, 16*BlockBytes); n != 0 || err != io.EOF {
			t.Errorf("past the end: %d bytes, %v", n, err)
		}
		_, err = f.ReadStored(p[:BlockBytes-1], 0)
		want(t, err, fs.ErrInvalid)
		_, err = f.ReadStored(p, 1)
		want(t, err, fs.ErrInvalid)
	})
}
