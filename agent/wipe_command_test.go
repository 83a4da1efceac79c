package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"trinas/agent/control"
)

// Goal: wipe deletes nothing unless the agent is stopped and the node's name is typed, and the only
// replica of a volume not without --force; then the node is gone, what is not trinas's stays, and the
// directory takes a new cluster.
func TestCommand_Wipe(t *testing.T) {
	c := testConfig(t)
	client, stop := startAgent(t, c)
	waitFor(t, client, "waiting", inState(control.Waiting))
	if _, err := client.Init(t.Context(), "home", ""); err != nil {
		t.Fatal(err)
	}
	waitFor(t, client, "running", inState(control.Running))
	if _, err := client.CreateVolume(t.Context(), "vm", 1); err != nil {
		t.Fatal(err)
	}
	wipe := func(args ...string) (string, error) {
		return runCLI(t, append([]string{"wipe", "--data-dir", c.DataDir}, args...)...)
	}
	refused := func(err error, words ...string) {
		t.Helper()
		for _, w := range words {
			if err == nil || !strings.Contains(err.Error(), w) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want one line with %q", err, w)
			}
		}
		if _, err := os.Stat(filepath.Join(c.DataDir, "node.json")); err != nil {
			t.Errorf("refused, and yet: %v", err)
		}
	}
	_, err := wipe("--yes", "n1", "--force")
	refused(err, "in use", "systemctl stop trinas.socket")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	_, err = wipe()
	refused(err, "node n1 of cluster home", "replicas of vm", "only replica of vm", "nothing was deleted", "--yes n1")
	_, err = wipe("--yes", "n2", "--force")
	refused(err, "--yes n1")
	_, err = wipe("--yes", "n1")
	refused(err, "only replica of vm", "--force", "trinas rescue")

	mine := filepath.Join(c.DataDir, "lost+found")
	if err := os.Mkdir(mine, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := wipe("--yes", "n1", "--force"); err != nil || !strings.HasPrefix(out, "Deleted: node n1 of cluster home") {
		t.Fatalf("%q, %v", out, err)
	}
	if left, err := os.ReadDir(c.DataDir); err != nil || len(left) != 1 || left[0].Name() != "lost+found" {
		t.Errorf("left: %v, %v", left, err)
	}
	if out, err := wipe(); err != nil || !strings.Contains(out, "holds nothing") {
		t.Errorf("again: %q, %v", out, err)
	}
	client, stop = startAgent(t, c)
	waitFor(t, client, "waiting", inState(control.Waiting))
	if _, err := client.Init(t.Context(), "new", ""); err != nil {
		t.Errorf("init afterwards: %v", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}

	// Without its identity nobody can say whose data it is: the path has to be typed.
	identity := filepath.Join(c.DataDir, "node.json")
	if err := os.Remove(identity); err != nil {
		t.Fatal(err)
	}
	if _, err := wipe("--yes", "n1"); err == nil || !strings.Contains(err.Error(), "--yes "+c.DataDir) {
		t.Errorf("orphan: %v", err)
	}
	if _, err := wipe("--yes", c.DataDir); err != nil {
		t.Error(err)
	}
	if _, err := runCLI(t, "wipe", "--data-dir", c.DataDir+"/none"); err == nil || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("no directory: %v", err)
	}
}
