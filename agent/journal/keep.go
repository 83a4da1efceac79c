package journal

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

const (
	keptName     = "events.log" // in the data directory: one entry in JSON a line
	keptOldName  = "events.old" // what was in it before
	maxKeptBytes = 256 << 10    // of each
	keepQueue    = 256          // entries that wait for the disk; more are only in memory
)

// KeptNames are the files of Keep.
func KeptNames() []string { return []string{keptName, keptOldName} }

// Load takes in what an earlier run of the agent has kept in dir, before what is in the ring. Lines that
// cannot be read are left out: the last one may have been cut short.
func (r *Ring) Load(dir string) {
	var before []Entry
	for _, name := range []string{keptOldName, keptName} {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			var e Entry
			if json.Unmarshal(lines.Bytes(), &e) == nil && e.ID != "" {
				before = append(before, e)
			}
		}
		f.Close()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.entries
	r.entries = nil
	for _, e := range before {
		r.begun[e.Event+"\x00"+e.Volume+"\x00"+e.Peer] = e.Time
		r.keep(e)
	}
	for _, e := range now {
		r.keep(e)
	}
}

// Keep writes entries to a file in dir as they come, until ctx ends. Nothing is synced, and nobody waits
// for it: what is lost with the host's power is in the journal.
func (r *Ring) Keep(ctx context.Context, dir string) error {
	kept := make(chan Entry, keepQueue)
	r.mu.Lock()
	r.kept = kept
	r.mu.Unlock()
	path := filepath.Join(dir, keptName)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("keep events: %w", err)
	}
	defer func() { f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("keep events: %w", err)
	}
	size := info.Size()
	write := func(e Entry) error {
		line, err := json.Marshal(e)
		if err != nil {
			return err
		}
		if size+int64(len(line)) > maxKeptBytes {
			next, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
			if err != nil {
				return err
			}
			f.Close()
			f, size = next, 0
			if err := errors.Join(os.Rename(path, filepath.Join(dir, keptOldName)), os.Rename(path+".new", path)); err != nil {
				return err
			}
		}
		n, err := f.Write(append(line, '\n'))
		size += int64(n)
		return err
	}
	for {
		select {
		case e := <-kept:
			if err := write(e); err != nil {
				return fmt.Errorf("keep events: %w", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}
