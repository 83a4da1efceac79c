package rescue

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"trinas/replica/disk"
	"trinas/replica/volume"
)

// Copier copies files out of a volume. Zeros become holes; mode, times and, for root, owner are
// kept, and so are hard links between copied files. What is there already is never overwritten.
type Copier struct {
	Volume *Volume
	// Progress is told of every file's bytes as they are copied; may be nil.
	Progress func(name string, doneBytes, sizeBytes uint64)
	// Skipped is told of what cannot be copied (devices, when not root); may be nil.
	Skipped func(name, reason string)
	// Damaged is told of files that cannot be read whole, by each of their names; may be nil. What can be read of them is at
	// name + DamagedSuffix, with zeros for the rest, so that nobody takes it for the file.
	Damaged func(name, reason string)

	Files        int    // copied so far, of all types; without those below
	DataBytes    uint64 // of regular files, with their holes
	SkippedFiles int
	DamagedFiles int

	links map[volume.FileID]string // first copy of a file that has several names
	lost  map[volume.FileID]string // the same of one that cannot be read whole
	buf   []byte
}

// DamagedSuffix is what the names of copies end in that lack something.
const DamagedSuffix = ".damaged"

// Copy copies the file or directory at name (in the volume) to dest. A dest that is a directory
// gets the copy inside, under its own name. It returns once every copied file is synced.
func (c *Copier) Copy(ctx context.Context, name, dest string) error {
	attr, err := c.Volume.Lookup(name)
	if err != nil {
		return err
	}
	if info, err := os.Stat(dest); err == nil && info.IsDir() {
		base := c.Volume.Name
		if parts := split(name); len(parts) > 0 {
			base = parts[len(parts)-1]
		}
		dest = filepath.Join(dest, base)
	}
	c.links, c.lost = map[volume.FileID]string{}, map[volume.FileID]string{}
	c.buf = make([]byte, volume.MaxIOBytes)
	return c.copy(ctx, attr, name, dest)
}

func (c *Copier) copy(ctx context.Context, attr volume.Attr, name, dest string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("copy of %s: %w", name, err)
	}
	if first, known := c.links[attr.File]; known {
		return c.made(os.Link(first, dest))
	}
	if first, known := c.lost[attr.File]; known {
		if err := os.Link(first, dest+DamagedSuffix); err != nil {
			return fmt.Errorf("%w: choose another destination; nothing is overwritten", err)
		}
		c.damaged(name, "as under its other name")
		return nil
	}
	var err error
	switch attr.Type {
	case volume.Directory:
		err = c.directory(ctx, attr, name, dest)
	case volume.Regular:
		var lost error
		if lost, err = c.regular(ctx, attr, name, dest); lost != nil && err == nil {
			c.lost[attr.File] = dest + DamagedSuffix
			c.damaged(name, lost.Error())
			return keepAttributes(attr, dest+DamagedSuffix)
		}
	case volume.SymLink:
		var target string
		if target, err = c.Volume.ReadLink(attr, name); err == nil {
			err = os.Symlink(target, dest)
		}
	default:
		err = mknod(attr, dest)
		if errors.Is(err, fs.ErrPermission) {
			c.skip(name, "only root may make devices")
			return nil
		}
	}
	if err != nil {
		return c.made(err)
	}
	if attr.Nlink > 1 && attr.Type != volume.Directory {
		c.links[attr.File] = dest
	}
	return c.made(keepAttributes(attr, dest))
}

// made counts a copied file, or gives the error the next step.
func (c *Copier) made(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: choose another destination; nothing is overwritten", err)
	}
	if err == nil {
		c.Files++
	}
	return err
}

func (c *Copier) damaged(name, reason string) {
	c.DamagedFiles++
	if c.Damaged != nil {
		c.Damaged(name, reason)
	}
}

func (c *Copier) skip(name, reason string) {
	c.SkippedFiles++
	if c.Skipped != nil {
		c.Skipped(name, reason)
	}
}

func (c *Copier) directory(ctx context.Context, attr volume.Attr, name, dest string) error {
	if err := os.Mkdir(dest, 0o700); err != nil {
		return err
	}
	entries, err := c.Volume.ReadDir(attr, name)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := c.copy(ctx, e.Attr, filepath.Join(name, e.Name), filepath.Join(dest, e.Name)); err != nil {
			return err
		}
	}
	return syncDir(dest)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// regular copies a regular file. lost says what of it cannot be read; the copy is then at dest + DamagedSuffix.
func (c *Copier) regular(ctx context.Context, attr volume.Attr, name, dest string) (lost, err error) {
	out, err := os.OpenFile(dest, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	lost, err = c.bytes(ctx, attr, name, out)
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil || lost == nil {
		return lost, err
	}
	if _, err := os.Lstat(dest + DamagedSuffix); !errors.Is(err, fs.ErrNotExist) {
		return lost, &fs.PathError{Op: "rename", Path: dest + DamagedSuffix, Err: cmp.Or(err, fs.ErrExist)}
	}
	return lost, os.Rename(dest, dest+DamagedSuffix)
}

func (c *Copier) bytes(ctx context.Context, attr volume.Attr, name string, out *os.File) (lost, err error) {
	if err := out.Truncate(int64(attr.SizeBytes)); err != nil {
		return nil, err
	}
	var missing uint64
	var first error
	piece := uint64(len(c.buf))
	for off, whole := uint64(0), uint64(0); off < attr.SizeBytes; { // whole: up to there it is read block by block
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("copy of %s: %w", name, err)
		}
		want := min(piece, attr.SizeBytes-off)
		if off < whole {
			want = min(disk.BlockBytes, whole-off)
		}
		n, err := c.Volume.readAt(attr, name, c.buf[:want], int64(off))
		if errors.Is(err, io.EOF) && n > 0 {
			err = nil
		}
		switch {
		case err != nil && off >= whole && want > disk.BlockBytes:
			whole = off + want
			continue
		case err != nil: // left out
			first = cmp.Or(first, err)
			missing += want
			off += want
			continue
		}
		if err := writeSparse(out, c.buf[:n], int64(off)); err != nil {
			return nil, err
		}
		off += uint64(n)
		c.DataBytes += uint64(n)
		if c.Progress != nil {
			c.Progress(name, off, attr.SizeBytes)
		}
	}
	if missing > 0 {
		return fmt.Errorf("%d of %d bytes cannot be read, the first because of: %w", missing, attr.SizeBytes, first), nil
	}
	return nil, nil
}

// writeSparse writes p at off, but leaves out blocks of zeros: the file is new and has its size,
// so they read as zeros.
func writeSparse(out io.WriterAt, p []byte, off int64) error {
	var zeros [disk.BlockBytes]byte
	start := 0 // of the run of blocks that has to be written
	for at := 0; at < len(p); at += disk.BlockBytes {
		end := min(at+disk.BlockBytes, len(p))
		if !bytes.Equal(p[at:end], zeros[:end-at]) {
			continue
		}
		if start < at {
			if _, err := out.WriteAt(p[start:at], off+int64(start)); err != nil {
				return err
			}
		}
		start = end
	}
	if start < len(p) {
		_, err := out.WriteAt(p[start:], off+int64(start))
		return err
	}
	return nil
}

func mknod(attr volume.Attr, dest string) error {
	kind := map[volume.FileType]uint32{volume.Block: unix.S_IFBLK, volume.Char: unix.S_IFCHR,
		volume.Socket: unix.S_IFSOCK, volume.FIFO: unix.S_IFIFO}[attr.Type]
	err := unix.Mknod(dest, kind|0o600, int(unix.Mkdev(attr.Rdev[0], attr.Rdev[1])))
	if err != nil {
		return &fs.PathError{Op: "mknod", Path: dest, Err: err}
	}
	return nil
}

// keepAttributes gives the copy its owner, mode and times, in this order: a change of owner
// clears set-id bits.
func keepAttributes(attr volume.Attr, dest string) error {
	if os.Geteuid() == 0 {
		if err := os.Lchown(dest, int(attr.UID), int(attr.GID)); err != nil {
			return err
		}
	}
	if attr.Type != volume.SymLink {
		if err := syscall.Chmod(dest, attr.Mode&0o7777); err != nil {
			return &fs.PathError{Op: "chmod", Path: dest, Err: err}
		}
	}
	times := []unix.Timespec{unix.NsecToTimespec(attr.Atime), unix.NsecToTimespec(attr.Mtime)}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, dest, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "utimensat", Path: dest, Err: err}
	}
	return nil
}
