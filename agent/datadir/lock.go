// Package datadir guards a node's data directory: one agent at a time, and never an agent beside
// a rescue. It must never change anything in the directory, so that a rescue can hold the lock on
// a disk that is mounted read-only.
//
// Floor 0: imports nothing of trinas.
package datadir

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// ErrInUse: another process holds the data directory.
var ErrInUse = errors.New("in use by another process")

// Lock is a held lock. It ends with Release or with the process.
type Lock struct{ dir *os.File }

// Exclusive takes dir for the agent alone. ErrInUse when an agent or a rescue has it.
func Exclusive(dir string) (*Lock, error) { return lock(dir, syscall.LOCK_EX) }

// Shared takes dir for reading: other readers may hold it too. ErrInUse when an agent has it.
func Shared(dir string) (*Lock, error) { return lock(dir, syscall.LOCK_SH) }

// lock is flock(2) on the directory itself, which needs no file in it and no right to write.
func lock(dir string, how int) (*Lock, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open data directory: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
	if err == nil {
		return &Lock{dir: f}, nil
	}
	f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("data directory %s: %w", dir, ErrInUse)
	}
	return nil, fmt.Errorf("lock data directory %s: %w", dir, err)
}

// Release gives the directory up. It may be called twice.
func (l *Lock) Release() error {
	if l.dir == nil {
		return nil
	}
	err := l.dir.Close()
	l.dir = nil
	return err
}
