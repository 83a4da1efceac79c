package replica

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"trinas/replica/disk"
	"trinas/replica/volume"
)

func applyCommand(t *testing.T, m *clusterMachine, index uint64, c clusterCommand) volume.Errno {
	t.Helper()
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	res, err := m.Apply(index, 1, raw)
	if err != nil {
		t.Fatal(err)
	}
	return res.Err
}

func newMachine(t *testing.T) *clusterMachine {
	t.Helper()
	m, err := openCluster(disk.NewMem(1).FS())
	if err != nil {
		t.Fatal(err)
	}
	m.state = clusterState{Format: 1, NextNode: 2, Nodes: []Member{{ID: 1, Name: "a", Address: "a:1"}}}
	return m
}

// Goal: a token admits one node, once, before it expires; names and addresses are unique.
func TestCluster_Tokens(t *testing.T) {
	m := newMachine(t)
	tok := joinToken{Hash: hashSecret("s"), Expires: 100}
	node := func(name string) *Member { return &Member{Name: name, Address: name + ":1"} }
	for i, step := range []struct {
		c    clusterCommand
		want volume.Errno
	}{
		{clusterCommand{Do: cmdAddNode, Node: node("b"), Token: &tok}, volume.EACCES},
		{clusterCommand{Do: cmdAddToken, Token: &tok}, volume.OK},
		{clusterCommand{Do: cmdAddNode, Time: 50, Node: node("A"), Token: &tok}, volume.EEXIST},
		{clusterCommand{Do: cmdAddNode, Time: 50, Node: &Member{Name: "c", Address: "a:1"}, Token: &tok}, volume.EEXIST},
		{clusterCommand{Do: cmdAddNode, Time: 50, Node: node("b"), Token: &tok}, volume.OK},
		{clusterCommand{Do: cmdAddNode, Time: 50, Node: node("c"), Token: &tok}, volume.EACCES},
		{clusterCommand{Do: cmdAddToken, Time: 50, Token: &tok}, volume.OK},
		{clusterCommand{Do: cmdAddNode, Time: 101, Node: node("c"), Token: &tok}, volume.EACCES},
	} {
		if got := applyCommand(t, m, uint64(i+2), step.c); got != step.want {
			t.Errorf("step %d: errno %d, want %d", i, got, step.want)
		}
	}
	if s := m.view(); len(s.Nodes) != 2 || s.Nodes[1].ID != 2 || s.NextNode != 3 {
		t.Errorf("nodes %+v, next %d", s.Nodes, s.NextNode)
	}
}

// Goal: the checkpoint brings back what was applied; a flipped byte is found and named; a command
// of a newer version is an error, never skipped.
func TestCluster_Checkpoint(t *testing.T) {
	m := newMachine(t)
	if e := applyCommand(t, m, 9, clusterCommand{Do: cmdAddVolume, Volume: &VolumeInfo{Name: "v"}}); e != 0 {
		t.Fatal(e)
	}
	if e := applyCommand(t, m, 10, clusterCommand{Do: cmdAddVolume, Volume: &VolumeInfo{Name: "v"}}); e != volume.EEXIST {
		t.Errorf("the same name again: errno %d", e)
	}
	if index, err := m.Checkpoint(context.Background()); err != nil || index != 10 {
		t.Fatal(index, err)
	}
	again, err := openCluster(m.fs)
	if err != nil {
		t.Fatal(err)
	}
	if s := again.view(); len(s.Volumes) != 1 || s.Volumes[0].ID != 9 || again.index != 10 {
		t.Errorf("state after a restart: %+v at %d", s, again.index)
	}
	f, err := m.fs.Open(clusterFile, disk.ReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("X"), 200); err != nil {
		t.Fatal(err)
	}
	if _, err := openCluster(m.fs); err == nil || !strings.Contains(err.Error(), clusterFile) {
		t.Errorf("damage: %v", err)
	}
	if _, err := m.Apply(11, 1, []byte(`{"do":"teleport"}`)); err == nil {
		t.Error("an unknown command was skipped")
	}
	if _, err := m.Apply(11, 1, []byte(`{"do":"add-token","token":{"hash":"x","expires":1},"colour":"red"}`)); err == nil {
		t.Error("an unknown field was skipped")
	}
}
