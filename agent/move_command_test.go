package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"trinas/agent/config"
	"trinas/agent/control"
)

// Goal: with real agents, an admin moves a replica, replaces a node that is dead by a new one with its
// name, and removes a node, by the command line; each command ends when it is done and says so.
func TestCommand_Move(t *testing.T) {
	if testing.Short() {
		t.Skip("six agents")
	}
	ctx := t.Context()
	agents := map[string]*control.Client{}
	sockets, dirs := map[string]string{}, map[string]string{}
	stops := map[string]func() error{}
	begin := func(label, name string) *control.Client {
		c := testConfig(t)
		c.Node = config.Node{Name: name}
		agents[label], stops[label] = startAgent(t, c)
		sockets[label], dirs[label] = c.Control.Socket, c.DataDir
		return agents[label]
	}
	waitFor(t, begin("n1", "n1"), "waiting", inState(control.Waiting))
	if _, err := agents["n1"].Init(ctx, "home", ""); err != nil {
		t.Fatal(err)
	}
	join := func(label, name string, inv control.Invitation) {
		t.Helper()
		waitFor(t, begin(label, name), "waiting", inState(control.Waiting))
		if err := agents[label].Join(ctx, "", inv.Address, inv.Token); err != nil {
			t.Fatalf("%s: %v", label, err)
		}
	}
	for i := 2; i <= 4; i++ {
		inv, err := agents["n1"].Token(ctx)
		if err != nil {
			t.Fatal(err)
		}
		join(fmt.Sprintf("n%d", i), fmt.Sprintf("n%d", i), inv)
	}
	run := func(want string, args ...string) {
		t.Helper()
		out, err := runCLI(t, append(args, "--socket", sockets["n1"])...)
		if err != nil || !strings.Contains(out, want) {
			t.Fatalf("trinas %s: %v, %q does not say %q", strings.Join(args, " "), err, out, want)
		}
	}
	run("exported as /vms", "volume", "create", "vms")
	st, err := agents["n1"].Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	without := "n4"
	for _, n := range st.Nodes {
		if !strings.Contains(fmt.Sprint(st.Volumes[0].Replicas), "{"+n.Name+" ") {
			without = n.Name
		}
	}
	if without == "n1" { // which is asked all the time, and lives to the end
		run("has left n4", "volume", "move", "vms", "n4", without)
		without = "n4"
	}
	from := "n2"
	if without == from {
		from = "n3"
	}
	run("has left "+from, "volume", "move", "vms", from, without)
	run(without, "node", "list")
	volumes := filepath.Join(dirs[from], "volumes")
	waitFor(t, agents["n1"], from+" without data", func(control.Status) bool {
		left, err := os.ReadDir(volumes)
		return err != nil || len(left) == 0
	})

	// A node with a replica dies for good, and a new machine takes its name.
	dead := without
	if err := stops[dead](); err != nil {
		t.Fatal(err)
	}
	inv, err := agents["n1"].ReplaceNode(ctx, dead)
	if err != nil {
		t.Fatal(err)
	}
	join("new", dead, inv)
	waitFor(t, agents["n1"], "the dead node replaced", func(st control.Status) bool {
		good := len(st.Nodes) == 4 && len(st.Volumes[0].Leaving) == 0
		for _, r := range st.Volumes[0].Replicas {
			good = good && r.State == "UpToDate"
		}
		for _, n := range st.Nodes {
			good = good && n.Connected
		}
		return good
	})
	run("not in the cluster any more", "node", "remove", from)
	if out, err := runCLI(t, "node", "remove", dead, "--socket", sockets["n1"]); err == nil || !strings.Contains(err.Error(), "trinas node replace") {
		t.Errorf("remove a node that nobody can stand in for: %v, %q", err, out)
	}
}
