package sim

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"trinas/replica/volume"
)

// Goal: a rule given at one node holds at all, stays over a restart, and ends everywhere; a node
// that starts says nothing about rules, for nor against, before it has heard from a majority:
// what was decided while it was away counts, not what it knew.
func TestCluster_Rules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 11, 3)
		vol := c.Volume("v")
		ctx := context.Background()
		client := netip.MustParseAddr("192.0.2.7")
		rule := volume.Rule{Client: netip.MustParsePrefix("192.0.2.0/24"), ReadOnly: true, Squash: volume.SquashRoot}
		holds := func(node uint64) bool {
			t.Helper()
			ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			r, ok, err := c.Node(node).Rule(ctx, vol, client)
			if err != nil || ok && r != rule {
				t.Fatalf("node %d: %v, %v", node, r, err)
			}
			return ok
		}
		if holds(1) || holds(3) {
			t.Fatal("a rule before there was one")
		}
		if err := c.Node(2).Allow(ctx, "v", rule); err != nil {
			t.Fatal(err)
		}
		if !holds(2) {
			t.Error("not at once where it was given")
		}
		time.Sleep(200 * time.Millisecond) // a heartbeat and its delays
		if !holds(1) || !holds(3) {
			t.Error("not at the other nodes")
		}
		if s := c.Node(1).Status(ctx); len(s.Volumes[0].Clients) != 1 || s.Volumes[0].Clients[0] != rule {
			t.Errorf("status: %+v", s.Volumes[0].Clients)
		}

		c.Crash(3)
		if err := c.Node(1).Deny(ctx, "v", rule.Client); err != nil {
			t.Fatal(err)
		}
		c.Net.Isolate(3)
		c.Start(3)
		short, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if r, ok, err := c.Node(3).Rule(short, vol, client); err == nil {
			t.Errorf("cut off since its start, node 3 answers %v, %v", r, ok)
		}
		c.Net.Rejoin(3)
		if holds(3) || holds(1) {
			t.Error("the rule holds after its end")
		}
		if err := c.Node(1).Deny(ctx, "v", rule.Client); err == nil {
			t.Error("a rule was removed twice")
		}
	})
}
