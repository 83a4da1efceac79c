package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// privateEnv marks the process that Private has started.
const privateEnv = "TRINAS_LAB_PRIVATE"

// Private makes a program that uses a lab run without root. Call it first in main: for root it
// returns (0, false, nil) and the program goes on. For anybody else it runs the program again, as
// root of a user, network and mount namespace (user_namespaces(7)), and returns that run's exit
// status and true: the caller then exits with it.
func Private() (status int, done bool, err error) {
	// ip, mke2fs and e2fsck are where Debian's users do not look.
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		return 1, true, fmt.Errorf("set PATH: %w", err)
	}
	if os.Getenv(privateEnv) != "" {
		return 0, false, hideRun()
	}
	if os.Geteuid() == 0 {
		return 0, false, nil
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), privateEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
		Pdeathsig:   syscall.SIGTERM,
	}
	// A ^C reaches both; this one waits until the other has cleaned up.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 1, true, fmt.Errorf("make a user namespace: %w: run this as root, or allow them (sysctl "+
			"kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0)", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			_ = cmd.Process.Signal(s)
		case err := <-ended:
			if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
				return max(exit.ExitCode(), 1), true, nil
			}
			return 0, true, err
		}
	}
}

// hideRun puts an empty /run over the machine's, where ip-netns(8) wants to write.
func hideRun() error {
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mount an empty /run in the user namespace: %w", err)
	}
	return nil
}

// Rootless reports whether the program runs in the namespaces that Private has made.
func Rootless() bool { return os.Getenv(privateEnv) != "" }
