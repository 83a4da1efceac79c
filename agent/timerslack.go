package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// timerSlack is how late the kernel may end a thread's sleep, to end several at once (prctl(2),
// PR_SET_TIMERSLACK; 50 µs by default). Go's runtime has a thread that looks after the others each
// 20 µs while any works: with the default that is a wake-up each 70 µs in every agent, a quarter of
// the processor time of small operations one after the other. No timer of ours has to be better.
const timerSlack = 500 * time.Microsecond

// coarsenTimers gives every thread of this process that slack; threads that are made later inherit
// it. Through /proc, since the runtime has started threads already and prctl(2) is for the caller's own.
func coarsenTimers() error {
	for range 2 { // again for those that a thread has made which had not been reached yet
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("set the threads' timer slack: %w", err)
		}
		for _, t := range threads {
			if err := coarsenTimer(t.Name()); err != nil {
				return fmt.Errorf("set the threads' timer slack: %w", err)
			}
		}
	}
	return nil
}

func coarsenTimer(thread string) error {
	value := strconv.FormatInt(timerSlack.Nanoseconds(), 10)
	err := os.WriteFile(filepath.Join("/proc", thread, "timerslack_ns"), []byte(value), 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it has ended
	}
	return err
}
