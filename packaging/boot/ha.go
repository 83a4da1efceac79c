package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"trinas/packaging/lab"
)

const (
	evacuateAfter = 10 * time.Second // the settings of these trials
	returnAfter   = 10 * time.Second
	stuckAfter    = 20 * time.Second

	cutOffAfter = 10 * time.Second // a node takes itself for cut off
	haWithin    = 90 * time.Second // also between two commands to HA a minute passes
)

// installHA makes a machine look like a node of Proxmox to the agent, and has the agent do all it may.
const installHA = `set -e
install -m 755 "$1/pmxcfs" "$1/ha-manager" /usr/sbin/
install -m 644 "$1/pve-cluster.service" /etc/systemd/system/
mkdir -p /var/lib/pve-cluster
cp -r "$1/etc-pve/." /var/lib/pve-cluster/
chmod 700 /var/lib/pve-cluster/priv
systemctl enable -q --now pve-cluster.service
sed -i 's/^evacuate = .*/evacuate = true/; s/^evacuate_after = .*/evacuate_after = "10s"/; s/^return_after = .*/return_after = "10s"/
    s/^kill_stuck = .*/kill_stuck = true/; /^kill_stuck/,$ s/^stuck_after = .*/stuck_after = "20s"/' /etc/trinas/trinas.toml
systemctl restart trinas.service
systemctl restart pve-cluster.service # the agent, in its own name space of mounts, must see the new one
`

// ha shows what ha.evacuate and ha.kill_stuck do in a whole agent in the unit's sandbox. What stands in for Proxmox is in
// folder ha.
func (t *trial) ha(ctx context.Context) error {
	files := filepath.Join(t.repo.dir, "ha")
	if err := errors.Join(os.RemoveAll(files), os.CopyFS(files, os.DirFS("packaging/boot/ha"))); err != nil {
		return err
	}
	for _, m := range t.nodes {
		if _, err := m.Run(ctx, "sh", "-c", installHA, "sh", files); err != nil {
			return err
		}
		if err := t.settled(ctx); err != nil {
			return err
		}
	}
	if err := sandboxed(ctx, t.nodes[1]); err != nil {
		return err
	}
	told, err := t.evacuate(ctx, t.nodes[1])
	if err != nil {
		return fmt.Errorf("evacuate: %w", err)
	}
	if err := t.killStuck(ctx, t.nodes[2], t.nodes[0]); err != nil {
		return fmt.Errorf("kill stuck guests: %w", err)
	}
	if err := t.comeBack(ctx, t.nodes[1], told); err != nil {
		return fmt.Errorf("come back: %w", err)
	}
	for _, m := range []*lab.Machine{t.nodes[0], t.nodes[2]} {
		if said := commands(ctx, m); said != "" {
			return fmt.Errorf("HA was told %q on %s, which is well", said, m.Name)
		}
	}
	return nil
}

// sandboxed is an error unless the agent is in the unit's sandbox and has no more rights than its two capabilities.
func sandboxed(ctx context.Context, m *lab.Machine) error {
	out, err := m.Run(ctx, "sh", "-c", `cat "/proc/$(systemctl show -P MainPID trinas)/status"`)
	if err != nil {
		return err
	}
	got := map[string]uint64{}
	for line := range strings.Lines(string(out)) { // proc_pid_status(5); what is no number is not asked for
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
		got[name], _ = strconv.ParseUint(value, 16, 64)
	}
	const allowed = 1<<unix.CAP_SYS_RESOURCE | 1<<unix.CAP_NET_BIND_SERVICE
	if got["CapEff"] == 0 || got["CapBnd"]&^allowed != 0 || got["NoNewPrivs"] != 1 || got["Seccomp"] != 2 {
		return fmt.Errorf("%s: the agent is not in the unit's sandbox:\n%s", m.Name, out)
	}
	if got["CapEff"] != allowed {
		fmt.Printf("left out: the machine has capabilities %x of the unit's %x: without CAP_SYS_RESOURCE the agent is no I/O flusher\n", got["CapEff"], uint64(allowed))
	}
	return nil
}

// commands is what HA has been told on a machine.
func commands(ctx context.Context, m *lab.Machine) string {
	out, _ := m.Run(ctx, "sh", "-c", "cat /etc/pve/ha/crm_commands 2>/dev/null") // none yet: nothing
	return strings.TrimSpace(string(out))
}

// awaitCommand waits until HA has been told that, and nothing else.
func awaitCommand(ctx context.Context, m *lab.Machine, want string) error {
	ctx, cancel := context.WithTimeout(ctx, haWithin)
	defer cancel()
	return m.Await(ctx, "HA to be told "+want, func() error {
		if said := commands(ctx, m); said != want {
			return fmt.Errorf("it was told %q", said)
		}
		return nil
	})
}

// logged waits until a machine's journal has an event so many times; an agent logs what it did afterwards. It is an error
// when there are more.
func logged(ctx context.Context, m *lab.Machine, event string, times int) error {
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	return m.Await(ctx, "its journal", func() error {
		out, err := m.Run(ctx, "sh", "-c", `journalctl -q -u trinas -o cat "TRINAS_EVENT=$1" | wc -l`, "sh", event)
		if got := strings.TrimSpace(string(out)); err == nil && got != fmt.Sprint(times) {
			err = fmt.Errorf("it has %s events %s, not %d", got, event, times)
		}
		return err
	})
}

// evacuate has a node's replica fail: HA is told to move its guests away. It returns when that was.
func (t *trial) evacuate(ctx context.Context, m *lab.Machine) (told time.Time, err error) {
	out, err := m.Run(ctx, "sh", "-c", "cd /var/lib/trinas && echo volumes/*/objects")
	if err != nil {
		return told, err
	}
	objects := strings.TrimSpace(string(out))
	began := time.Now()
	if err := m.SetImmutable(ctx, objects, true); err != nil {
		return told, err
	}
	if err := write(ctx, t.nodes[0], volumeName, "evacuated", 1); err != nil {
		return told, err
	}
	if err := awaitCommand(ctx, m, "enable-node-maintenance "+m.Name); err != nil {
		return told, err
	}
	told = time.Now()
	report(m.Name+": its replica fails, HA is told to move its guests away after", told.Sub(began), evacuateAfter+10*time.Second)
	err = logged(ctx, m, "ha-evacuated", 1)
	// The CRM takes note.
	_, noteErr := m.Run(ctx, "sh", "-c", `test -e "/etc/pve/priv/trinas/$1.evacuated" && rm /etc/pve/ha/crm_commands &&
		sed -i "s/\"$1\":\"online\"/\"$1\":\"maintenance\"/" /etc/pve/ha/manager_status`, "sh", m.Name)
	if err := errors.Join(err, noteErr, m.SetImmutable(ctx, objects, false)); err != nil {
		return told, err
	}
	if _, err := m.Run(ctx, "trinas", "volume", "retry", volumeName); err != nil {
		return told, err
	}
	return told, t.settled(ctx)
}

// comeBack waits until HA is told that the node is well again.
func (t *trial) comeBack(ctx context.Context, m *lab.Machine, told time.Time) error {
	if err := awaitCommand(ctx, m, "disable-node-maintenance "+m.Name); err != nil {
		return err
	}
	report(m.Name+": UpToDate and quiet again, HA is told so, after the first", time.Since(told), 0)
	_, err := m.Run(ctx, "sh", "-c", `test ! -e "/etc/pve/priv/trinas/$1.evacuated"`, "sh", m.Name)
	return errors.Join(err, logged(ctx, m, "ha-returned", 1), logged(ctx, m, "ha-evacuate-failed", 0))
}

// write writes one block, durably, and reads it back, through a machine.
func write(ctx context.Context, m *lab.Machine, folder, name string, number uint64) error {
	f := m.File(folder, name, true)
	defer f.Close()
	if err := f.Write(ctx, block(number), 0); err != nil {
		return err
	}
	got, err := f.Read(ctx, blockBytes, 0)
	if err == nil && string(got) != string(block(number)) {
		err = fmt.Errorf("%s: %s/%s is not what was written", m.Name, folder, name)
	}
	return err
}

// makeFolder makes a folder in a folder of the volume.
func makeFolder(ctx context.Context, m *lab.Machine, in, name string) error {
	f := m.File(in, "", false)
	defer f.Close()
	return lab.MakeFolder(ctx, f, name)
}
