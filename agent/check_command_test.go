package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"trinas/agent/config"
	"trinas/agent/control"
	"trinas/replica"
	"trinas/replica/disk"
)

type checkReport struct {
	Status string
	Checks []struct{ Check, Level, Text, Do string }
}

// runCheck runs trinas check --json for an agent's configuration.
func runCheck(t *testing.T, c config.Config) checkReport {
	t.Helper()
	file := filepath.Join(t.TempDir(), "trinas.toml")
	text := "data_dir = \"" + c.DataDir + "\"\n[node]\nname = \"" + c.Node.Name + "\"\n[peer]\nlisten = \"" + c.Peer.Listen +
		"\"\n[nfs]\nportmap = \"off\"\nlisten = \"" + c.NFS.Listen[0] + "\"\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := runCLI(t, "check", "--json", "--socket", c.Control.Socket, "--config", file)
	var r checkReport
	if jsonErr := json.Unmarshal([]byte(out), &r); jsonErr != nil {
		t.Fatalf("%v in %q", jsonErr, out)
	}
	status := exitStatus(0)
	errors.As(err, &status)
	if want := map[string]exitStatus{"ok": 0, "warning": 1, "error": 2}[r.Status]; status != want || (want == 0) != (err == nil) {
		t.Errorf("status %q and exit status %d, %v", r.Status, status, err)
	}
	return r
}

// has looks for a finding by check, level and part of its text or remedy.
func (r checkReport) has(check, level, part string) bool {
	for _, f := range r.Checks {
		if f.Check == check && f.Level == level && strings.Contains(f.Text+"; "+f.Do, part) {
			return true
		}
	}
	return false
}

// Goal: trinas check says the right thing at every stage of a node's life. Method: whole agents;
// the machine's own clock and load are left out of account.
func TestCommand_Check(t *testing.T) {
	one, two := testConfig(t), testConfig(t)
	two.Node.Name = "n2"
	must := func(stage string, r checkReport, check, level, part string) {
		t.Helper()
		if !r.has(check, level, part) {
			t.Errorf("%s: no %s on %s with %q: %+v", stage, level, check, part, r.Checks)
		}
	}
	r := runCheck(t, one)
	must("before all", r, "agent", "warning", "systemctl start trinas")
	must("before all", r, "ports", "ok", one.Peer.Listen+" (peer.listen) for other nodes: free")

	first, stop := startAgent(t, one)
	waitFor(t, first, "waiting", inState(control.Waiting))
	must("waiting", runCheck(t, one), "agent", "ok", control.Waiting)
	inv, err := first.Init(t.Context(), "home", "")
	if err != nil {
		t.Fatal(err)
	}
	second, stopSecond := startAgent(t, two)
	waitFor(t, second, "waiting", inState(control.Waiting))
	if err := second.Join(t.Context(), "", inv.Address, inv.Token); err != nil {
		t.Fatal(err)
	}
	waitFor(t, first, "connection", func(st control.Status) bool {
		return st.Agent.State == control.Running && len(st.Nodes) == 2 && st.Nodes[1].Connected
	})
	r = runCheck(t, one)
	must("two nodes", r, "agent", "ok", "running, node n1 of cluster home")
	must("two nodes", r, "ports", "ok", "listens")
	must("two nodes", r, "network", "ok", "connects back")
	must("two nodes", r, "clock", "ok", "n2's is")
	must("two nodes", r, "versions", "ok", "1 other nodes")
	must("two nodes", r, "certificates", "ok", "n2's is good until")
	must("two nodes", r, "mtu", "ok", "n2")
	must("two nodes", r, "disk", r.levelOf("disk"), "a synced write of 4 KiB in "+one.DataDir)

	if err := stopSecond(); err != nil {
		t.Error(err)
	}
	waitForMembers(t, one.DataDir, 2)
	waitFor(t, first, "loss", func(st control.Status) bool { return len(st.Nodes) == 2 && !st.Nodes[1].Connected })
	must("n2 down", runCheck(t, one), "network", "error", "systemctl start trinas")
	if err := stop(); err != nil {
		t.Error(err)
	}
	r = runCheck(t, one)
	must("all down", r, "agent", "error", "node n1 of cluster home has no agent running")
	must("all down", r, "network", "error", "n2 ("+two.Peer.Listen+")") // known from the data directory

	if err := os.Remove(filepath.Join(one.DataDir, "node.json")); err != nil {
		t.Fatal(err)
	}
	must("identity lost", runCheck(t, one), "data", "error", "node.json")
	one.NFS.Listen = config.Addresses{"nowhere"}
	must("bad configuration", runCheck(t, one), "configuration", "error", "nfs.listen")
}

// waitForMembers waits until a data directory names so many members.
func waitForMembers(t *testing.T, dir string, n int) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for ; ; time.Sleep(20 * time.Millisecond) {
		m, err := replica.Inspect(disk.OS(dir))
		if err == nil && len(m.Members) == n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %+v, %v", dir, m, err)
		}
	}
}

func (r checkReport) levelOf(check string) string {
	for _, f := range r.Checks {
		if f.Check == check {
			return f.Level
		}
	}
	return "none"
}
