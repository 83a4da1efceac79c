package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const zeroChunkBytes = 1 << 20 // what Preallocate writes at a time

// writePieceBytes is the most that WriteAt writes at a time, between multiples of it. Linux keeps the pages of one
// write together (a large folio; ext4 from 6.16 on), and each later write of 4 KiB into them looks at all their
// blocks: 15 to 19 us of processor time among 1 MiB, under 4 us among 64 KiB (BenchmarkWriteAt), which take 20 us
// more per MiB to write.
const writePieceBytes = 64 << 10

type osFile struct {
	f   *os.File
	raw syscall.RawConn // of f: keeps the descriptor open while a call uses it

	mu     sync.Mutex // guards below; not held across I/O, except an open
	synced direct     // O_DIRECT|O_DSYNC
	plain  direct     // O_DIRECT
	closed bool
}

// direct is the same file once more, for writes past the kernel's memory of it.
type direct struct {
	file    *os.File // nil: not opened, or refused
	refused bool     // the file system does not take O_DIRECT
}

func newOSFile(f *os.File) (*osFile, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &osFile{f: f, raw: raw}, nil
}

func (f *osFile) ReadAt(p []byte, off int64) (int, error) { return f.f.ReadAt(p, off) }
func (f *osFile) Truncate(sizeBytes int64) error          { return f.f.Truncate(sizeBytes) }

func (f *osFile) WriteAt(p []byte, off int64) (done int, err error) {
	for {
		at := off + int64(done)
		n, err := f.f.WriteAt(p[done:min(len(p), done+writePieceBytes-int(at%writePieceBytes))], at)
		if done += n; err != nil || done == len(p) {
			return done, err
		}
	}
}

// call runs one system call on the file's descriptor, again after a signal.
func (f *osFile) call(op string, fn func(fd int) error) error {
	var err error
	control := f.raw.Control(func(fd uintptr) {
		for {
			if err = fn(int(fd)); err != unix.EINTR {
				return
			}
		}
	})
	if err == nil {
		err = control
	}
	if err != nil {
		return &fs.PathError{Op: op, Path: f.f.Name(), Err: err}
	}
	return nil
}

func (f *osFile) PunchHole(off, length int64) error {
	return f.call("punch hole in", func(fd int) error {
		return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, length)
	})
}

// Preallocate writes past the page cache where it can: zeros there would cost a copy now and their
// removal with every WriteSync later.
func (f *osFile) Preallocate(sizeBytes int64) error {
	zeros := AlignedBytes(int(min(zeroChunkBytes, max(sizeBytes, 0))))
	if direct, err := f.reopen(unix.O_WRONLY | unix.O_DIRECT); err == nil {
		// One extent, if the file system can: the writes then only turn it into written blocks.
		_ = f.call("allocate", func(fd int) error { return unix.Fallocate(fd, 0, 0, sizeBytes) })
		err = errors.Join(writeZeros(direct, zeros, sizeBytes), direct.Close())
		if !errors.Is(err, unix.EINVAL) {
			return errors.Join(err, f.Sync())
		}
	}
	return errors.Join(writeZeros(f.f, zeros, sizeBytes), f.Sync())
}

func writeZeros(to *os.File, zeros []byte, sizeBytes int64) error {
	for off := int64(0); off < sizeBytes; off += int64(len(zeros)) {
		if _, err := to.WriteAt(zeros[:min(int64(len(zeros)), sizeBytes-off)], off); err != nil {
			return err
		}
	}
	return nil
}

func (f *osFile) StartWriteback(off, length int64) error {
	return f.call("start write-back of", func(fd int) error {
		return unix.SyncFileRange(fd, off, length, unix.SYNC_FILE_RANGE_WRITE)
	})
}

func (f *osFile) DropCached() error {
	return f.call("drop from memory", func(fd int) error { return unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED) })
}

func (f *osFile) Sync() error { return f.call("fdatasync", unix.Fdatasync) }

func (f *osFile) WriteSync(p []byte, off int64) error {
	if err := checkAligned("writesync", f.f.Name(), p, off); err != nil {
		return err
	}
	if done, err := f.writeDirect(&f.synced, unix.O_DSYNC, p, off); done {
		return err
	}
	if _, err := f.f.WriteAt(p, off); err != nil {
		return err
	}
	return f.Sync()
}

func (f *osFile) WriteDirect(p []byte, off int64) error {
	if err := checkAligned("writedirect", f.f.Name(), p, off); err != nil {
		return err
	}
	done, err := f.writeDirect(&f.plain, 0, p, off)
	if !done {
		_, err = f.WriteAt(p, off)
	}
	return err
}

// writeDirect writes with O_DIRECT and these flags; not done: the file system cannot, and nothing was written.
func (f *osFile) writeDirect(d *direct, flags int, p []byte, off int64) (done bool, err error) {
	file, err := f.openDirect(d, flags)
	if file == nil {
		return err != nil, err
	}
	// A whole O_DIRECT write of aligned memory is refused with EINVAL before a byte of it
	// is written; any other error is the disk's.
	if _, err = file.WriteAt(p, off); !errors.Is(err, unix.EINVAL) {
		return true, err
	}
	f.mu.Lock()
	d.refused = true
	f.mu.Unlock()
	return false, nil
}

func (f *osFile) ReadStored(p []byte, off int64) (int, error) {
	if err := checkAligned("readstored", f.f.Name(), p, off); err != nil {
		return 0, err
	}
	direct, err := f.reopen(unix.O_RDONLY | unix.O_DIRECT)
	if err == nil {
		defer direct.Close()
		var got int
		if got, err = readUpTo(direct, p, off); err == nil && got < len(p) {
			err = io.EOF
		}
		if !errors.Is(err, unix.EINVAL) {
			return got, err
		}
	}
	if !errors.Is(err, unix.EINVAL) {
		return 0, err
	}
	_ = f.call("forget", func(fd int) error { // only advice
		return unix.Fadvise(fd, off, int64(len(p)), unix.FADV_DONTNEED)
	})
	return f.f.ReadAt(p, off)
}

// readUpTo fills p as far as the file goes. A direct read that ends inside of a block has met the
// file's end; another one from there would not be aligned.
func readUpTo(direct *os.File, p []byte, off int64) (got int, err error) {
	for got < len(p) && got%BlockBytes == 0 {
		n, err := unix.Pread(int(direct.Fd()), p[got:], off+int64(got))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return got, &fs.PathError{Op: "read directly", Path: direct.Name(), Err: err}
		}
		if n == 0 {
			break
		}
		got += n
	}
	return got, nil
}

// openDirect returns the descriptor for direct writes, nil when there is none: the buffered way is
// as durable, only slower.
func (f *osFile) openDirect(d *direct, flags int) (*os.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, &fs.PathError{Op: "write directly", Path: f.f.Name(), Err: fs.ErrClosed}
	}
	if d.refused {
		return nil, nil
	}
	if d.file == nil {
		file, err := f.reopen(unix.O_WRONLY | unix.O_DIRECT | flags)
		if d.refused = err != nil; d.refused {
			return nil, nil
		}
		d.file = file
	}
	return d.file, nil
}

// reopen opens the file once more, with these flags. Through /proc, not by name: it may
// have been renamed since.
func (f *osFile) reopen(flags int) (again *os.File, err error) {
	err = f.call("open", func(fd int) error {
		n, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_CLOEXEC|flags, 0)
		if err == nil {
			again = os.NewFile(uintptr(n), f.f.Name())
		}
		return err
	})
	return again, err
}

func (f *osFile) Stat() (Info, error) {
	fi, err := f.f.Stat()
	if err != nil {
		return Info{}, err
	}
	return infoOf(fi), nil
}

func (f *osFile) Close() error {
	f.mu.Lock()
	synced, plain := f.synced.file, f.plain.file
	f.synced.file, f.plain.file, f.closed = nil, nil, true
	f.mu.Unlock()
	err := f.f.Close()
	for _, direct := range []*os.File{synced, plain} {
		if direct != nil {
			err = errors.Join(err, direct.Close())
		}
	}
	return err
}

func infoOf(fi fs.FileInfo) Info {
	info := Info{SizeBytes: fi.Size(), Dir: fi.IsDir()}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		info.AllocatedBytes = st.Blocks * 512 // st_blocks counts 512 bytes whatever the file system
	}
	return info
}
