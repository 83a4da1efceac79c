package guest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"trinas/packaging/lab/initramfs"
)

// Where Debian's package user-mode-linux has its kernel and the kernel's modules.
const (
	kernel     = "/usr/bin/linux.uml"
	modulesDir = "/usr/lib/uml/modules"
)

// maxLineBytes bounds a line of the guest's output; what is longer is cut into several.
const maxLineBytes = 64 << 10

// Machine is a guest that can be run once.
type Machine struct {
	Dir     string   // where its files go; made by Run. Dir/share is the guest's ShareDir
	Init    string   // the program of folder init, built without cgo
	Prefix  []string // what the kernel is run by: ip netns exec NAME
	Tap     string   // the tap device, in the namespace that Prefix enters (made with vnet_hdr); "": no network
	Network []string // commands that the guest sets vec0, its end of Tap, and lo up with; words separated by blanks

	Memory  string        // "512M"
	Modules []string      // kernel modules, by name; what they need comes along
	Args    []string      // the program to run in ShareDir
	Env     []string      // NAME=value, for the program
	Limit   time.Duration // after it the guest is killed
	Disk    string        // a file that the guest has as its disk /dev/ubda; "": no disk
	// Debian: on Disk, ext4, is a Debian system that the guest boots, with systemd as its first process. The program
	// is run when the boot has come to its end. Network and Modules are the system's own business.
	Debian bool
	// PowerOff: with Debian, after the program the guest is told to power off, as an admin does. Run waits until it has; Line
	// also gets what is written to the serial line on the way.
	PowerOff bool
	// PoweredOff is how long that took.
	PoweredOff time.Duration

	Line func(string) // gets each line of output, without its end; called by one goroutine
}

// Share is the folder that the guest has as ShareDir.
func (m *Machine) Share() string { return filepath.Join(m.Dir, "share") }

// Console is the file that the guest kernel's log goes to.
func (m *Machine) Console() string { return filepath.Join(m.Dir, "console.log") }

// Run boots the guest, runs the program and returns its exit status. The error is for a guest that
// did not come so far, or not within Limit; it holds the end of the kernel's log.
func (m *Machine) Run(ctx context.Context) (status int, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, m.Limit, fmt.Errorf("not done within %v", m.Limit))
	defer cancel()
	if err := os.MkdirAll(m.Share(), 0o755); err != nil {
		return 0, fmt.Errorf("guest: %w", err)
	}
	initrd := filepath.Join(m.Dir, "initrd.img")
	b, err := m.initramfs()
	if err == nil {
		err = os.WriteFile(initrd, b, 0o644)
	}
	if err != nil {
		return 0, fmt.Errorf("guest: make its initramfs: %w", err)
	}
	if status, err = m.boot(ctx, initrd); err != nil {
		err = errors.Join(err, context.Cause(ctx))
		return 0, fmt.Errorf("guest: %w; the end of its kernel's log (%s):\n%s", err, m.Console(), m.logEnd())
	}
	return status, nil
}

// boot runs the kernel until init has said how the program ended, and then ends the kernel: all
// that was written is on the host's side by then.
func (m *Machine) boot(ctx context.Context, initrd string) (int, error) {
	console, err := os.Create(m.Console())
	if err != nil {
		return 0, err
	}
	defer console.Close()
	out, serial, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer out.Close()
	defer serial.Close()

	// In a process namespace of its own, whose end is the end of all of the kernel's processes. Its
	// first process is a shell: a kernel that panics aborts itself, which a first process cannot.
	args := append(slices.Clone(m.Prefix),
		"unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", `"$@"; exit $?`, "sh",
		kernel, "mem="+m.Memory, "initrd="+initrd, "uml_dir="+filepath.Join(m.Dir, "uml"), "umid=guest",
		"con=null", "con0=null,fd:1", "ssl=null", "ssl0=null,fd:3", "quiet", "loglevel=5", "printk.time=1")
	if m.Tap != "" {
		args = append(args, fmt.Sprintf("vec0:transport=tap,ifname=%s,depth=128,gro=1,mac=52:54:00:%02x:%02x:%02x",
			m.Tap, rand.N(256), rand.N(256), rand.N(256)))
	}
	if m.Disk != "" {
		args = append(args, "ubd0="+m.Disk) // what the guest syncs the kernel syncs on the host, by fdatasync
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = console, console, []*os.File{serial} // serial is its fd 3
	cmd.Env = append(os.Environ(), "HOME="+m.Dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start its kernel: %w", err)
	}
	serial.Close()
	started, nudged := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(nudged)
		select {
		case <-started: // not before: signals that come while the kernel sets itself up can hang it
			nudge(ctx, cmd.Process.Pid)
		case <-time.After(bootTimeout):
			_ = cmd.Process.Kill()
		case <-ctx.Done():
		}
	}()
	in := bufio.NewReaderSize(out, maxLineBytes)
	status, err := m.follow(in, started)
	if err == nil && m.PowerOff {
		began := time.Now()
		err = m.followOff(ctx, in)
		m.PoweredOff = time.Since(began)
	}
	end()
	<-nudged
	if waitErr := cmd.Wait(); err != nil {
		return 0, errors.Join(err, waitErr)
	}
	return status, nil
}

// bootTimeout is how long the kernel and init may take until the program runs; about 2 s are usual.
const bootTimeout = time.Minute

// follow hands out lines until the last one, which holds the status. It closes started when the
// program is about to run.
func (m *Machine) follow(in *bufio.Reader, started chan<- struct{}) (int, error) {
	up := false
	for {
		b, err := in.ReadSlice('\n')
		line := strings.TrimSuffix(string(b), "\n")
		if line == startMark && !up {
			up = true
			close(started)
			continue
		}
		// The mark may follow output that does not end in a line feed.
		if text, status, found := strings.Cut(line, endMark); found {
			if text != "" {
				m.Line(text)
			}
			return strconv.Atoi(status)
		}
		if line != "" || err == nil {
			m.Line(line)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			if !up {
				return 0, fmt.Errorf("it did not come up, or not within %v", bootTimeout)
			}
			return 0, errors.New("it ended before its program did")
		}
	}
}

// offMark is in the kernel's log when it has powered off: what ends otherwise has crashed. A user-mode kernel says that it halts.
const offMark = "reboot: System halted"

// followOff hands out lines until the kernel has ended. It is an error when it did not power off.
func (m *Machine) followOff(ctx context.Context, in *bufio.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLineBytes)
	for lines.Scan() {
		m.Line(strings.TrimRight(lines.Text(), "\r"))
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if !strings.Contains(m.logEnd(), offMark) || ctx.Err() != nil {
		return errors.New("it has not powered off")
	}
	return nil
}

// hostDirs are the folders of the host that the guest sees, read-only.
var hostDirs = [...]string{"bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc", "opt", "var"}

// initramfs holds init, what it has to do, and empty folders.
func (m *Machine) initramfs() ([]byte, error) {
	init, err := os.ReadFile(m.Init)
	if err != nil {
		return nil, err
	}
	var a initramfs.Archive
	a.Dir("dev")
	a.Device("dev/console", 5, 1)
	a.Device("dev/null", 1, 3)
	boot := boot{
		Network: m.Network, Args: m.Args, Limit: m.Limit, PowerOff: m.PowerOff,
		Env: append([]string{
			"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"HOME=/root", "TERM=dumb", "LANG=C.UTF-8",
		}, m.Env...),
	}
	if m.Debian {
		err = m.debian(&boot)
	} else {
		err = m.borrowed(&boot, &a)
	}
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(boot)
	if err != nil {
		return nil, err
	}
	a.File("init", init)
	a.File(strings.TrimPrefix(bootFile, "/"), b)
	return a.Finish(), nil
}

// debian lays out a guest that boots the Debian system on its disk: its files, the kernel's modules, the shared folder, and init
// in that.
func (m *Machine) debian(boot *boot) error {
	const root = "/sysroot"
	boot.Root = root
	boot.Mounts = []mount{
		{Type: "devtmpfs", Source: "dev", Target: "/dev"},
		{Type: "ext4", Source: "/dev/ubda", Target: root},
		{Type: "tmpfs", Source: "run", Target: root + "/run", Data: "mode=755"},
		{Type: "hostfs", Source: "modules", Target: root + "/lib/modules", Data: modulesDir, ReadOnly: true},
		{Type: "hostfs", Source: "share", Target: root + ShareDir, Data: m.Share()},
	}
	return copyProgram(m.Init, filepath.Join(m.Share(), "init"))
}

func copyProgram(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o755)
}

// borrowed lays out a guest whose programs are the host's.
func (m *Machine) borrowed(boot *boot, a *initramfs.Archive) error {
	boot.Mounts = []mount{
		{Type: "proc", Source: "proc", Target: "/proc"},
		{Type: "sysfs", Source: "sys", Target: "/sys"},
		{Type: "devtmpfs", Source: "dev", Target: "/dev"},
		{Type: "devpts", Source: "pts", Target: "/dev/pts", Data: "mode=620,ptmxmode=666"},
		{Type: "tmpfs", Source: "shm", Target: "/dev/shm", Data: "mode=1777"},
		{Type: "hostfs", Source: "share", Target: ShareDir, Data: m.Share()},
	}
	for _, name := range hostDirs {
		path := "/" + name
		info, err := os.Lstat(path)
		switch {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			return err
		case info.Mode()&os.ModeSymlink != 0: // /bin -> usr/bin
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			a.Link(name, to)
		default:
			boot.Mounts = append(boot.Mounts, mount{Type: "hostfs", Source: name, Target: path, Data: path, ReadOnly: true})
		}
	}
	// The root is the initramfs, whose kind of file system cannot be exported or swapped: what
	// programs write goes to a tmpfs of its own.
	for _, dir := range []string{"/tmp", "/var/tmp", "/run"} {
		boot.Mounts = append(boot.Mounts, mount{Type: "tmpfs", Source: "tmp", Target: dir, Data: "mode=1777"})
	}
	for _, dir := range []string{"mnt", "root"} {
		a.Dir(dir)
	}
	var err error
	if boot.Modules, err = initramfs.Modules(modulesDir, m.Modules); err != nil {
		return fmt.Errorf("%w: run make deps", err)
	}
	return nil
}

// logEnd is the end of the kernel's log.
func (m *Machine) logEnd() string {
	b, err := os.ReadFile(m.Console())
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-6000):])
}
