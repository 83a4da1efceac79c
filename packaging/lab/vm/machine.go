package vm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"trinas/packaging/lab"
)

// Options says how a machine is started.
type Options struct {
	Name     string // of its sockets, in Dir; for this machine alone
	Dir      string // its path must be short: sockets' paths have 107 bytes at most
	Disk     string // a raw image: a path, or the URL of a file that the host can reach
	Args     string // words for the kernel's command line, where the program finds them
	Incoming string // "tcp:ADDRESS:PORT": wait there for a machine that moves here; "": boot
}

// Machine is one QEMU process.
type Machine struct {
	Name    string
	Console *Console

	cmd  *exec.Cmd
	qmp  *qmp
	done chan struct{} // closed when it has ended
}

// startTimeout is how long QEMU may take until it answers on its control socket.
const startTimeout = 20 * time.Second

// Start starts a machine on a host of the lab. It is killed when ctx ends.
func (i *Image) Start(ctx context.Context, host *lab.Host, opt Options) (*Machine, error) {
	khz, err := clockKHz()
	if err != nil {
		return nil, err
	}
	serial, control := filepath.Join(opt.Dir, opt.Name+".tty"), filepath.Join(opt.Dir, opt.Name+".qmp")
	l, err := net.Listen("unix", serial)
	if err != nil {
		return nil, fmt.Errorf("machine %s: its serial line: %w", opt.Name, err)
	}
	args := []string{
		"-M", "microvm,acpi=on,accel=tcg", "-cpu", "max", "-m", "128", "-nodefaults", "-no-user-config",
		"-display", "none", "-no-reboot", "-kernel", i.kernel, "-initrd", i.initrd,
		// Of the kernel's log only a panic: the rest would come in between the program's lines.
		"-append", fmt.Sprintf("console=ttyS0 loglevel=1 panic=-1 mitigations=off edd=off tsc_early_khz=%d %s", khz, opt.Args),
		"-chardev", "socket,id=tty,path=" + serial, "-serial", "chardev:tty",
		"-qmp", "unix:" + control + ",server=on,wait=off",
		"-drive", "file=" + opt.Disk + ",format=raw,if=none,id=disk,cache=none", "-device", "virtio-blk-device,drive=disk",
	}
	if opt.Incoming != "" {
		args = append(args, "-incoming", opt.Incoming)
	}
	m := &Machine{Name: opt.Name, Console: follow(l), done: make(chan struct{})}
	m.cmd = host.Command(ctx, "qemu-system-x86_64", args...)
	var said strings.Builder
	m.cmd.Stdout, m.cmd.Stderr = &said, &said
	if err := m.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("machine %s: %w", opt.Name, err), l.Close())
	}
	go func() {
		_ = m.cmd.Wait() // how it ended matters to nobody: Quit kills
		l.Close()
		close(m.done)
	}()
	if m.qmp, err = m.dial(ctx, control); err != nil {
		m.Kill()
		<-m.done
		return nil, fmt.Errorf("machine %s: %w: %s", opt.Name, err, strings.TrimSpace(said.String()))
	}
	return m, nil
}

// dial connects to QEMU's control socket once it is there.
func (m *Machine) dial(ctx context.Context, path string) (*qmp, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		q, err := dialQMP(path)
		if err == nil {
			return q, nil
		}
		select {
		case <-time.After(lab.PollInterval):
		case <-m.done:
			return nil, errors.New("QEMU has ended")
		case <-ctx.Done():
			return nil, err
		}
	}
}

// Freeze stops the process as it is, in the midst of whatever it does; Thaw lets it go on.
func (m *Machine) Freeze() error { return m.cmd.Process.Signal(syscall.SIGSTOP) }

// Thaw is the end of Freeze.
func (m *Machine) Thaw() error { return m.cmd.Process.Signal(syscall.SIGCONT) }

// Ended is closed when the machine has ended.
func (m *Machine) Ended() <-chan struct{} { return m.done }

// Kill ends the machine as a power cut does.
func (m *Machine) Kill() {
	if m.qmp != nil {
		m.qmp.Close()
	}
	_ = m.cmd.Process.Kill() // fails when it has ended
	<-m.done
}
