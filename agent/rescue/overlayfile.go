package rescue

import (
	"fmt"
	"io"
	"io/fs"
	"sync"

	"trinas/replica/disk"
)

// file is one file of an overlay: a file of the base (or none) under changed blocks.
//
// Invariant: where blocks has no entry, the bytes before shown are the base's and those from
// shown on are zeros. In a block that blocks has, bytes from size on are zeros.
type file struct {
	tree *tree
	base string // its name in the base; "": it has none

	// Held across reads and writes: copying a block and marking it copied is one step, and no
	// server waits for a file of an overlay.
	mu     sync.RWMutex
	open   int
	gone   bool      // has no name any more; freed when the last handle closes
	source disk.File // base, open while a handle is
	size   int64     // bytes
	shown  int64     // bytes from the start that show the base where no block does
	blocks map[int64]int64
}

// hole in blocks stands for a block of zeros that takes no place in the scratch file.
const hole = -1

func newFile(t *tree, base string, sizeBytes int64) *file {
	return &file{tree: t, base: base, size: sizeBytes, shown: sizeBytes}
}

// acquire counts a handle, and opens the base for the first.
func (f *file) acquire() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open == 0 && f.base != "" {
		source, err := f.tree.base.Open(f.base, disk.ReadOnly)
		if err != nil {
			return err
		}
		f.source = source
	}
	f.open++
	return nil
}

func (f *file) release() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open--
	if f.open > 0 {
		return nil
	}
	if f.gone {
		f.free(0)
	}
	if f.source == nil {
		return nil
	}
	err := f.source.Close()
	f.source = nil
	return err
}

// unlink is told that the file has lost its name.
func (f *file) unlink() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gone = true
	if f.open == 0 {
		f.free(0)
	}
}

// free forgets the blocks from block number first on. The caller holds mu.
func (f *file) free(first int64) {
	for n, slot := range f.blocks {
		if n >= first {
			f.tree.scratch.free(slot)
			delete(f.blocks, n)
		}
	}
}

func (f *file) info() disk.Info {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return disk.Info{SizeBytes: f.size, AllocatedBytes: f.size}
}

func (f *file) readAt(p []byte, off int64) (int, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if off < 0 {
		return 0, fs.ErrInvalid
	}
	if off >= f.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), f.size-off))
	for done := 0; done < n; {
		at := off + int64(done)
		end := min(done+int(disk.BlockBytes-at%disk.BlockBytes), n)
		if err := f.readWithin(p[done:end], at); err != nil {
			return done, err
		}
		done = end
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// readWithin reads bytes that lie in one block. The caller holds mu.
func (f *file) readWithin(p []byte, off int64) error {
	slot, changed := f.blocks[off/disk.BlockBytes]
	if changed {
		return f.tree.scratch.read(slot, p, off%disk.BlockBytes)
	}
	n := 0
	if off < f.shown {
		want := min(int64(len(p)), f.shown-off)
		var err error
		n, err = f.source.ReadAt(p[:want], off)
		if int64(n) < want {
			return fmt.Errorf("read %s at %d: %w", f.tree.base.Path(f.base), off, unexpected(err))
		}
	}
	clear(p[n:])
	return nil
}

// unexpected turns an end of file where bytes must be into the error that it is.
func unexpected(err error) error {
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (f *file) writeAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if off < 0 {
		return 0, fs.ErrInvalid
	}
	done := 0
	for done < len(p) {
		at := off + int64(done)
		end := min(done+int(disk.BlockBytes-at%disk.BlockBytes), len(p))
		if err := f.writeWithin(p[done:end], at); err != nil {
			return done, err
		}
		done = end
		f.size = max(f.size, off+int64(done))
	}
	return done, nil
}

// writeWithin writes bytes that lie in one block. The caller holds mu.
func (f *file) writeWithin(p []byte, off int64) error {
	n := off / disk.BlockBytes
	slot, changed := f.blocks[n]
	if changed && slot != hole {
		return f.tree.scratch.write(slot, p, off%disk.BlockBytes)
	}
	var whole [disk.BlockBytes]byte
	if len(p) < disk.BlockBytes {
		if err := f.readWithin(whole[:], n*disk.BlockBytes); err != nil {
			return err
		}
	}
	copy(whole[off%disk.BlockBytes:], p)
	return f.put(n, whole[:])
}

// put gives block n the bytes of whole, in a new place. The caller holds mu.
func (f *file) put(n int64, whole []byte) error {
	slot := f.tree.scratch.take()
	if err := f.tree.scratch.write(slot, whole, 0); err != nil {
		f.tree.scratch.free(slot)
		return err
	}
	f.set(n, slot)
	return nil
}

func (f *file) set(n, slot int64) {
	if f.blocks == nil {
		f.blocks = map[int64]int64{}
	}
	f.blocks[n] = slot
}

func (f *file) truncate(size int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if size < 0 {
		return fs.ErrInvalid
	}
	if size < f.size {
		if cut := size % disk.BlockBytes; cut != 0 {
			if _, changed := f.blocks[size/disk.BlockBytes]; changed {
				if err := f.zeroWithin(size, disk.BlockBytes-cut); err != nil {
					return err
				}
			}
		}
		f.free((size + disk.BlockBytes - 1) / disk.BlockBytes)
		f.shown = min(f.shown, size)
	}
	f.size = size
	return nil
}

// zeroWithin clears bytes that lie in one block. The caller holds mu.
func (f *file) zeroWithin(off, length int64) error {
	n := off / disk.BlockBytes
	slot, changed := f.blocks[n]
	switch {
	case slot == hole && changed, !changed && off >= f.shown:
		return nil
	case length == disk.BlockBytes:
		if changed {
			f.tree.scratch.free(slot)
		}
		f.set(n, hole)
		return nil
	}
	return f.writeWithin(make([]byte, length), off)
}

func (f *file) punch(off, length int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if off < 0 || length < 0 {
		return fs.ErrInvalid
	}
	end := min(off+length, f.size)
	for at := off; at < end; {
		next := min(at-at%disk.BlockBytes+disk.BlockBytes, end)
		length := next - at
		if next == f.size { // what lies behind the end is zeros already
			length = disk.BlockBytes - at%disk.BlockBytes
		}
		if err := f.zeroWithin(at, length); err != nil {
			return err
		}
		at = next
	}
	return nil
}

// handle is an open file of an overlay.
type handle struct {
	file     *file
	name     string
	readOnly bool
	once     sync.Once
	err      error
}

func (h *handle) ReadAt(p []byte, off int64) (int, error) { return h.file.readAt(p, off) }

func (h *handle) WriteAt(p []byte, off int64) (int, error) {
	if h.readOnly {
		return 0, failed("write", h.name, fs.ErrPermission)
	}
	n, err := h.file.writeAt(p, off)
	if err != nil {
		return n, failed("write", h.name, err)
	}
	return n, nil
}

func (h *handle) Truncate(sizeBytes int64) error {
	if h.readOnly {
		return failed("truncate", h.name, fs.ErrPermission)
	}
	return h.file.truncate(sizeBytes)
}

func (h *handle) PunchHole(off, length int64) error {
	if h.readOnly {
		return failed("punch", h.name, fs.ErrPermission)
	}
	return h.file.punch(off, length)
}

// Preallocate zeroes the range without taking room for it: nothing here has to last.
func (h *handle) Preallocate(sizeBytes int64) error {
	if h.readOnly {
		return failed("preallocate", h.name, fs.ErrPermission)
	}
	if err := h.file.punch(0, sizeBytes); err != nil {
		return err
	}
	return h.file.truncate(max(sizeBytes, h.file.info().SizeBytes))
}

func (h *handle) WriteSync(p []byte, off int64) error {
	_, err := h.WriteAt(p, off)
	return err
}

func (h *handle) ReadStored(p []byte, off int64) (int, error) { return h.ReadAt(p, off) }

func (h *handle) StartWriteback(int64, int64) error { return nil }
func (h *handle) WriteDirect(p []byte, off int64) error {
	_, err := h.WriteAt(p, off)
	return err
}

func (h *handle) DropCached() error        { return nil }
func (h *handle) Sync() error              { return nil }
func (h *handle) Stat() (disk.Info, error) { return h.file.info(), nil }

func (h *handle) Close() error {
	h.once.Do(func() { h.err = h.file.release() })
	return h.err
}
