package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"trinas/agent/control"
	"trinas/agent/drill"
	"trinas/nfsgw/nfs3"
)

// left is what there is of drills: files in the volume and in data directories.
func left(t *testing.T, agents []testAgent) (found []string) {
	t.Helper()
	nfs, err := nfs3.Dial(t.Context(), agents[0].config.NFS.Listen[0], "test", false)
	if err != nil {
		t.Fatal(err)
	}
	defer nfs.Close()
	root, err := nfs.Mnt(t.Context(), "/vm")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range agents {
		if _, _, err := nfs.Lookup(t.Context(), root, ".trinas-drill-"+a.config.Node.Name); err == nil {
			found = append(found, "probe's file of "+a.config.Node.Name)
		}
		if _, err := os.Stat(filepath.Join(a.config.DataDir, "drill")); !errors.Is(err, os.ErrNotExist) {
			found = append(found, "state of "+a.config.Node.Name)
		}
	}
	return found
}

// Goal: a drill moves the primary round the nodes, loses nothing, tells times for every transition and
// leaves nothing behind; it needs consent, runs once at a time, ends by itself when those who asked are
// gone, kills no agent that nobody starts again, and refuses while a node is missing. Method: three
// whole agents, the command line.
func TestDrill(t *testing.T) {
	if testing.Short() {
		t.Skip("three agents")
	}
	agents := startCluster(t, 3, func(d *daemon) { d.lease = 7 * time.Second })
	if _, err := agents[0].CreateVolume(t.Context(), "vm", 3); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, error) {
		return runCLI(t, append(append([]string{"drill"}, args...), "--socket", agents[0].config.Control.Socket)...)
	}
	refused := func(say string, args ...string) {
		t.Helper()
		if _, err := run(args...); err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("drill %v: %v, want %q", args, err, say)
		}
		if found := left(t, agents[:2]); len(found) > 0 {
			t.Errorf("drill %v has left %v", args, found)
		}
	}
	refused("--yes", "handover", "vm")
	refused("no such volume", "handover", "none", "--yes")
	refused("no drill is called", "burn", "vm", "--yes")
	refused("was not started by systemd", "kill", "vm", "--yes")
	refused("between 1 and", "handover", "vm", "--yes", "--rounds", "0")

	out, err := run("handover", "vm", "--yes", "--rounds", "2", "--json")
	if err != nil {
		t.Fatal(err)
	}
	var report drill.Report
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatal(err)
	}
	if err := report.Verdict(); err != nil || len(report.Strikes) != 6 || len(report.Moves()) != 3 || report.Acknowledged < 100 {
		t.Errorf("report: %v, %s", err, report.Text())
	}
	for _, s := range report.Strikes {
		if len(s.Windows) != 3 || s.Move <= 0 || s.Move > 5*time.Second || s.UpToDate < s.Move {
			t.Errorf("strike: %+v", s)
		}
	}
	if found := left(t, agents); len(found) > 0 {
		t.Errorf("left: %v", found)
	}

	events(t, agents[0])

	// A session of another command, which is not renewed.
	begin := func() error {
		raw, err := agents[1].Ask(t.Context(), "n1", drill.Topic, []byte(`{"do":"begin","session":"other","volume":"vm","kind":"handover"}`))
		if err == nil && strings.Contains(string(raw), "refused") {
			err = errors.New(string(raw))
		}
		return err
	}
	if err := begin(); err != nil {
		t.Fatal(err)
	}
	if _, err := run("handover", "vm", "--yes", "--rounds", "1"); err == nil || !strings.Contains(err.Error(), "begun on n2, is under way on n1") {
		t.Errorf("second drill: %v", err)
	}
	waitFor(t, agents[0].Client, "end of what was left", func(control.Status) bool { return len(left(t, agents)) == 0 })

	if err := agents[2].stop(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, agents[0].Client, "n3 gone", func(st control.Status) bool { return !st.Nodes[2].Connected })
	refused("n3 is not connected", "handover", "vm", "--yes")
	all, err := agents[0].Events(t.Context(), time.Time{})
	if err != nil || len(all.Missing) != 1 || all.Missing[0].Node != "n3" {
		t.Errorf("missing: %+v, %v", all.Missing, err)
	}
	kept, err := os.ReadFile(filepath.Join(agents[2].config.DataDir, "events.log"))
	if err != nil || !strings.Contains(string(kept), `"drill-begin"`) {
		t.Errorf("kept: %v, %.300s", err, kept)
	}
}

// events checks what trinas events shows after six moves of the primary: a line each, told by all nodes.
func events(t *testing.T, a testAgent) {
	t.Helper()
	out, err := runCLI(t, "events", "--since", "10m", "--socket", a.config.Control.Socket)
	if err != nil {
		t.Fatal(err)
	}
	moves, shared := 0, 0
	for line := range strings.Lines(out) {
		if strings.Contains(line, " primary ") && strings.Contains(line, "volume=vm") {
			moves++
			if strings.Contains(line, "n1") && strings.Count(line, ",") >= 2 {
				shared++
			}
		}
	}
	if moves < 7 || moves > 14 || shared < 6 || !strings.Contains(out, "drill-strike") || !strings.Contains(out, "took=") {
		t.Errorf("%d new primaries, %d of them told by all, in\n%s", moves, shared, out)
	}
}
