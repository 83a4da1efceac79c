package sim

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"trinas/replica"
)

// statusTook is a node's status and how long it took, in virtual time.
func (c *Cluster) statusTook(node uint64) (replica.Status, time.Duration) {
	began := time.Now()
	st := c.Node(node).Status(context.Background())
	return st, time.Since(began)
}

// healthOf is a node's health as another sees it.
func (c *Cluster) healthOf(seenBy, node uint64) (replica.Health, string) {
	st := c.Node(seenBy).Status(context.Background())
	for _, n := range st.Nodes {
		if n.ID == node {
			return n.Health, n.HealthReason
		}
	}
	return "", "no such node"
}

// mustBe checks a node's health as another sees it, and its reason.
func (c *Cluster) mustBe(seenBy, node uint64, want replica.Health, say string) {
	c.t.Helper()
	if health, reason := c.healthOf(seenBy, node); health != want || !strings.Contains(reason, say) {
		c.t.Errorf("node %d is for node %d %q (%q), and should be %q (%q)", node, seenBy, health, reason, want, say)
	}
}

// Goal: status is answered within 50 ms when a majority hangs, with what it told before; after a while that is no longer
// taken for true; and status is fresh again when they wake up.
func TestCluster_StatusOfHungNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 71, 3)
		vol := c.Volume("v")
		c.Transfer(vol, 1)
		const primary, me = 1, 3
		c.Node(me).Gather(context.Background())
		c.Net.Hang(primary)
		c.Net.Hang(2)
		st, took := c.statusTook(me)
		if took > 50*time.Millisecond {
			t.Errorf("status took %s", took)
		}
		if _, took := c.statusTook(me); took > 10*time.Millisecond {
			t.Errorf("status took %s though the others were known to hang", took)
		}
		if v := st.Volumes[0]; v.Primary != "node1" || v.Replicas[0].State == replica.Unknown {
			t.Errorf("what the primary had told is forgotten: %+v", v)
		}
		time.Sleep(12 * time.Second)
		st, took = c.statusTook(me)
		if took > 50*time.Millisecond {
			t.Errorf("status took %s", took)
		}
		if v := st.Volumes[0]; v.Primary != "" || v.Replicas[0].State != replica.Unknown {
			t.Errorf("a primary that has said nothing for 12 s: %+v", v)
		}
		c.mustBe(me, primary, replica.Unfit, "does not answer")
		c.Net.WakeUp(primary)
		c.Net.WakeUp(2)
		c.waitUpToDate(vol)
		c.mustBe(me, 2, replica.Healthy, "")
	})
}

// Goal: what a node told of a volume it led does not count when another one leads since, though the node hangs and
// nobody else has told yet.
func TestCluster_StatusOfFormerPrimary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 72, 3)
		vol := c.Volume("v")
		c.Transfer(vol, 1)
		for id := uint64(2); id <= 3; id++ {
			c.Node(id).Gather(context.Background())
		}
		c.Net.Hang(1)
		var now uint64
		for now == 0 || now == 1 {
			time.Sleep(20 * time.Millisecond)
			for id := uint64(2); id <= 3; id++ {
				if v := c.Node(id).Known().Volumes[0]; v.Primary == c.Node(id).Name() {
					now = id
				}
			}
		}
		other := 5 - now
		time.Sleep(200 * time.Millisecond) // until it has heard of the new primary
		if v := c.Node(other).Known().Volumes[0]; v.Primary != c.Node(now).Name() || v.Replicas[0].State != replica.Unknown {
			t.Errorf("node %d leads, and the status of node %d has %+v", now, other, v)
		}
	})
}

// Goal: health has the worst of what is wrong, with its reason, on the node itself and for the others.
func TestCluster_Health(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 73, 3)
		vol := c.Volume("v")
		f := c.create(vol, "f")
		c.mustBe(1, 2, replica.Healthy, "")
		c.Node(2).Tell(replica.Machine{Health: replica.Degraded, Reason: "its processors are busy", Busy: 1, Load: json.RawMessage(`{"x":1}`)})
		c.mustBe(1, 2, replica.Degraded, "its processors are busy")
		s, err := c.Node(2).Service(context.Background(), "v")
		if err != nil || s.Health != replica.Degraded || s.HealthReason != "its processors are busy" {
			t.Errorf("service: %+v, %v", s, err)
		}
		for _, told := range c.Node(1).Told() {
			if told.Node == "node2" && (!told.Ever || string(told.Load) != `{"x":1}` || told.Busy != 1 || told.Health != replica.Degraded) {
				t.Errorf("told: %+v", told)
			}
		}
		c.slowDisk(2, 400*time.Millisecond)
		c.longestWrite(1, vol, f, 5*time.Second)
		c.mustBe(3, 2, replica.Unfit, "log is slow; its processors are busy")
		c.slowDisk(2, 0)
		c.Net.Isolate(3)
		time.Sleep(time.Second)
		c.mustBe(1, 3, replica.Unfit, "not connected for")
		c.mustBe(3, 3, replica.Healthy, "")
		time.Sleep(11 * time.Second)
		c.mustBe(3, 3, replica.Unfit, "reaches 1 of 3 nodes")
	})
}

// Goal: a hand-over goes to the member that can bear it best: the healthiest, then the least busy; a little noise in how busy
// they are decides nothing, and nobody is left out for good.
func TestCluster_HandOverToTheLeastBurdened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 74, 3)
		vol := c.Volume("v")
		tell := func(node uint64, h replica.Health, busy float64) {
			c.Node(node).Tell(replica.Machine{Health: h, Busy: busy})
			for id := uint64(1); id <= 3; id++ {
				c.Node(id).Gather(context.Background())
			}
		}
		handOver := func(from, want uint64, why string) {
			t.Helper()
			c.Transfer(vol, from)
			c.waitUpToDate(vol)
			time.Sleep(300 * time.Millisecond) // until both have told whether their logs are slow
			if err := c.Node(from).Transfer(context.Background(), "v", ""); err != nil {
				t.Fatal(err)
			}
			if got := c.Primary(vol); got != want {
				t.Errorf("%s: node %d handed over to node %d, not to %d", why, from, got, want)
			}
			time.Sleep(time.Second)
		}
		tell(1, replica.Healthy, 0)
		tell(2, replica.Healthy, 0.9)
		tell(3, replica.Healthy, 0.1)
		handOver(1, 3, "node 2 is busy")
		tell(2, replica.Healthy, 0.13)
		tell(3, replica.Healthy, 0.14)
		handOver(1, 2, "both are as busy")
		tell(2, replica.Degraded, 0)
		tell(3, replica.Healthy, 1)
		handOver(1, 3, "node 2 is degraded")
		handOver(2, 1, "node 3 is busy")
		tell(1, replica.Degraded, 0.5)
		tell(3, replica.Degraded, 1)
		handOver(2, 1, "all are degraded")
	})
}
