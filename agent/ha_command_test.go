package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"trinas/agent/control"
	"trinas/agent/ha"
	"trinas/agent/pve"
)

// Goal: trinas ha status is laid out for people, and changes only on purpose (-update).
func TestHATable(t *testing.T) {
	c, err := ha.Read(pve.Dir("ha/testdata/pve"))
	if err != nil {
		t.Fatal(err)
	}
	st := *fixedStatus().Status
	st.Volumes[0].Name = "vms"
	golden(t, "ha-status", haTable(ha.Status(c, st)))
	golden(t, "ha-status-none", haTable(nil))
}

// Goal: the commands read Proxmox's files where the configuration says, and a real agent; advise ends with
// status 1 while something is to be set; without Proxmox they say so.
func TestCommand_HA(t *testing.T) {
	c := testConfig(t)
	c.Node.Name = "pve1"
	agent, _ := startAgent(t, c)
	waitFor(t, agent, "waiting", inState(control.Waiting))
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("ha/testdata/pve")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "trinas.toml")
	use := func(dir string) {
		if err := os.WriteFile(file, []byte("[pve]\ndir = \""+dir+"\"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) (string, error) {
		return runCLI(t, append(args, "--config", file, "--socket", c.Control.Socket)...)
	}
	use(dir)
	if _, err := run("ha", "status"); err == nil || !strings.Contains(err.Error(), "trinas init") {
		t.Errorf("no cluster yet: %v", err)
	}
	if _, err := agent.Init(t.Context(), "home", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := agent.CreateVolume(t.Context(), "vms", 1); err != nil {
		t.Fatal(err)
	}
	out, err := run("ha", "status", "--json")
	var guests []ha.Guest
	if err == nil {
		err = json.Unmarshal([]byte(out), &guests)
	}
	if err != nil || len(guests) != 4 || guests[1].SID != "vm:100" || !guests[1].Nodes[0].Able || guests[1].Nodes[1].Able ||
		guests[1].Volumes[0] != (ha.Volume{Name: "vms", Primary: "pve1"}) {
		t.Errorf("status: %v\n%s", err, out)
	}
	var status exitStatus
	out, err = run("ha", "advise")
	if !errors.As(err, &status) || status != 1 || !strings.Contains(out, "pvesh set /cluster/options --ha shutdown_policy=migrate") {
		t.Errorf("advise: %v\n%s", err, out)
	}
	use(t.TempDir())
	if _, err := run("ha", "status"); err == nil || !strings.Contains(err.Error(), "pve.dir") {
		t.Errorf("without Proxmox: %v", err)
	}
}
