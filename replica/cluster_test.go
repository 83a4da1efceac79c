package replica

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
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
	if _, err := openCluster(m.fs); err == nil || !strings.Contains(err.Error(), clusterFile) ||
		!strings.Contains(err.Error(), "trinas node replace") {
		t.Errorf("damage: %v", err)
	}
	if _, err := m.Apply(11, 1, []byte(`{"do":"teleport"}`)); err == nil {
		t.Error("an unknown command was skipped")
	}
	if _, err := m.Apply(11, 1, []byte(`{"do":"add-token","token":{"hash":"x","expires":1},"colour":"red"}`)); err == nil {
		t.Error("an unknown field was skipped")
	}
}

// Goal: a rule needs a volume and a sense, replaces the one for its client, and the list is bounded;
// a version that knows no rules refuses the state once it has one.
func TestCluster_Rules(t *testing.T) {
	m := newMachine(t)
	applyCommand(t, m, 9, clusterCommand{Do: cmdAddVolume, Volume: &VolumeInfo{Name: "v"}})
	if m.view().Format != firstFormat {
		t.Errorf("format %d without a rule", m.view().Format)
	}
	rule := func(client string) *volume.Rule {
		return &volume.Rule{Client: netip.MustParsePrefix(client), Squash: volume.SquashRoot}
	}
	held := (*m.rules.Load())[9]
	for i, step := range []struct {
		do   string
		vol  volume.ID
		rule *volume.Rule
		want volume.Errno
	}{
		{cmdAllow, 8, rule("10.0.0.0/8"), volume.ENOENT},
		{cmdAllow, 9, rule("10.0.0.0/8"), volume.OK},
		{cmdAllow, 9, rule("10.0.0.0/8"), volume.OK},
		{cmdAllow, 9, rule("10.0.0.1/8"), volume.EINVAL},
		{cmdAllow, 9, &volume.Rule{Client: netip.MustParsePrefix("10.0.0.0/8")}, volume.EINVAL},
		{cmdAllow, 9, rule("10.1.0.0/16"), volume.OK},
		{cmdDeny, 9, rule("10.2.0.0/16"), volume.ENOENT},
		{cmdDeny, 8, rule("10.1.0.0/16"), volume.ENOENT},
	} {
		if got := applyCommand(t, m, uint64(10+i), clusterCommand{Do: step.do, Volume: &VolumeInfo{ID: step.vol}, Rule: step.rule}); got != step.want {
			t.Errorf("step %d: errno %d, want %d", i, got, step.want)
		}
	}
	if rules := (*m.rules.Load())[9]; len(held) != 0 || len(rules) != 2 || rules[0].Client.Bits() != 16 {
		t.Errorf("rules %v", rules)
	}
	if got := applyCommand(t, m, 30, clusterCommand{Do: cmdDeny, Volume: &VolumeInfo{ID: 9}, Rule: rule("10.0.0.0/8")}); got != volume.OK {
		t.Errorf("deny: errno %d", got)
	}
	for i := 0; len((*m.rules.Load())[9]) < volume.MaxRules; i++ {
		if got := applyCommand(t, m, uint64(100+i), clusterCommand{Do: cmdAllow, Volume: &VolumeInfo{ID: 9}, Rule: rule(fmt.Sprintf("192.0.2.%d/32", i))}); got != volume.OK {
			t.Fatalf("rule %d: errno %d", i, got)
		}
	}
	if got := applyCommand(t, m, 900, clusterCommand{Do: cmdAllow, Volume: &VolumeInfo{ID: 9}, Rule: rule("198.51.100.0/24")}); got != volume.ENOSPC {
		t.Errorf("one rule too many: errno %d", got)
	}

	data, index, term, conf := m.Snapshot()
	other := newMachine(t)
	if err := other.Restore(data, index, term, conf); err != nil || len((*other.rules.Load())[9]) != volume.MaxRules || other.view().Format != rulesFormat {
		t.Errorf("a snapshot: %v, format %d", err, other.view().Format)
	}
	again, err := openCluster(other.fs)
	if err != nil || len((*again.rules.Load())[9]) != volume.MaxRules {
		t.Errorf("a restart: %v", err)
	}
	newer := bytes.Replace(data, []byte(`"format":2`), []byte(`"format":3`), 1)
	if err := other.Restore(newer, index, term, conf); err == nil || !strings.Contains(err.Error(), "upgrade") {
		t.Errorf("a newer version's state: %v", err)
	}
}
