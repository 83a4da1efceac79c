package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"trinas/nfsgw/nfs3"
)

// namespaceDir is where ip-netns(8) keeps namespaces that have a name.
const namespaceDir = "/run/netns"

// removeTimeout bounds how long the end of a host takes.
const removeTimeout = 10 * time.Second

// Host is a network namespace of its own, with a loopback: a machine without a network.
type Host struct {
	Name string
	NS   string // as ip-netns(8) knows it: trinas-PID-Name, with the lab's name in between if it has one
}

// OpenHost makes a host.
func OpenHost(ctx context.Context, name string) (*Host, error) { return openHost(ctx, "", name) }

// openHost makes a host of a lab.
func openHost(ctx context.Context, lab, name string) (*Host, error) {
	h := &Host{Name: name, NS: fmt.Sprintf("trinas-%d-%s%s", os.Getpid(), lab, name)}
	if err := runAll(ctx, "ip netns add "+h.NS); err != nil {
		return nil, fmt.Errorf("network namespaces cannot be made here: %w", err)
	}
	if err := runAll(ctx, "ip -n "+h.NS+" link set lo up"); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// Close kills the processes that still run in the host and removes it. It works after the context
// of everything else has ended.
func (h *Host) Close() error { return removeNamespace(h.NS) }

// removeNamespace kills the processes in a namespace, where none but a lab's own can be, and
// deletes it.
func removeNamespace(ns string) error {
	ctx, cancel := context.WithTimeout(context.Background(), removeTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ip", "netns", "pids", ns).Output()
	if err != nil {
		return fmt.Errorf("list the processes in namespace %s: %w", ns, err)
	}
	for _, field := range strings.Fields(string(out)) {
		if pid, err := strconv.Atoi(field); err == nil && pid > 1 {
			_ = unix.Kill(pid, unix.SIGKILL) // fails when it has just ended
		}
	}
	return runAll(ctx, "ip netns del "+ns)
}

// removeStale removes namespaces of labs whose process was killed before it could. Errors only
// mean that another process was quicker.
func removeStale() {
	found, _ := filepath.Glob(filepath.Join(namespaceDir, "trinas-*-*"))
	for _, path := range found {
		pid, err := strconv.Atoi(strings.SplitN(filepath.Base(path), "-", 3)[1])
		if err == nil && errors.Is(unix.Kill(pid, 0), syscall.ESRCH) {
			_ = removeNamespace(filepath.Base(path))
		}
	}
}

// Command prepares a program that will run on the host. It is killed when ctx ends.
func (h *Host) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", h.NS, name}, args...)...)
	detach(cmd)
	return cmd
}

// Output runs a program on the host and returns what it printed; an error holds what it said.
func (h *Host) Output(ctx context.Context, name string, args ...string) ([]byte, error) {
	return output(h.Command(ctx, name, args...), fmt.Sprintf("%s: %s %s", h.Name, name, strings.Join(args, " ")))
}

// URL names a file in an NFS export ("/demo") of this host itself, for QEMU's NFS client. That
// client asks port 111 of the address where NFS and MOUNT are.
func (h *Host) URL(export, name string) string { return "nfs://127.0.0.1" + export + "/" + name }

// Dial connects an NFS client of this program's to an address as the host has it.
func (h *Host) Dial(ctx context.Context, address string) (client *nfs3.Client, err error) {
	nsErr := inNamespace(h.NS, func() { client, err = nfs3.Dial(ctx, address, h.Name, true) })
	return client, errors.Join(nsErr, err)
}

// MakeDirs makes folders in an export ("/demo") of this host itself, each in the one before it.
func (h *Host) MakeDirs(ctx context.Context, export string, names ...string) error {
	client, err := h.Dial(ctx, nfsAddress)
	if err != nil {
		return err
	}
	defer client.Close()
	dir, err := client.Mnt(ctx, export)
	for _, name := range names {
		if err == nil {
			dir, err = client.MkDir(ctx, dir, name, 0o755)
		}
	}
	return err
}

// Convert copies a raw image by qemu-img convert, run on this host. Source and destination are
// paths or URLs. Runs of zeros become holes.
func (h *Host) Convert(ctx context.Context, from, to string) error {
	_, err := h.Output(ctx, "qemu-img", "convert", "-f", "raw", "-O", "raw", from, to)
	return err
}

// LoopbackBytes is how many bytes have gone over the host's loopback so far, headers included.
func (h *Host) LoopbackBytes(ctx context.Context) (int64, error) {
	out, err := h.Output(ctx, "cat", "/sys/class/net/lo/statistics/rx_bytes")
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: bytes over the loopback: %w", h.Name, err)
	}
	return n, nil
}

// Need returns an error that names the first of the programs which is not there.
func Need(programs ...string) error {
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			return fmt.Errorf("program %s: %w: run make deps", p, err)
		}
	}
	return nil
}

// detach keeps a ^C on the terminal from a process, and lets it die with the lab.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// output runs a command and returns what it printed; an error names it and holds the end of what it said.
func output(cmd *exec.Cmd, what string) ([]byte, error) {
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		said := strings.TrimSpace(stdout.String() + stderr.String()) // what went wrong comes last
		return []byte(stdout.String()), fmt.Errorf("%s: %w: %s", what, err, said[max(0, len(said)-2000):])
	}
	return []byte(stdout.String()), nil
}

// runAll runs commands one after the other, until one fails. Words are separated by blanks.
func runAll(ctx context.Context, commands ...string) error {
	for _, command := range commands {
		words := strings.Fields(command)
		if _, err := output(exec.CommandContext(ctx, words[0], words[1:]...), command); err != nil {
			return err
		}
	}
	return nil
}
