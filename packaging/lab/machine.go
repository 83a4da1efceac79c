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

	"trinas/agent/drill"
	"trinas/nfsgw/nfs3"
)

// bootTimeout is how long a machine may take until its systemd has started everything.
const bootTimeout = 30 * time.Second

// Machines are booted Debian systems on a network as a lab's: containers of systemd-nspawn with
// systemd as their first process, each with a file tree of its own over a common one. They need root.
type Machines struct {
	Dir  string // holds a folder per machine
	List []*Machine

	net *network
}

// Machine is one of them.
type Machine struct {
	*Host
	Addr string

	dir    string    // upper, work, root, data
	cmd    *exec.Cmd // systemd-nspawn
	done   chan struct{}
	leader int // process id of the machine's systemd
	node   *Node
}

// bootScript starts a machine in a mount namespace of its own, so that no mount outlives it. The
// data directory is a file system of its own, which FreezeData can stop. Arguments: name, folder,
// tree, network namespace, folder to show inside under the same path.
const bootScript = `set -eu
name=$1 dir=$2 tree=$3 net=$4 shown=$5
umount -R /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /sys/fs/cgroup/$net
echo $$ >/sys/fs/cgroup/$net/cgroup.procs
mount -t overlay overlay -o lowerdir=$tree,upperdir=$dir/upper,workdir=$dir/work $dir/root
mount -o loop $dir/data.ext4 $dir/data
exec systemd-nspawn --boot --quiet --register=no --keep-unit --console=pipe --machine=$name \
    --capability=CAP_SYS_RESOURCE \
    --directory=$dir/root --network-namespace-path=/run/netns/$net \
    --bind=$dir/data:/var/lib/trinas --bind-ro=$shown`

// OpenMachines boots machines of these names from the file tree, in which nothing is changed. dir is
// as Options.Dir; the folder shown is seen, read-only, under the same path in every machine.
func OpenMachines(ctx context.Context, dir, tree, shown string, names []string) (*Machines, error) {
	dir, err := makeDir(dir)
	if err != nil {
		return nil, err
	}
	ms := &Machines{Dir: dir}
	if ms.net, err = openNetwork(ctx, "", names); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	var hosts strings.Builder
	hosts.WriteString("127.0.0.1 localhost\n")
	for i, name := range names {
		fmt.Fprintf(&hosts, "%s %s\n", hostAddress(i), name)
	}
	for i, host := range ms.net.hosts {
		m := &Machine{Host: host, Addr: hostAddress(i), dir: filepath.Join(dir, host.Name)}
		m.node = &Node{Host: host, Addr: m.Addr}
		ms.List = append(ms.List, m)
		err := m.prepare(ctx, hosts.String())
		if err == nil {
			err = m.start(ctx, tree, shown)
		}
		if err != nil {
			return nil, errors.Join(err, ms.Close(), os.RemoveAll(dir))
		}
	}
	for _, m := range ms.List {
		if err := m.awaitBoot(ctx); err != nil {
			return nil, errors.Join(err, ms.Close(), os.RemoveAll(dir))
		}
	}
	return ms, nil
}

// Close ends every machine, not gently, and removes the network. The folder stays: see Remove.
func (ms *Machines) Close() error {
	for _, m := range ms.List {
		m.kill()
	}
	err := ms.net.close()
	for _, m := range ms.List {
		removeControlGroup(m.NS)
	}
	return err
}

// Cut pulls a machine's cable: it reaches nobody, and what it sends is lost.
func (ms *Machines) Cut(ctx context.Context, m *Machine) error {
	return ms.net.plug(ctx, m.Host, "down")
}

// Heal puts the cable back.
func (ms *Machines) Heal(ctx context.Context, m *Machine) error {
	return ms.net.plug(ctx, m.Host, "up")
}

// Remove deletes the machines' folder.
func (ms *Machines) Remove() error { return os.RemoveAll(ms.Dir) }

// prepare makes the machine's folder: what its file tree has over the common one, and its data.
func (m *Machine) prepare(ctx context.Context, hosts string) error {
	for _, sub := range []string{"upper/etc", "work", "root", "data"} {
		if err := os.MkdirAll(filepath.Join(m.dir, sub), 0o755); err != nil {
			return fmt.Errorf("machine %s: %w", m.Name, err)
		}
	}
	for name, text := range map[string]string{"hostname": m.Name + "\n", "hosts": hosts} {
		if err := os.WriteFile(filepath.Join(m.dir, "upper/etc", name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("machine %s: %w", m.Name, err)
		}
	}
	return runAll(ctx, "truncate -s 4G "+filepath.Join(m.dir, "data.ext4"),
		"mke2fs -q -t ext4 "+filepath.Join(m.dir, "data.ext4"))
}

func (m *Machine) start(ctx context.Context, tree, shown string) error {
	console, err := os.Create(filepath.Join(m.dir, "console"))
	if err != nil {
		return fmt.Errorf("machine %s: %w", m.Name, err)
	}
	defer console.Close()
	m.cmd = exec.CommandContext(context.WithoutCancel(ctx), "unshare", "--mount", "--propagation", "private",
		"sh", "-c", bootScript, "sh", m.Name, m.dir, tree, m.NS, shown)
	m.cmd.Stdout, m.cmd.Stderr = console, console
	detach(m.cmd)
	if err := m.cmd.Start(); err != nil {
		return fmt.Errorf("machine %s: %w", m.Name, err)
	}
	m.done = make(chan struct{})
	go func() {
		_ = m.cmd.Wait()
		close(m.done)
	}()
	return nil
}

// awaitBoot waits until the machine's systemd has started everything.
func (m *Machine) awaitBoot(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	return m.Await(ctx, "the end of its boot", func() error {
		if m.leader == 0 {
			m.leader = m.child()
		}
		if m.leader == 0 {
			return errors.New("no process yet")
		}
		state, err := m.Run(ctx, "systemctl", "is-system-running")
		if strings.TrimSpace(string(state)) == "running" {
			return nil
		}
		return fmt.Errorf("systemd is not up: %w", err)
	})
}

// child is the process that systemd-nspawn has started, 0 while there is none.
func (m *Machine) child() int {
	pid := m.cmd.Process.Pid
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	fields := strings.Fields(string(b))
	if err != nil || filepath.Base(exe) != "systemd-nspawn" || len(fields) == 0 {
		return 0
	}
	child, _ := strconv.Atoi(fields[0])
	name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", child))
	if strings.TrimSpace(string(name)) != "systemd" {
		return 0
	}
	return child
}

// Command prepares a program that will run inside the machine, with the environment of a root
// shell. It is killed when ctx ends.
func (m *Machine) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"-t", strconv.Itoa(m.leader), "-a", "-w", name}, args...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8",
		"DEBIAN_FRONTEND=noninteractive"}
	detach(cmd)
	return cmd
}

// Run runs a program inside the machine and returns what it printed; an error holds what it said.
func (m *Machine) Run(ctx context.Context, name string, args ...string) ([]byte, error) {
	return output(m.Command(ctx, name, args...), fmt.Sprintf("%s: %s %s", m.Name, name, strings.Join(args, " ")))
}

// File is Node's: a file in a volume, through the agent on this machine's loopback.
func (m *Machine) File(volume, name string, create bool) *drill.File {
	return m.node.File(volume, name, create)
}

// DialNFS is Node's: a connection to the agent on this machine's loopback.
func (m *Machine) DialNFS(ctx context.Context) (*nfs3.Client, error) { return m.node.DialNFS(ctx) }

// Await calls holds every PollInterval until it returns nil or ctx ends.
func (m *Machine) Await(ctx context.Context, what string, holds func() error) error {
	for {
		err := holds()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("machine %s: waiting for %s: %w; last: %w", m.Name, what, ctx.Err(), err)
		case <-m.done:
			return fmt.Errorf("machine %s: waiting for %s: the machine has ended; see %s/console", m.Name, what, m.dir)
		case <-time.After(PollInterval):
		}
	}
}

// FreezeData makes every write to the machine's data directory hang for d, as on a disk that does
// not answer. It returns at once. The thaw comes whatever happens to this process: a file system
// that stayed frozen would hold its writers for ever.
func (m *Machine) FreezeData(ctx context.Context, d time.Duration) error {
	script := `fsfreeze -f "$1"; (trap '' HUP; sleep "$2"; fsfreeze -u "$1") >/dev/null 2>&1 &`
	cmd := exec.CommandContext(ctx, "setsid", "nsenter", "-t", strconv.Itoa(m.cmd.Process.Pid), "-m", "sh", "-c", script, "sh",
		filepath.Join(m.dir, "data"), fmt.Sprint(d.Seconds()))
	_, err := output(cmd, m.Name+": fsfreeze")
	return err
}

// SetImmutable has a folder below the machine's data directory take no new files and lose none, or lifts that: the
// agent's writes fail, as on a disk that has failed in part.
func (m *Machine) SetImmutable(ctx context.Context, folder string, yes bool) error {
	how := "-i"
	if yes {
		how = "+i"
	}
	cmd := exec.CommandContext(ctx, "nsenter", "-t", strconv.Itoa(m.cmd.Process.Pid), "-m", "chattr", how, filepath.Join(m.dir, "data", folder))
	_, err := output(cmd, m.Name+": chattr")
	return err
}

// kill ends the machine with all its processes.
func (m *Machine) kill() {
	if m.done == nil {
		return
	}
	if m.leader != 0 {
		_ = syscall.Kill(m.leader, syscall.SIGKILL) // fails when it has ended; its processes die with it
	}
	_ = m.cmd.Process.Kill()
	<-m.done
}

// removeControlGroup removes the control groups that a machine has left, below any place that
// cgroup2 is mounted at. An error only means that some are still there, empty.
func removeControlGroup(name string) {
	b, _ := os.ReadFile("/proc/self/mounts")
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 3 || f[2] != "cgroup2" {
			continue
		}
		var groups []string
		_ = filepath.WalkDir(filepath.Join(f[1], name), func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				groups = append(groups, path)
			}
			return nil
		})
		for i := len(groups) - 1; i >= 0; i-- { // those inside first
			_ = os.Remove(groups[i])
		}
		return
	}
}
