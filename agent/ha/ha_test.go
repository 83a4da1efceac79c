package ha

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"trinas/agent/pve"
	"trinas/replica"
)

// tree is a cluster file system of four nodes: folder testdata/pve, to be changed at will.
func tree(t *testing.T) pve.Dir {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/pve")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "priv"), 0o700); err != nil { // git keeps no such modes
		t.Fatal(err)
	}
	return pve.Dir(dir)
}

func change(t *testing.T, dir pve.Dir, file, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(string(dir), file), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readTree(t *testing.T, dir pve.Dir) Cluster {
	t.Helper()
	c, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// cluster is what an agent says: three nodes that keep two volumes, and one that keeps none.
func cluster() replica.Status {
	var st replica.Status
	for i := range 4 {
		st.Nodes = append(st.Nodes, replica.NodeStatus{ID: uint64(i + 1), Name: fmt.Sprintf("pve%d", i+1), Connected: true, Health: replica.Healthy})
	}
	st.Node = st.Nodes[0]
	for i, name := range []string{"vms", "data"} {
		v := replica.VolumeStatus{Name: name, Primary: fmt.Sprintf("pve%d", i+1)}
		for _, n := range st.Nodes[:3] {
			v.Replicas = append(v.Replicas, replica.ReplicaStatus{Node: n.Name, State: replica.UpToDate})
		}
		st.Volumes = append(st.Volumes, v)
	}
	return st
}

// line puts a guest into one: where it is, its volumes, and each node with why it could not take the guest.
func line(g Guest) string {
	text := fmt.Sprintf("%s %s on %s %s %v", g.SID, g.Name, g.Node, g.State, g.Volumes)
	for _, n := range g.Nodes {
		text += " | " + n.Node + ": " + strings.Join(n.Reasons, "; ")
		if n.Able {
			text += "yes"
		}
	}
	return text
}

// Goal: every guest that HA manages on trinas is shown, and no other, with all that keeps nodes from it.
func TestStatus(t *testing.T) {
	c := readTree(t, tree(t))
	st := cluster()
	st.Nodes[1].Connected = false
	st.Nodes[3].Health, st.Nodes[3].HealthReason = replica.Unfit, "the disk of its log is slow"
	st.Volumes[1].Primary = ""
	want := []string{
		"ct:102 dns on pve1 started [{vms pve1}] | pve1: yes | pve2: its agent is not connected to pve1 | " +
			"pve3: HA takes the node for maintenance | pve4: its agent is unfit: the disk of its log is slow",
		"vm:100 web on pve1 started [{vms pve1}] | pve1: yes | pve2: its agent is not connected to pve1 | " +
			"pve3: HA takes the node for maintenance | pve4: its agent is unfit: the disk of its log is slow",
		"vm:101 sql on pve2 error [{vms pve1} {data }] | pve1: volume data has no primary | pve2: its agent is not connected to pve1 | " +
			"pve3: HA takes the node for maintenance; the strict rule two allows pve1, pve2 only; storage db is for pve1, pve2 only; volume data has no primary | " +
			"pve4: the strict rule two allows pve1, pve2 only; storage db is for pve1, pve2 only; its agent is unfit: the disk of its log is slow; volume data has no primary",
		"vm:104 by-hand on pve1 ignored [{vms pve1}] | pve1: yes | pve2: its agent is not connected to pve1 | " +
			"pve3: HA takes the node for maintenance | pve4: its agent is unfit: the disk of its log is slow",
	}
	var got []string
	for _, g := range Status(c, st) {
		got = append(got, line(g))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	st = cluster()
	st.Nodes[3].Joining = true
	st.Volumes = st.Volumes[1:]
	if g := Status(c, st)[1]; g.Nodes[3].Reasons[0] != "it is no node of the trinas cluster" || g.Nodes[0].Reasons[0] != "there is no volume vms" {
		t.Errorf("got %s", line(g))
	}
}

// Goal: each setting that is not as it should be is found, with the command that sets it; one that is is not.
func TestAdvise(t *testing.T) {
	dir := tree(t)
	text := func() string {
		var lines []string
		for _, a := range Advise(readTree(t, dir), cluster()) {
			lines = append(lines, fmt.Sprintf("%v %s: %s: %s", a.Good, a.Setting, a.Text, a.Do))
		}
		return strings.Join(lines, "\n")
	}
	want := `false shutdown_policy: shutdown_policy=conditional: guests do not move away when a node is shut down or rebooted: pvesh set /cluster/options --ha shutdown_policy=migrate
true retries of ct:102: max_restart=0, max_relocate=2: 
true retries of vm:100: max_restart=0, max_relocate=2: 
false retries of vm:101: max_restart=1, max_relocate=1: 0 and 2 bring it up soonest when a node's storage is not served: ha-manager set vm:101 --max_restart 0 --max_relocate 2
false retries of vm:104: max_restart=1, max_relocate=1: 0 and 2 bring it up soonest when a node's storage is not served: ha-manager set vm:104 --max_restart 0 --max_relocate 2
false affinity to volume vms: vm:104 may be put on any node, and pve1, pve2, pve3 keep the volume: ha-manager rules add node-affinity trinas-vms --resources vm:104 --nodes pve1,pve2,pve3 (Proxmox VE 8: a group of these nodes)
true affinity to volume data: vm:101 prefer pve1, pve2, pve3, which keep the volume: `
	if got := text(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	change(t, dir, "datacenter.cfg", "ha: shutdown_policy=migrate\n")
	change(t, dir, "ha/resources.cfg", "vm: 100\n\tmax_relocate 3\n\tmax_restart 0\n")
	if got := text(); strings.Contains(got, "false") {
		t.Errorf("all is well, and:\n%s", got)
	}
}
