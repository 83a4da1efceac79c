package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// warnBefore is how long before the time is up the kernel is asked which tasks are stuck.
const warnBefore = 5 * time.Second

// drainTimeout is how long output is waited for that processes may still write which the script
// has left behind.
const drainTimeout = time.Second

// Init is the guest's first process: it makes the guest ready, runs the program that boot.json
// names, and says how it ended. Only the host ends the guest, so Init does not return.
//
// Processes that are left to it stay zombies: a guest is short-lived, and os/exec wants to wait for
// its own.
func Init() {
	status, err := start()
	line, openErr := os.OpenFile("/dev/ttyS0", os.O_WRONLY, 0)
	if err = errors.Join(err, openErr); err != nil {
		fmt.Fprintln(os.Stderr, "init:", err) // the console: the kernel's log
		if line != nil {
			fmt.Fprintln(line, "init:", err)
		}
	}
	unix.Sync()
	if line != nil {
		fmt.Fprintf(line, "%s%d\n", endMark, status)
	}
	for {
		time.Sleep(time.Hour) // a first process that ends is a kernel panic
	}
}

// start does what boot.json says and returns the status of the program, 125 when it did not run.
func start() (status int, err error) {
	const failed = 125
	b, err := os.ReadFile(bootFile)
	if err != nil {
		return failed, err
	}
	var boot boot
	if err := json.Unmarshal(b, &boot); err != nil {
		return failed, fmt.Errorf("%s: %w", bootFile, err)
	}
	for _, m := range boot.Mounts {
		if err := m.mount(); err != nil {
			return failed, err
		}
	}
	// As udev does.
	for name, to := range map[string]string{"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"} {
		if err := os.Symlink("/proc/self/fd"+to, "/dev/"+name); err != nil {
			return failed, err
		}
	}
	if err := unix.Sethostname([]byte("guest")); err != nil {
		return failed, fmt.Errorf("set the host's name: %w", err)
	}
	// exec.Command looks for programs in init's own PATH.
	for _, nameValue := range boot.Env {
		name, value, _ := strings.Cut(nameValue, "=")
		if err := os.Setenv(name, value); err != nil {
			return failed, fmt.Errorf("environment %q: %w", nameValue, err)
		}
	}
	for _, path := range boot.Modules {
		if err := loadModule(path); err != nil {
			return failed, err
		}
	}
	for _, command := range boot.Network {
		words := strings.Fields(command)
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			return failed, fmt.Errorf("%s: %w: %s", command, err, out)
		}
	}
	time.AfterFunc(boot.Limit-warnBefore, func() {
		_ = os.WriteFile("/proc/sysrq-trigger", []byte("w"), 0) // into the kernel's log
	})
	return run(boot.Args)
}

// run runs the program with its output on the serial line.
func run(args []string) (int, error) {
	line, err := os.OpenFile("/dev/ttyS0", os.O_WRONLY, 0)
	if err != nil {
		return 125, err
	}
	defer line.Close()
	if t, err := unix.IoctlGetTermios(int(line.Fd()), unix.TCGETS); err == nil {
		t.Oflag &^= unix.OPOST // else a line feed becomes two bytes
		if err := unix.IoctlSetTermios(int(line.Fd()), unix.TCSETSW, t); err != nil {
			return 125, fmt.Errorf("serial line: %w", err)
		}
	}
	if _, err := fmt.Fprintln(line, startMark); err != nil {
		return 125, fmt.Errorf("serial line: %w", err)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.WaitDelay = ShareDir, drainTimeout
	out := struct{ io.Writer }{line} // not a file: programs must not find a terminal
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	if cmd.ProcessState == nil {
		return 125, err
	}
	if status := cmd.ProcessState.ExitCode(); status >= 0 {
		return status, nil
	}
	return 125, err // a signal
}

func (m *mount) mount() error {
	if err := os.MkdirAll(m.Target, 0o755); err != nil {
		return err
	}
	var flags uintptr
	if m.ReadOnly {
		flags = unix.MS_RDONLY
	}
	if err := unix.Mount(m.Source, m.Target, m.Type, flags, m.Data); err != nil {
		return fmt.Errorf("mount %s at %s: %w", m.Type, m.Target, err)
	}
	return nil
}

func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("kernel module: %w", err)
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load kernel module %s: %w", path, err)
	}
	return nil
}
