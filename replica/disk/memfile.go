package disk

import (
	"io"
	"io/fs"
	"math"
	"syscall"
)

// memFile is one run's open file of a Mem.
type memFile struct {
	m        *Mem
	epoch    uint64
	name     string // from the disk's root, as it was opened
	node     *node
	readOnly bool
	closed   bool // guarded by m.mu
}

// do runs one operation: the hook first, then fn under the lock.
func (f *memFile) do(op string, off, n int64, fn func() error) error {
	err := f.m.run(f.epoch, op, f.name, off, n, func() error {
		switch {
		case f.closed:
			return fs.ErrClosed
		case f.readOnly && op != "read" && op != "sync":
			return syscall.EBADF
		case f.node.dir:
			return syscall.EISDIR
		case off < 0 || n < 0 || off > math.MaxInt64-BlockBytes-n:
			return syscall.EINVAL
		}
		return fn()
	})
	if err != nil {
		return &fs.PathError{Op: op, Path: "mem:/" + f.name, Err: err}
	}
	return nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	read := 0
	err := f.do("read", off, int64(len(p)), func() error {
		n := f.node
		read = int(max(0, min(int64(len(p)), n.size-off)))
		for at := 0; at < read; {
			pos := off + int64(at)
			in := int(pos % BlockBytes)
			part := p[at:min(read, at+BlockBytes-in)]
			if block := n.blocks[pos/BlockBytes]; block != nil {
				copy(part, block[in:])
			} else {
				clear(part)
			}
			at += len(part)
		}
		return nil
	})
	if err == nil && read < len(p) {
		err = io.EOF
	}
	return read, err
}

func (f *memFile) ReadStored(p []byte, off int64) (int, error) {
	if err := checkAligned("readstored", "mem:/"+f.name, p, off); err != nil {
		return 0, err
	}
	return f.ReadAt(p, off)
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	err := f.do("write", off, int64(len(p)), func() error { return f.write(p, off) })
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// write changes the content, not durably. A write that does not fit is not done at all.
func (f *memFile) write(p []byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	n, end := f.node, off+int64(len(p))
	need := int64(0)
	for b := off / BlockBytes; b <= (end-1)/BlockBytes; b++ {
		if n.blocks[b] == nil {
			need++
		}
	}
	if need > 0 && !f.m.room(n, need) {
		return syscall.ENOSPC
	}
	for at := 0; at < len(p); {
		pos := off + int64(at)
		if part := p[at:]; pos%BlockBytes == 0 && len(part) >= BlockBytes && [BlockBytes]byte(part[:BlockBytes]) == *f.m.zeros {
			f.m.replace(n, pos/BlockBytes, f.m.zeros) // as Preallocate: the real one writes zeros
			at += BlockBytes
			continue
		}
		at += copy(f.m.writable(n, pos/BlockBytes)[pos%BlockBytes:], p[at:])
	}
	n.size = max(n.size, end)
	return nil
}

func (f *memFile) Truncate(sizeBytes int64) error {
	return f.do("truncate", sizeBytes, 0, func() error {
		n := f.node
		if sizeBytes < n.size {
			for b := range n.blocks {
				if b*BlockBytes >= sizeBytes {
					f.m.replace(n, b, nil)
				}
			}
			if in := sizeBytes % BlockBytes; in > 0 && n.blocks[sizeBytes/BlockBytes] != nil {
				clear(f.m.writable(n, sizeBytes/BlockBytes)[in:])
			}
		}
		n.size = sizeBytes
		return nil
	})
}

func (f *memFile) PunchHole(off, length int64) error {
	return f.do("punch", off, length, func() error {
		n, end := f.node, off+length
		if length == 0 {
			return syscall.EINVAL // as fallocate(2)
		}
		for b := range n.blocks {
			from, to := max(off, b*BlockBytes), min(end, (b+1)*BlockBytes)
			switch {
			case from >= to:
			case to-from == BlockBytes:
				f.m.replace(n, b, nil)
			default:
				clear(f.m.writable(n, b)[from%BlockBytes:][:to-from])
			}
		}
		return nil
	})
}

func (f *memFile) Preallocate(sizeBytes int64) error {
	return f.do("preallocate", 0, max(0, sizeBytes), func() error {
		n := f.node
		blocks := (sizeBytes + BlockBytes - 1) / BlockBytes
		need := int64(0)
		for b := range blocks {
			if n.blocks[b] == nil {
				need++
			}
		}
		if !f.m.room(n, need) {
			return syscall.ENOSPC
		}
		for b := range blocks {
			if (b+1)*BlockBytes <= sizeBytes {
				f.m.replace(n, b, f.m.zeros)
			} else {
				clear(f.m.writable(n, b)[:sizeBytes%BlockBytes])
			}
		}
		n.size = max(n.size, sizeBytes)
		f.sync()
		return nil
	})
}

func (f *memFile) StartWriteback(off, length int64) error {
	return f.do("writeback", off, length, func() error { return nil })
}

func (f *memFile) WriteDirect(p []byte, off int64) error {
	if err := checkAligned("writedirect", "mem:/"+f.name, p, off); err != nil {
		return err
	}
	_, err := f.WriteAt(p, off)
	return err
}

func (f *memFile) DropCached() error { return f.do("drop", 0, 0, func() error { return nil }) }

func (f *memFile) Sync() error {
	return f.do("sync", 0, 0, func() error {
		f.sync()
		return nil
	})
}

func (f *memFile) sync() {
	clear(f.node.lost)
	f.node.durableSize = f.node.size
}

func (f *memFile) WriteSync(p []byte, off int64) error {
	if err := checkAligned("writesync", "mem:/"+f.name, p, off); err != nil {
		return err
	}
	length := int64(len(p))
	if err := f.do("writesync", off, length, func() error { return f.write(p, off) }); err != nil {
		return err
	}
	return f.do("sync", off, length, func() error {
		for b := off / BlockBytes; b < (off+length)/BlockBytes; b++ {
			delete(f.node.lost, b)
		}
		f.node.durableSize = max(f.node.durableSize, off+length)
		return nil
	})
}

func (f *memFile) Stat() (Info, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.epoch != f.m.epoch {
		return Info{}, &fs.PathError{Op: "stat", Path: "mem:/" + f.name, Err: errCrashed}
	}
	return f.node.info(), nil
}

// Close has no hook: nothing of the disk depends on it.
func (f *memFile) Close() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.closed {
		return &fs.PathError{Op: "close", Path: "mem:/" + f.name, Err: fs.ErrClosed}
	}
	f.closed = true
	return nil
}
