package sim

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"trinas/replica"
)

// Goal: every group's loop makes steps on an idle node, the log is not busy there, and the summary
// names roles, volumes without a primary, and nodes that are gone.
func TestCluster_Vitals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 3, 3)
		vol := c.Volume("v")
		c.create(vol, "f")
		time.Sleep(time.Second) // virtual
		primary := c.Primary(vol)
		n := c.Node(primary)
		before := n.Vitals()
		time.Sleep(time.Second)
		after := n.Vitals()
		var names []string
		for i, v := range after {
			names = append(names, v.Name)
			if v.Name == replica.LogVital {
				if v.Busy {
					t.Error("an idle log is busy")
				}
			} else if !v.Busy || v.Steps <= before[i].Steps {
				t.Errorf("%s makes no steps: %+v, before %+v", v.Name, v, before[i])
			}
		}
		if fmt.Sprint(names) != "[log cluster volume v]" {
			t.Errorf("vitals of %v", names)
		}
		want := replica.Summary{Primary: []string{"v"}, Connected: 3, Nodes: 3}
		if got := n.Summary(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("summary %+v, want %+v", got, want)
		}
		others := slices.DeleteFunc([]uint64{1, 2, 3}, func(id uint64) bool { return id == primary })
		want = replica.Summary{Secondary: []string{"v"}, Connected: 3, Nodes: 3}
		if got := c.Node(others[0]).Summary(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("summary of a secondary %+v, want %+v", got, want)
		}
		c.Crash(primary)
		c.Crash(others[1])
		time.Sleep(10 * time.Second)
		want = replica.Summary{Alone: []string{"v"}, Connected: 1, Nodes: 3}
		if got := c.Node(others[0]).Summary(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("summary of a node alone %+v, want %+v", got, want)
		}
	})
}
