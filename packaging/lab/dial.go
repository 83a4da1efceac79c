package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// inNamespace runs f on a thread that is in a network namespace. A socket stays in the namespace
// that it was made in. f must not hand the making of sockets to other goroutines; net.Dialer does
// not for a single address.
func inNamespace(ns string, f func()) error {
	target, err := os.Open(filepath.Join(namespaceDir, ns))
	if err != nil {
		return fmt.Errorf("namespace %s: %w", ns, err)
	}
	defer target.Close()
	home, err := os.Open("/proc/self/ns/net") // the main thread's; only threads in here ever differ
	if err != nil {
		return fmt.Errorf("own namespace: %w", err)
	}
	defer home.Close()
	runtime.LockOSThread()
	if err := unix.Setns(int(target.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter namespace %s: %w", ns, err)
	}
	f()
	if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("leave namespace %s: %w", ns, err) // still locked: the thread ends with its goroutine
	}
	runtime.UnlockOSThread()
	return nil
}
