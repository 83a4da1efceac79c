package drill

import (
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// killSelf ends the process as a crash does. It does not return.
func killSelf() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// sigevent is the kernel's struct sigevent (include/uapi/asm-generic/siginfo.h), 64 bytes.
type sigevent struct {
	value  uint64
	signal int32
	notify int32 // 0: SIGEV_SIGNAL
	_      [48]byte
}

// stopSelf stops the process (SIGSTOP) for as long as given. A timer of the kernel's sends SIGCONT: it
// needs no other process that could be gone. systemd's watchdog is the second who would end it.
func stopSelf(d time.Duration) error {
	event := sigevent{signal: int32(syscall.SIGCONT)}
	var timer int32
	if _, _, e := unix.Syscall(unix.SYS_TIMER_CREATE, unix.CLOCK_BOOTTIME, uintptr(unsafe.Pointer(&event)), uintptr(unsafe.Pointer(&timer))); e != 0 {
		return fmt.Errorf("make a timer: %w", e)
	}
	defer unix.Syscall(unix.SYS_TIMER_DELETE, uintptr(timer), 0, 0)
	setting := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	if _, _, e := unix.Syscall6(unix.SYS_TIMER_SETTIME, uintptr(timer), 0, uintptr(unsafe.Pointer(&setting)), 0, 0, 0); e != 0 {
		return fmt.Errorf("set a timer: %w", e)
	}
	began := time.Now()
	if err := syscall.Kill(os.Getpid(), syscall.SIGSTOP); err != nil {
		return fmt.Errorf("stop this process: %w", err)
	}
	// This thread may still run for a moment: the timer must not go before it has sent its signal.
	for left := d; left > 0; left = d - time.Since(began) {
		time.Sleep(left)
	}
	return nil
}
