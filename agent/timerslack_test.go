package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Goal: every thread has the slack, the one of the runtime that nobody else can reach as well.
// Method: what the kernel says of each.
func TestCoarsenTimers(t *testing.T) {
	if err := coarsenTimers(); err != nil {
		t.Fatal(err)
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil || len(threads) < 2 {
		t.Fatalf("%d threads: %v", len(threads), err)
	}
	for _, thread := range threads {
		b, err := os.ReadFile(filepath.Join("/proc", thread.Name(), "timerslack_ns"))
		if err != nil {
			continue // it has ended
		}
		if got := strings.TrimSpace(string(b)); got != strconv.FormatInt(timerSlack.Nanoseconds(), 10) {
			t.Errorf("thread %s has a slack of %s ns", thread.Name(), got)
		}
	}
}
