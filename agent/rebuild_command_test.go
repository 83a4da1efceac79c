package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"trinas/agent/config"
	"trinas/agent/control"
	"trinas/replica"
)

// Goal: with real agents, an admin is told by trinas status which file is damaged and which command mends it, and that command
// does, on its node and from another one; where it would make no sense it is refused in one line. Method: a byte of a
// checkpoint is changed while the agent is stopped.
func TestCommand_Rebuild(t *testing.T) {
	if testing.Short() {
		t.Skip("three agents")
	}
	ctx := t.Context()
	configs := map[string]config.Config{}
	agents, stops := map[string]*control.Client{}, map[string]func() error{}
	start := func(name string) { agents[name], stops[name] = startAgent(t, configs[name]) }
	for i := 1; i <= 3; i++ {
		name := fmt.Sprintf("n%d", i)
		c := testConfig(t)
		c.Node = config.Node{Name: name}
		configs[name] = c
		start(name)
		waitFor(t, agents[name], "waiting", inState(control.Waiting))
		if i == 1 {
			if _, err := agents["n1"].Init(ctx, "home", ""); err != nil {
				t.Fatal(err)
			}
			continue
		}
		inv, err := agents["n1"].Token(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := agents[name].Join(ctx, "", inv.Address, inv.Token); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	run := func(node, want string, args ...string) {
		t.Helper()
		out, err := runCLI(t, append(args, "--socket", configs[node].Control.Socket)...)
		if err != nil || !strings.Contains(out, want) {
			t.Fatalf("trinas %s: %v, %q does not say %q", strings.Join(args, " "), err, out, want)
		}
	}
	refused := func(node, want string, args ...string) {
		t.Helper()
		out, err := runCLI(t, append(args, "--socket", configs[node].Control.Socket)...)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Fatalf("trinas %s: %v, %q, want the error %q", strings.Join(args, " "), err, out, want)
		}
	}
	run("n1", "exported as /vms", "volume", "create", "vms")
	st, err := agents["n1"].Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	dir := replica.VolumeDir(st.Volumes[0].ID)
	damage := func(node string) {
		t.Helper()
		if err := stops[node](); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(configs[node].DataDir, dir, "checkpoint")
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b[50] ^= 1
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		start(node)
		waitFor(t, agents[node], "failed replica", func(st control.Status) bool { return stateOn(st, node) == "Failed" })
		waitFor(t, agents[node], "others", func(st control.Status) bool {
			good := st.Agent.State == control.Running
			for _, r := range st.Volumes[0].Replicas {
				good = good && (r.Node == node || r.State == replica.UpToDate)
			}
			return good
		})
		for _, part := range []string{path, "at byte 32", "trinas volume rebuild vms"} {
			run(node, part, "status")
		}
	}
	refused("n2", "trinas verify", "volume", "rebuild", "vms")
	refused("n1", "node n2", "volume", "rebuild", "vms", "n2")
	refused("n1", "no node is named", "volume", "rebuild", "vms", "n9")

	damage("n2")
	run("n2", "made anew and UpToDate", "volume", "rebuild", "vms")
	waitFor(t, agents["n2"], "UpToDate", func(st control.Status) bool {
		return stateOn(st, "n2") == "UpToDate" && len(st.Volumes[0].Replicas) == 3
	})
	damage("n3")
	run("n1", `"done": true`, "volume", "rebuild", "vms", "n3", "--discard", "--json")
	waitFor(t, agents["n1"], "UpToDate everywhere", func(st control.Status) bool {
		return stateOn(st, "n1") == "UpToDate" && stateOn(st, "n2") == "UpToDate" && stateOn(st, "n3") == "UpToDate"
	})
	for _, node := range []string{"n2", "n3"} {
		waitFor(t, agents[node], "nothing left over", func(control.Status) bool {
			left, err := os.ReadDir(filepath.Join(configs[node].DataDir, "rebuild"))
			return err == nil && len(left) == 0
		})
	}
}

// stateOn is the state of the first volume's replica on a node.
func stateOn(st control.Status, node string) string {
	if st.Status == nil || len(st.Volumes) == 0 {
		return ""
	}
	for _, r := range st.Volumes[0].Replicas {
		if r.Node == node {
			return string(r.State)
		}
	}
	return ""
}
