package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"trinas/packaging/lab"
)

const (
	volumeName   = "vms" // README's
	settleWithin = 30 * time.Second
)

// trial is the course of the test: each part finds the machines as the one before has left them.
type trial struct {
	repo     *repository
	machines *lab.Machines
	nodes    []*lab.Machine // the cluster's
	spare    *lab.Machine   // for install and purge alone
	image    string         // of the system that the plugin's mount is tried on
	parts    string         // names with commas between; "": all
	writers  []*writer
}

func (t *trial) run(ctx context.Context) error {
	for _, part := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"set-up", t.setUp}, {"journal", t.journal}, {"upgrade", t.upgrade}, {"stop", t.stop}, {"remove", t.remove},
		{"hanging disk", t.hang}, {"data", t.data}, {"HA", t.ha}, {"mount", t.mount}, {"shutdown", t.shutdown}, {"purge", t.purge},
	} {
		if t.parts != "" && !slices.Contains(strings.Split(t.parts, ","), part.name) {
			continue
		}
		if err := part.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// setUp runs README's commands, each where its comment says.
func (t *trial) setUp(ctx context.Context) error {
	for _, m := range append(t.nodes, t.spare) {
		if err := t.addRepository(ctx, m); err != nil {
			return err
		}
	}
	steps, err := readSteps("README.md")
	if err != nil {
		return err
	}
	began := time.Now()
	printed := ""
	for _, s := range steps {
		if why := leftOut()[strings.Fields(s.command)[0]]; why != "" {
			fmt.Printf("left out: %s: %s\n", strings.Fields(s.command)[0], why)
			continue
		}
		command, err := s.fill(printed)
		if err != nil {
			return err
		}
		if name, install := strings.CutPrefix(command, "apt install "); install {
			command = "apt-get install -y -q " + name // apt itself warns that it is for people
		}
		for _, i := range s.on {
			at := time.Now()
			out, err := t.nodes[i].Run(ctx, "sh", "-c", command)
			if err != nil {
				return err
			}
			printed = string(out)
			if strings.HasPrefix(command, "apt-get") {
				if err := t.active(ctx, t.nodes[i]); err != nil {
					return err
				}
				report(t.nodes[i].Name+": apt install, to the active unit", time.Since(at), 5*time.Second)
			}
		}
	}
	if err := t.settled(ctx); err != nil {
		return err
	}
	report("README's commands, to three replicas UpToDate", time.Since(began), 5*time.Minute)
	for _, m := range t.nodes {
		t.writers = append(t.writers, startWriter(ctx, m, volumeName))
	}
	return t.allGoOn(ctx)
}

func (t *trial) addRepository(ctx context.Context, m *lab.Machine) error {
	if _, err := m.Run(ctx, "cp", filepath.Join(t.repo.dir, "trinas.sources"), "/etc/apt/sources.list.d/"); err != nil {
		return err
	}
	_, err := m.Run(ctx, "apt-get", "update", "-q")
	return err
}

// active is an error unless both units are, and the agent's version is the package's.
func (t *trial) active(ctx context.Context, m *lab.Machine) error {
	if _, err := m.Run(ctx, "systemctl", "is-active", "--quiet", "trinas.service", "trinas.socket"); err != nil {
		return err
	}
	_, err := m.Run(ctx, "systemctl", "is-enabled", "--quiet", "trinas.service", "trinas.socket")
	return err
}

// journal looks for the fields, the catalog's text and the status line.
func (t *trial) journal(ctx context.Context) error {
	m := t.nodes[0]
	out, err := m.Run(ctx, "journalctl", "-u", "trinas", "-o", "json", "-n", "1", "TRINAS_EVENT=primary", "TRINAS_VOLUME="+volumeName)
	if err != nil {
		return err
	}
	var entry map[string]any
	if err := json.Unmarshal(out, &entry); err != nil {
		return fmt.Errorf("no line with TRINAS_EVENT and TRINAS_VOLUME: %w: %s", err, out)
	}
	for field, want := range map[string]any{"TRINAS_NODE": m.Name, "PRIORITY": "6", "SYSLOG_IDENTIFIER": "trinas", "_SYSTEMD_UNIT": "trinas.service"} {
		if entry[field] != want {
			return fmt.Errorf("field %s is %v, want %v", field, entry[field], want)
		}
	}
	out, err = m.Run(ctx, "journalctl", "-x", "--no-pager", "-u", "trinas", fmt.Sprint("MESSAGE_ID=", entry["MESSAGE_ID"]))
	if err != nil || !strings.Contains(string(out), "Subject: A volume has a new primary") {
		return fmt.Errorf("journalctl -x does not explain the event (%v): %s", err, out)
	}
	out, err = m.Run(ctx, "systemctl", "show", "-P", "StatusText", "trinas")
	if err != nil || !strings.Contains(string(out), "3 of 3 nodes connected") {
		return fmt.Errorf("systemd's status line is %q (%v)", out, err)
	}
	out, err = m.Run(ctx, "systemctl", "show", "-P", "WatchdogUSec", "trinas")
	if err != nil || strings.TrimSpace(string(out)) != "10s" {
		return fmt.Errorf("the watchdog's time is %q (%v)", out, err)
	}
	fmt.Println("journal: fields, journalctl -x, status line, watchdog: as they should be")
	return nil
}

// upgrade installs the newer package on one node after the other, under load.
func (t *trial) upgrade(ctx context.Context) error {
	if err := t.repo.publish(ctx, t.repo.older, t.repo.newer); err != nil {
		return err
	}
	for _, m := range t.nodes {
		if err := t.lead(ctx, m); err != nil { // the node that it costs most to restart
			return err
		}
		t.forgetGaps()
		if _, err := m.Run(ctx, "apt-get", "update", "-q"); err != nil {
			return err
		}
		if _, err := m.Run(ctx, "apt-get", "install", "-y", "-q", "trinas"); err != nil {
			return err
		}
		out, err := m.Run(ctx, "dpkg-query", "-W", "-f", "${Version}", "trinas")
		if err != nil || string(out) != t.repo.newer.version {
			return fmt.Errorf("%s has version %q (%v), want %s", m.Name, out, err, t.repo.newer.version)
		}
		if err := errors.Join(t.settled(ctx), t.allGoOn(ctx)); err != nil {
			return err
		}
		if err := t.reportGaps(m.Name+" (primary): upgrade", 500*time.Millisecond); err != nil {
			return err
		}
	}
	for _, m := range t.nodes {
		if err := t.lead(ctx, m); err != nil {
			return err
		}
		t.forgetGaps()
		if _, err := m.Run(ctx, "systemctl", "restart", "trinas"); err != nil {
			return err
		}
		if err := errors.Join(t.settled(ctx), t.allGoOn(ctx)); err != nil {
			return err
		}
		if err := t.reportGaps(m.Name+" (primary): systemctl restart", 500*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// stop stops a primary's agent: the others' requests go on through another primary.
func (t *trial) stop(ctx context.Context) error {
	m := t.nodes[0]
	if err := t.lead(ctx, m); err != nil {
		return err
	}
	t.forgetGaps()
	if _, err := m.Run(ctx, "systemctl", "stop", "trinas.socket"); err != nil {
		return err
	}
	if primary, err := t.primary(ctx, t.nodes[1]); err != nil || primary == m.Name || primary == "" {
		return fmt.Errorf("the primary is %q after %s was stopped (%v)", primary, m.Name, err)
	}
	if err := t.othersGoOn(ctx, m); err != nil {
		return err
	}
	for i, w := range t.writers {
		if t.nodes[i] != m {
			gap, err := w.gap()
			if err != nil {
				return err
			}
			report(fmt.Sprintf("%s (primary): systemctl stop; longest gap on %s", m.Name, t.nodes[i].Name), gap, 100*time.Millisecond)
		}
	}
	if _, err := m.Run(ctx, "systemctl", "start", "trinas.socket", "trinas.service"); err != nil {
		return err
	}
	return errors.Join(t.settled(ctx), t.allGoOn(ctx))
}

// remove removes the package from a node and installs it again: its data are still there.
func (t *trial) remove(ctx context.Context) error {
	m := t.nodes[2]
	if _, err := m.Run(ctx, "apt-get", "remove", "-y", "-q", "trinas"); err != nil {
		return err
	}
	if _, err := m.Run(ctx, "sh", "-c", "test ! -e /usr/bin/trinas && test -e /var/lib/trinas/node.json"); err != nil {
		return fmt.Errorf("after the removal: %w", err)
	}
	if err := t.othersGoOn(ctx, m); err != nil {
		return err
	}
	began := time.Now()
	if _, err := m.Run(ctx, "apt-get", "install", "-y", "-q", "trinas"); err != nil {
		return err
	}
	if err := errors.Join(t.settled(ctx), t.allGoOn(ctx)); err != nil {
		return err
	}
	report(m.Name+": removed, installed again, UpToDate", time.Since(began), 0)
	return nil
}

// hang freezes the primary's disk: its agent leaves, the others go on, and it comes back with its
// disk.
func (t *trial) hang(ctx context.Context) error {
	m := t.nodes[0]
	if err := t.lead(ctx, m); err != nil {
		return err
	}
	t.forgetGaps()
	began := time.Now()
	if err := m.FreezeData(ctx, 20*time.Second); err != nil {
		return err
	}
	soon, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	err := m.Await(soon, "the journal to say that the log hangs", func() error {
		out, err := m.Run(soon, "journalctl", "-u", "trinas", "-o", "cat", "TRINAS_EVENT=log-stuck")
		if err == nil && !strings.Contains(string(out), "log hangs") {
			err = errors.New("it does not")
		}
		return err
	})
	if err != nil {
		return err
	}
	report("the primary's disk hangs: its agent ends after", time.Since(began), 10*time.Second)
	if err := t.othersGoOn(ctx, m); err != nil {
		return err
	}
	for i, w := range t.writers {
		if t.nodes[i] != m {
			gap, err := w.gap()
			if err != nil {
				return err
			}
			report("meanwhile: longest gap on "+t.nodes[i].Name, gap, 10*time.Second)
		}
	}
	if err := errors.Join(t.settled(ctx), t.allGoOn(ctx)); err != nil {
		return err
	}
	report("the disk answers again after 20 s: all UpToDate after", time.Since(began), 0)
	out, err := m.Run(ctx, "systemctl", "show", "-P", "NRestarts", "trinas")
	if err != nil || strings.TrimSpace(string(out)) == "0" {
		return fmt.Errorf("the agent was not started anew (%v)", err)
	}
	return nil
}

// data ends the writers and reads every file through every node.
func (t *trial) data(ctx context.Context) error {
	total := uint64(0)
	for _, w := range t.writers {
		n, err := w.end()
		if err != nil {
			return err
		}
		total += n
	}
	for i, w := range t.writers {
		for _, through := range t.nodes {
			if err := w.check(ctx, through, volumeName, "writer-"+t.nodes[i].Name); err != nil {
				return err
			}
		}
	}
	fmt.Printf("data: %d writes acknowledged, no error; every block is right through every node\n", total)
	return nil
}

// saveJournals keeps what the machines' journals have of trinas.
func (t *trial) saveJournals() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, m := range t.machines.List {
		out, err := m.Run(ctx, "journalctl", "--no-pager", "-o", "short-precise", "-u", "trinas.service", "-u", "trinas.socket")
		if err == nil {
			err = os.WriteFile(filepath.Join(t.machines.Dir, m.Name+".journal"), out, 0o644)
		}
		if err != nil {
			fmt.Println("no journal:", err)
		}
	}
}
