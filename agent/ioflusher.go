package main

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// becomeIOFlusher tells the kernel that this process is part of the path by which memory is
// cleaned (prctl(2), PR_SET_IO_FLUSHER): its own allocations must then not wait for a loopback NFS
// mount that waits for us.
//
// The state belongs to a thread and is inherited by threads it starts later, but Go's runtime has
// started some already. It is also kept by execve(2): so the first time around the thread that
// has it starts the program anew, in place.
func becomeIOFlusher() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	state, err := unix.PrctlRetInt(unix.PR_GET_IO_FLUSHER, 0, 0, 0, 0)
	if err != nil {
		return fmt.Errorf("prctl PR_GET_IO_FLUSHER: %w", err)
	}
	if state == 1 {
		return nil
	}
	if err := unix.Prctl(unix.PR_SET_IO_FLUSHER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl PR_SET_IO_FLUSHER: %w", err)
	}
	return fmt.Errorf("start anew as I/O flusher: %w", unix.Exec("/proc/self/exe", os.Args, os.Environ()))
}
