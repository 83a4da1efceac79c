package ha

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"trinas/agent/pve"
	"trinas/replica"
)

// killEvery is how often the Killer looks.
const killEvery = 2 * time.Second

// PIDDir is where Proxmox keeps the process ids of its virtual machines.
const PIDDir = "/var/run/qemu-server"

// Killer ends guests of this node that can only wait: virtual machines that HA manages, with requests that wait for a
// volume which this node is cut off from while corosync has a majority and sees enough nodes that could serve
// it. HA sees that they have ended; they cannot start here (an activation fails at once), and HA starts them on
// another node. Without it such a guest would hang until the network is mended, since HA finds the node well.
type Killer struct {
	Node  string // Proxmox's name of this node
	Dir   pve.Dir
	Stuck func() []replica.Stuck
	After time.Duration // how long a volume must be stuck
	PIDs  string        // PIDDir
	Log   *slog.Logger

	// looks counts those in a row that found a volume stuck. Not time: when the whole node stood still no look
	// took place.
	looks map[string]int
	ended map[int]int // process id by VMID, of those that were killed: one in an uninterruptible wait stays
	said  string      // the last complaint, so that it is not repeated
}

// Run looks until ctx ends.
func (k *Killer) Run(ctx context.Context) {
	tick := time.NewTicker(killEvery)
	defer tick.Stop()
	for {
		err := k.step()
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != "" && text != k.said {
			k.Log.Warn("guests whose storage is stuck on this node are left as they are", "event", "guests-left", "cause", err)
		}
		k.said = text
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// step looks once. The error says why guests that are stuck are left alone.
func (k *Killer) step() error {
	looks := map[string]int{}
	var due []replica.Stuck
	for _, s := range k.Stuck() {
		looks[s.Volume] = k.looks[s.Volume] + 1
		if time.Duration(looks[s.Volume])*killEvery >= k.After {
			due = append(due, s)
		}
	}
	if k.looks = looks; len(due) == 0 {
		return nil
	}
	quorum, err := k.Dir.Quorum()
	if err != nil {
		return err
	}
	if !quorum.Quorate {
		return errors.New("corosync has no majority either: HA fences this node itself")
	}
	cluster, err := Read(k.Dir)
	if err != nil {
		return err
	}
	var all []error
	for _, s := range due {
		if !k.others(s, quorum) {
			all = append(all, fmt.Errorf("corosync does not see a majority of the nodes that keep volume %s either: nobody could serve it", s.Volume))
			continue
		}
		for _, m := range cluster.managed() {
			if k.waits(&m, s, cluster.Manager) {
				all = append(all, k.kill(m.VMID, s))
			}
		}
	}
	return errors.Join(all...)
}

// others reports whether corosync sees a majority of the volume's nodes besides this one.
func (k *Killer) others(s replica.Stuck, q pve.Quorum) bool {
	seen := 0
	for _, node := range s.Replicas {
		if !strings.EqualFold(node, k.Node) && slices.ContainsFunc(q.Online, func(n string) bool { return strings.EqualFold(n, node) }) {
			seen++
		}
	}
	return seen >= len(s.Replicas)/2+1
}

// waits reports whether a guest is a virtual machine that HA keeps running on this node, and one of its disks, or the
// folder of one, has requests that wait.
func (k *Killer) waits(m *managed, s replica.Stuck, status pve.ManagerStatus) bool {
	service := status.Services[m.Resource.SID]
	if !strings.HasPrefix(m.Resource.SID, "vm:") || m.Resource.State != "started" || service.State != "started" || service.Node != k.Node || m.Node != k.Node {
		return false
	}
	return slices.ContainsFunc(m.disks, func(d disk) bool {
		return d.Volume == s.Volume && (s.Paths == nil || slices.ContainsFunc(s.Paths, func(p string) bool {
			return p == d.path || p != "" && p == filepath.Dir(d.path)
		}))
	})
}

// kill ends a virtual machine's process, which it has recognized by its command line. One that is not there is no
// error.
func (k *Killer) kill(vmid int, s replica.Stuck) error {
	b, err := os.ReadFile(filepath.Join(k.PIDs, strconv.Itoa(vmid)+".pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 1 {
		return fmt.Errorf("%s holds no process id", filepath.Join(k.PIDs, strconv.Itoa(vmid)+".pid"))
	}
	if k.ended[vmid] == pid {
		return nil
	}
	// The descriptor first: it stays with the process that is then looked at, whoever has the number later.
	process, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil // the file of one that has ended
	}
	if err != nil {
		return fmt.Errorf("guest %d: open process %d: %w", vmid, pid, err)
	}
	defer unix.Close(process)
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return fmt.Errorf("guest %d: look at process %d: %w", vmid, pid, err)
	}
	if !isGuest(args, vmid) {
		return fmt.Errorf("process %d is not guest %d, whatever %s/%d.pid says", pid, vmid, k.PIDs, vmid)
	}
	if err := unix.PidfdSendSignal(process, unix.SIGKILL, nil, 0); err != nil {
		return fmt.Errorf("guest %d: kill process %d: %w", vmid, pid, err)
	}
	if k.ended == nil {
		k.ended = map[int]int{}
	}
	k.ended[vmid] = pid
	k.Log.Error("a guest was killed, so that HA starts it on another node: its I/O waits here and cannot go on",
		"event", "guest-killed", "guest", vmid, "volume", s.Volume, "reason", s.Reason)
	return nil
}

// isGuest reports whether a command line (proc_pid_cmdline(5)) is that of the guest's QEMU, as Proxmox starts it:
// "/usr/bin/kvm -id 100 ...".
func isGuest(cmdline []byte, vmid int) bool {
	args := strings.Split(string(bytes.TrimRight(cmdline, "\x00")), "\x00")
	name := filepath.Base(args[0])
	if name != "kvm" && !strings.HasPrefix(name, "qemu-system-") {
		return false
	}
	at := slices.Index(args, "-id")
	return at >= 0 && at+1 < len(args) && args[at+1] == strconv.Itoa(vmid)
}
