package powerdisk

import (
	"context"
	"errors"
	"io"
	iofs "io/fs"
	"path"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"trinas/replica/disk"
)

// node is a file or directory as the kernel knows it. All that it holds is its place in the tree: what
// is there is asked of the disk each time, since a loss of power may change it.
type node struct {
	fs.Inode
	disk *Disk
}

var (
	_ fs.NodeStatfser  = (*node)(nil)
	_ fs.NodeGetattrer = (*node)(nil)
	_ fs.NodeSetattrer = (*node)(nil)
	_ fs.NodeLookuper  = (*node)(nil)
	_ fs.NodeReaddirer = (*node)(nil)
	_ fs.NodeOpener    = (*node)(nil)
	_ fs.NodeCreater   = (*node)(nil)
	_ fs.NodeMkdirer   = (*node)(nil)
	_ fs.NodeUnlinker  = (*node)(nil)
	_ fs.NodeRmdirer   = (*node)(nil)
	_ fs.NodeRenamer   = (*node)(nil)
	_ fs.NodeFsyncer   = (*node)(nil)
)

// at is the path of an entry of n, or n's own for "".
func (n *node) at(name string) string { return path.Join(".", n.Path(nil), name) }

// errnoOf is the errno in an error of the disk.
func errnoOf(err error) syscall.Errno {
	var errno syscall.Errno
	switch {
	case err == nil:
		return fs.OK
	case errors.As(err, &errno):
		return errno
	case errors.Is(err, iofs.ErrNotExist):
		return syscall.ENOENT
	case errors.Is(err, iofs.ErrExist):
		return syscall.EEXIST
	case errors.Is(err, iofs.ErrInvalid):
		return syscall.EINVAL
	}
	return syscall.EIO
}

func modeOf(info disk.Info) uint32 {
	if info.Dir {
		return syscall.S_IFDIR | 0o700
	}
	return syscall.S_IFREG | 0o600
}

func fill(out *fuse.Attr, info disk.Info) {
	out.Mode = modeOf(info)
	out.Nlink = 1
	out.Size = uint64(info.SizeBytes)
	out.Blocks = uint64(info.AllocatedBytes) / 512
	out.Blksize = disk.BlockBytes
}

func (n *node) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	space, err := n.disk.tree().Space()
	out.Bsize, out.Frsize, out.NameLen = disk.BlockBytes, disk.BlockBytes, 255
	out.Blocks = space.TotalBytes / disk.BlockBytes
	out.Bfree = space.FreeBytes / disk.BlockBytes
	out.Bavail = out.Bfree
	return errnoOf(err)
}

// Getattr asks an open file, which may have lost its name. Where the kernel names none go-fuse picks any that
// is open: one of a run that has lost its power answers nothing, though the next run is the one that asks.
func (n *node) Getattr(_ context.Context, f fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	if open, ok := f.(*handle); ok {
		if info, err := open.file.Stat(); err == nil {
			fill(&out.Attr, info)
			return fs.OK
		}
	}
	info, err := n.disk.tree().Stat(n.at(""))
	fill(&out.Attr, info)
	return errnoOf(err)
}

// Setattr sets the size. Owners, modes and times are nobody's business here.
func (n *node) Setattr(ctx context.Context, f fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if size, ok := in.GetSize(); ok {
		if open, ok := f.(*handle); ok {
			if err := open.file.Truncate(int64(size)); err != nil {
				return errnoOf(err)
			}
		} else {
			file, err := n.disk.tree().Open(n.at(""), disk.ReadWrite)
			if err == nil {
				err = errors.Join(file.Truncate(int64(size)), file.Close())
			}
			if err != nil {
				return errnoOf(err)
			}
		}
	}
	return n.Getattr(ctx, f, out)
}

func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	info, err := n.disk.tree().Stat(n.at(name))
	if err != nil {
		return nil, errnoOf(err)
	}
	fill(&out.Attr, info)
	return n.child(ctx, name, info), fs.OK
}

// child is the kernel's node for an entry: the one that it has, or a new one.
func (n *node) child(ctx context.Context, name string, info disk.Info) *fs.Inode {
	mode := modeOf(info) & syscall.S_IFMT
	if known := n.GetChild(name); known != nil && known.Mode() == mode {
		return known
	}
	return n.NewInode(ctx, &node{disk: n.disk}, fs.StableAttr{Mode: mode})
}

func (n *node) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	tree := n.disk.tree()
	names, err := tree.List(n.at(""))
	if err != nil {
		return nil, errnoOf(err)
	}
	var entries []fuse.DirEntry
	for _, name := range names {
		if info, err := tree.Stat(n.at(name)); err == nil {
			entries = append(entries, fuse.DirEntry{Name: name, Mode: modeOf(info)})
		}
	}
	return fs.NewListDirStream(entries), fs.OK
}

func (n *node) open(name string, mode disk.Mode, flags uint32) (*handle, uint32, syscall.Errno) {
	if flags&unix.O_ACCMODE == unix.O_RDONLY && mode != disk.Create {
		mode = disk.ReadOnly
	}
	file, err := n.disk.tree().Open(n.at(name), mode)
	if err != nil {
		return nil, 0, errnoOf(err)
	}
	if flags&unix.O_TRUNC != 0 {
		if err := file.Truncate(0); err != nil {
			return nil, 0, errnoOf(err)
		}
	}
	return &handle{file: file, synced: flags&(unix.O_DSYNC|unix.O_SYNC) != 0}, fuse.FOPEN_DIRECT_IO, fs.OK
}

func (n *node) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return n.open("", disk.ReadWrite, flags)
}

func (n *node) Create(ctx context.Context, name string, flags, _ uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	h, how, errno := n.open(name, disk.Create, flags)
	if errno != fs.OK {
		return nil, nil, 0, errno
	}
	info, err := h.file.Stat()
	fill(&out.Attr, info)
	return n.child(ctx, name, info), h, how, errnoOf(err)
}

func (n *node) Mkdir(ctx context.Context, name string, _ uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if err := n.disk.tree().MkdirAll(n.at(name)); err != nil {
		return nil, errnoOf(err)
	}
	info := disk.Info{Dir: true}
	fill(&out.Attr, info)
	return n.child(ctx, name, info), fs.OK
}

func (n *node) Unlink(_ context.Context, name string) syscall.Errno {
	return errnoOf(n.disk.tree().Remove(n.at(name)))
}

func (n *node) Rmdir(_ context.Context, name string) syscall.Errno {
	return errnoOf(n.disk.tree().Remove(n.at(name)))
}

func (n *node) Rename(_ context.Context, name string, to fs.InodeEmbedder, toName string, flags uint32) syscall.Errno {
	if flags != 0 {
		return syscall.EINVAL
	}
	dir, ok := to.(*node)
	if !ok {
		return syscall.EXDEV
	}
	return errnoOf(n.disk.tree().Rename(n.at(name), dir.at(toName)))
}

// Fsync is for files and, without a handle of ours, for directories.
func (n *node) Fsync(_ context.Context, f fs.FileHandle, _ uint32) syscall.Errno {
	if open, ok := f.(*handle); ok {
		return errnoOf(open.file.Sync())
	}
	return errnoOf(n.disk.tree().SyncDir(n.at("")))
}

// handle is an open file.
type handle struct {
	file   disk.File
	synced bool // O_DSYNC: what is written is durable when the write returns
}

var (
	_ fs.FileReader    = (*handle)(nil)
	_ fs.FileWriter    = (*handle)(nil)
	_ fs.FileAllocater = (*handle)(nil)
	_ fs.FileReleaser  = (*handle)(nil)
)

func (h *handle) Read(_ context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	got, err := h.file.ReadAt(dest, off)
	if err == io.EOF {
		err = nil
	}
	return fuse.ReadResultData(dest[:got]), errnoOf(err)
}

func (h *handle) Write(_ context.Context, data []byte, off int64) (uint32, syscall.Errno) {
	var err error
	if h.synced {
		// Durable are these bytes and no others: a sync of the file would hide one that is missing.
		own := disk.AlignedBytes(len(data))
		copy(own, data)
		err = h.file.WriteSync(own, off)
	} else {
		_, err = h.file.WriteAt(data, off)
	}
	if err != nil {
		return 0, errnoOf(err)
	}
	return uint32(len(data)), fs.OK
}

// Allocate punches holes; nothing else of fallocate(2) is there.
func (h *handle) Allocate(_ context.Context, off, size uint64, mode uint32) syscall.Errno {
	if mode != unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE {
		return syscall.EOPNOTSUPP
	}
	return errnoOf(h.file.PunchHole(int64(off), int64(size)))
}

func (h *handle) Release(context.Context) syscall.Errno { return errnoOf(h.file.Close()) }
