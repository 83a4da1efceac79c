// Package disk is the only way the replica reaches a node's disk. It holds the two file systems
// that the code above runs on: the real one (OS) and an in-memory one that can crash, fail and
// be slow (Mem). It must never hide an error or answer for a sync that did not happen.
//
// Floor 0: imports nothing of trinas.
package disk

import "io"

// BlockBytes is the unit of durability that the code above relies on: a disk may tear a write
// between blocks of this size, never inside one, and a write never damages a neighbouring block.
// Log frames and zero detection are aligned to it.
const BlockBytes = 4096

// Mode says how Open opens a file.
type Mode int

const (
	ReadOnly  Mode = iota // the file must exist
	ReadWrite             // the file must exist
	Create                // read and write; made empty when it does not exist
)

// Info describes one file or directory.
type Info struct {
	SizeBytes      int64
	AllocatedBytes int64 // bytes that take room on the disk; holes count nothing
	Dir            bool
}

// Space describes the file system under an FS.
type Space struct {
	TotalBytes, FreeBytes uint64 // free: what this process may still take
}

// FS is one directory tree. Names are slash-separated and relative to its root, which is ".";
// names that leave the root ("..", absolute) or are empty are refused with fs.ErrInvalid, and so
// is removing or renaming the root itself. Errors match fs.ErrNotExist and fs.ErrExist of io/fs and
// syscall.ENOSPC, syscall.EIO by errors.Is; they name the operation and the file.
//
// Nothing is durable before the call that says so: File.Sync or WriteSync for content and size,
// SyncDir for creation, Rename and Remove.
type FS interface {
	Open(name string, mode Mode) (File, error)
	Stat(name string) (Info, error)
	List(dir string) ([]string, error) // names in dir, sorted
	MkdirAll(dir string) error
	Rename(from, to string) error // replaces to, atomically
	Remove(name string) error     // a file or an empty directory
	RemoveAll(name string) error
	SyncDir(dir string) error // returns once creations, renames and removals in dir are durable
	Space() (Space, error)
	Sub(dir string) FS       // the tree under dir; dir need not exist yet
	Path(name string) string // for messages to people: the full path
}

// File is an open file. Offsets and lengths are bytes. ReadAt past the end gives io.EOF as
// io.ReaderAt says; holes read as zeros. Safe for concurrent use.
type File interface {
	io.ReaderAt
	io.WriterAt
	// ReadStored is ReadAt of what the disk holds: past the kernel's memory of the file, once what
	// of the range is not on the disk yet has been brought there. p, off and len(p) as with
	// WriteSync. Where the file system takes no O_DIRECT the kernel is told to forget the range
	// first, which it may not heed.
	ReadStored(p []byte, off int64) (int, error)
	// WriteDirect is WriteAt past the kernel's memory of the file, where the file system can (O_DIRECT): for much at once
	// that nobody is about to read. It makes nothing durable. p, off and len(p) as with WriteSync.
	WriteDirect(p []byte, off int64) error
	// Truncate sets the size; growth is a hole.
	Truncate(sizeBytes int64) error
	// PunchHole makes [off, off+length) read as zeros and frees its blocks; the size stays.
	PunchHole(off, length int64) error
	// Preallocate writes zeros over [0, sizeBytes), so that later writes there change no
	// file-system metadata (an extent that is only reserved would).
	Preallocate(sizeBytes int64) error
	// StartWriteback hints that [off, off+length) should go to the disk soon; it does not wait
	// for the disk and makes nothing durable. Length 0: to the end.
	StartWriteback(off, length int64) error
	// DropCached hints that the kernel need not keep in memory what it has of the file and is on the disk.
	DropCached() error
	// Sync returns once content and size are durable (fdatasync). After an error nothing is
	// known about what is durable: the caller must stop, not retry.
	Sync() error
	// WriteSync writes p at off and returns once it is durable. p, off and len(p) are multiples
	// of BlockBytes, and p's memory is aligned to it (AlignedBytes): the real disk then writes
	// with O_DIRECT|O_DSYNC where the file system can, else write and fdatasync. Within a
	// preallocated file no metadata is touched.
	WriteSync(p []byte, off int64) error
	Stat() (Info, error)
	Close() error
}
