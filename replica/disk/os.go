package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// OS gives the real directory tree under root. The tree is the agent's own: directories are made
// with mode 0700 and files with 0600, and symbolic links in it are followed.
func OS(root string) FS { return osFS{root} }

type osFS struct{ root string }

// checkName refuses names that leave the tree.
func checkName(op, name string) error {
	if !fs.ValidPath(name) {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	return nil
}

// checkEntry refuses, besides what checkName does, the tree's root: it is no entry of the tree.
func checkEntry(op, name string) error {
	if name == "." {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	return checkName(op, name)
}

func (d osFS) Path(name string) string { return filepath.Join(d.root, filepath.FromSlash(name)) }

func (d osFS) Sub(dir string) FS {
	if checkName("sub", dir) != nil {
		return refused{dir}
	}
	return osFS{d.Path(dir)}
}

func (d osFS) Open(name string, mode Mode) (File, error) {
	if err := checkName("open", name); err != nil {
		return nil, err
	}
	flags := map[Mode]int{ReadOnly: os.O_RDONLY, ReadWrite: os.O_RDWR, Create: os.O_RDWR | os.O_CREATE}
	flag, ok := flags[mode]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	f, err := os.OpenFile(d.Path(name), flag, 0o600)
	if err != nil {
		return nil, err
	}
	return newOSFile(f)
}

func (d osFS) Stat(name string) (Info, error) {
	if err := checkName("stat", name); err != nil {
		return Info{}, err
	}
	fi, err := os.Stat(d.Path(name))
	if err != nil {
		return Info{}, err
	}
	return infoOf(fi), nil
}

func (d osFS) List(dir string) ([]string, error) {
	if err := checkName("list", dir); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(d.Path(dir)) // sorted
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

func (d osFS) MkdirAll(dir string) error {
	if err := checkName("mkdir", dir); err != nil {
		return err
	}
	return os.MkdirAll(d.Path(dir), 0o700)
}

func (d osFS) Rename(from, to string) error {
	if err := errors.Join(checkEntry("rename", from), checkEntry("rename", to)); err != nil {
		return err
	}
	return os.Rename(d.Path(from), d.Path(to))
}

func (d osFS) Remove(name string) error {
	if err := checkEntry("remove", name); err != nil {
		return err
	}
	return os.Remove(d.Path(name))
}

func (d osFS) RemoveAll(name string) error {
	if err := checkEntry("removeall", name); err != nil {
		return err
	}
	return os.RemoveAll(d.Path(name))
}

func (d osFS) SyncDir(dir string) error {
	if err := checkName("syncdir", dir); err != nil {
		return err
	}
	f, err := os.OpenFile(d.Path(dir), os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Space counts as free what every process may take: the blocks that a file system keeps back for
// root (5 % of ext4 by default) are left alone.
func (d osFS) Space() (Space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(d.root, &st); err != nil {
		return Space{}, &fs.PathError{Op: "statfs", Path: d.root, Err: err}
	}
	block := uint64(st.Bsize)
	return Space{TotalBytes: st.Blocks * block, FreeBytes: st.Bavail * block}, nil
}

// AlignedBytes returns n zero bytes whose memory starts at a multiple of BlockBytes, as
// File.WriteSync needs them.
func AlignedBytes(n int) []byte {
	b := make([]byte, n+BlockBytes)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) & (BlockBytes - 1)
	return b[skip : skip+n : skip+n]
}

// hugePageBytes is the size of a huge page (amd64; arm64 with pages of 4 KiB).
const hugePageBytes = 2 << 20

// HugeBytes is AlignedBytes for memory that is written from again and again. It lies in huge pages where the kernel
// has some: a direct write of 1 MiB is then one piece of memory to the disk, and not 256. It takes up to 4 MiB more
// of the heap's addresses, and whole huge pages of memory.
func HugeBytes(n int) []byte {
	whole := (n + hugePageBytes - 1) &^ (hugePageBytes - 1)
	b := make([]byte, whole+hugePageBytes)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) & (hugePageBytes - 1)
	b = b[skip : skip+whole]
	// Only advice: memory that is not taken for it is as good. The second is for what has small pages already.
	_ = unix.Madvise(b, unix.MADV_HUGEPAGE)
	_ = unix.Madvise(b, unix.MADV_COLLAPSE)
	return b[:n:n]
}

// refused is the tree that Sub gives for a name that leaves its parent: nothing in it works.
type refused struct{ dir string }

func (r refused) err(op, name string) error {
	return &fs.PathError{Op: op, Path: path.Join(r.dir, name), Err: fs.ErrInvalid}
}

func (r refused) Open(name string, _ Mode) (File, error) { return nil, r.err("open", name) }
func (r refused) Stat(name string) (Info, error)         { return Info{}, r.err("stat", name) }
func (r refused) List(dir string) ([]string, error)      { return nil, r.err("list", dir) }
func (r refused) MkdirAll(dir string) error              { return r.err("mkdir", dir) }
func (r refused) Rename(from, _ string) error            { return r.err("rename", from) }
func (r refused) Remove(name string) error               { return r.err("remove", name) }
func (r refused) RemoveAll(name string) error            { return r.err("removeall", name) }
func (r refused) SyncDir(dir string) error               { return r.err("syncdir", dir) }
func (r refused) Space() (Space, error)                  { return Space{}, r.err("statfs", ".") }
func (r refused) Sub(dir string) FS                      { return refused{path.Join(r.dir, dir)} }
func (r refused) Path(name string) string                { return path.Join(r.dir, name) }

// checkAligned is what WriteSync and ReadStored ask of memory and place, the same for every disk.
func checkAligned(op, name string, p []byte, off int64) error {
	aligned := uintptr(unsafe.Pointer(unsafe.SliceData(p)))%BlockBytes == 0
	if len(p) == 0 || len(p)%BlockBytes != 0 || off < 0 || off%BlockBytes != 0 || !aligned {
		return &fs.PathError{Op: op, Path: name, Err: fmt.Errorf(
			"%d bytes at offset %d not aligned to %d bytes: %w", len(p), off, BlockBytes, fs.ErrInvalid)}
	}
	return nil
}
