package rescue

import (
	"fmt"
	"os"
	"sync"

	"trinas/replica/disk"
)

// scratch is one unnamed temporary file of blocks of disk.BlockBytes. One file holds the blocks
// of all files of an overlay, so that open files do not run out however many are changed.
type scratch struct {
	file *os.File

	mu    sync.Mutex
	next  int64   // first slot that was never taken
	spare []int64 // slots that were given back
}

func newScratch(dir string) (*scratch, error) {
	f, err := os.CreateTemp(dir, "trinas-rescue-")
	if err != nil {
		return nil, fmt.Errorf("make scratch file: %w: name a directory with room with --scratch", err)
	}
	if err := os.Remove(f.Name()); err != nil { // it lives as long as it is open
		f.Close()
		return nil, fmt.Errorf("make scratch file: %w", err)
	}
	return &scratch{file: f}, nil
}

// take gives a slot whose content is unknown.
func (s *scratch) take() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.spare); n > 0 {
		slot := s.spare[n-1]
		s.spare = s.spare[:n-1]
		return slot
	}
	s.next++
	return s.next - 1
}

// free gives a slot back; a hole has none.
func (s *scratch) free(slot int64) {
	if slot == hole {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spare = append(s.spare, slot)
}

// read fills p from offset off of a slot.
func (s *scratch) read(slot int64, p []byte, off int64) error {
	if slot == hole {
		clear(p)
		return nil
	}
	if _, err := s.file.ReadAt(p, slot*disk.BlockBytes+off); err != nil {
		return fmt.Errorf("read scratch file: %w", unexpected(err))
	}
	return nil
}

// write puts p at offset off of a slot. The first write of a slot covers all of it.
func (s *scratch) write(slot int64, p []byte, off int64) error {
	if _, err := s.file.WriteAt(p, slot*disk.BlockBytes+off); err != nil {
		return fmt.Errorf("write scratch file: %w: name a directory with more room with --scratch", err)
	}
	return nil
}

func (s *scratch) close() error { return s.file.Close() }
