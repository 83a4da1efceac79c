package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
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
// names, and says how it ended. With a Debian system it makes way for that one's systemd, which then runs
// RunProgram. Only the host ends the guest, so Init does not return.
//
// Processes that are left to it stay zombies: a guest is short-lived, and os/exec wants to wait for
// its own.
func Init() {
	boot, err := readBoot(bootFile)
	if err == nil {
		err = boot.prepare()
	}
	if err == nil && boot.Root != "" {
		err = boot.enter()
	}
	if err != nil {
		finish(notRun, err)
	}
	finish(boot.run())
}

// RunProgram is what a Debian system's systemd runs at the end of its boot. It does not return.
func RunProgram() {
	boot, err := readBoot(filepath.Join("/run", bootFile))
	if err != nil {
		finish(notRun, err)
	}
	status, err := boot.run()
	tell(status, err)
	if boot.PowerOff {
		// As an admin does; it also says that it cannot ask logind, which is not there.
		if out, err := exec.Command("systemctl", "poweroff").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "init: systemctl poweroff: %v: %s\n", err, out)
		}
	}
	waitForEnd()
}

// notRun is the status of a program that did not run, or was ended by a signal.
const notRun = 125

// finish says how the program ended, and waits for the host to end the guest.
func finish(status int, err error) {
	tell(status, err)
	waitForEnd()
}

// tell says how the program ended.
func tell(status int, err error) {
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
}

func waitForEnd() {
	for {
		time.Sleep(time.Hour) // a first process that ends is a kernel panic
	}
}

func readBoot(path string) (b boot, err error) {
	raw, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(raw, &b)
	}
	if err != nil {
		return b, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

// prepare makes the guest ready.
func (b *boot) prepare() error {
	for _, m := range b.Mounts {
		if err := m.mount(); err != nil {
			return err
		}
	}
	if b.Root != "" {
		return nil // its systemd does the rest
	}
	// As udev does.
	for name, to := range map[string]string{"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"} {
		if err := os.Symlink("/proc/self/fd"+to, "/dev/"+name); err != nil {
			return err
		}
	}
	if err := unix.Sethostname([]byte("guest")); err != nil {
		return fmt.Errorf("set the host's name: %w", err)
	}
	// exec.Command looks for programs in init's own PATH.
	for _, nameValue := range b.Env {
		name, value, _ := strings.Cut(nameValue, "=")
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("environment %q: %w", nameValue, err)
		}
	}
	for _, path := range b.Modules {
		if err := loadModule(path); err != nil {
			return err
		}
	}
	for _, command := range b.Network {
		words := strings.Fields(command)
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", command, err, out)
		}
	}
	return nil
}

// programUnit has a Debian system's systemd run RunProgram when the boot has come to its end. Like a login it is
// in nobody's way: it has the default dependencies only.
const programUnit = `[Unit]
Description=What the lab runs in this guest
[Service]
ExecStart=` + ShareDir + `/init run
`

// enter makes way for the systemd of the Debian system, whose files stay as they are: what it is told lies in /run. It
// returns only when it fails.
func (b *boot) enter() error {
	units := filepath.Join(b.Root, "run/systemd/system")
	wants := filepath.Join(units, "multi-user.target.wants")
	if err := os.MkdirAll(wants, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(units, "lab.service"), []byte(programUnit), 0o644); err != nil {
		return err
	}
	if err := os.Symlink("../lab.service", filepath.Join(wants, "lab.service")); err != nil {
		return err
	}
	raw, err := json.Marshal(b)
	if err == nil {
		err = os.WriteFile(filepath.Join(b.Root, "run", bootFile), raw, 0o600)
	}
	if err != nil {
		return err
	}
	// As switch_root(8) does; what the initramfs holds stays in memory.
	if err := os.Chdir(b.Root); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("make %s the root: %w", b.Root, err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("make %s the root: %w", b.Root, err)
	}
	return fmt.Errorf("run /sbin/init: %w", unix.Exec("/sbin/init", []string{"/sbin/init"}, []string{"TERM=dumb"}))
}

// run runs the program with its output on the serial line and returns its status.
func (b *boot) run() (int, error) {
	time.AfterFunc(b.Limit-warnBefore, func() {
		_ = os.WriteFile("/proc/sysrq-trigger", []byte("w"), 0) // into the kernel's log
	})
	line, err := os.OpenFile("/dev/ttyS0", os.O_WRONLY, 0)
	if err != nil {
		return notRun, err
	}
	defer line.Close()
	if t, err := unix.IoctlGetTermios(int(line.Fd()), unix.TCGETS); err == nil {
		t.Oflag &^= unix.OPOST // else a line feed becomes two bytes
		if err := unix.IoctlSetTermios(int(line.Fd()), unix.TCSETSW, t); err != nil {
			return notRun, fmt.Errorf("serial line: %w", err)
		}
	}
	if _, err := fmt.Fprintln(line, startMark); err != nil {
		return notRun, fmt.Errorf("serial line: %w", err)
	}
	cmd := exec.Command(b.Args[0], b.Args[1:]...)
	cmd.Dir, cmd.WaitDelay, cmd.Env = ShareDir, drainTimeout, b.Env
	out := struct{ io.Writer }{line} // not a file: programs must not find a terminal
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	if cmd.ProcessState == nil {
		return notRun, err
	}
	if status := cmd.ProcessState.ExitCode(); status >= 0 {
		return status, nil
	}
	return notRun, err // a signal
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
