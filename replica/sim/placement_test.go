package sim

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"trinas/replica"
	"trinas/replica/volume"
)

// move moves a volume's replica and fails the test unless it has moved within a minute.
func (c *Cluster) move(through uint64, from, to string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := c.Node(through).MoveVolume(ctx, "v", from, to); err != nil {
		c.t.Fatalf("move from %s to %q: %v", from, to, err)
	}
	c.wait(fmt.Sprintf("the move from %s to %q", from, to), func() bool {
		for _, v := range c.Node(through).Status(ctx).Volumes {
			if v.Name == "v" && len(v.Leaving) > 0 {
				return false
			}
		}
		return true
	})
}

// remove takes a node out of the cluster and fails the test unless it is out within a minute.
func (c *Cluster) remove(through uint64, name string) {
	c.t.Helper()
	ctx := context.Background()
	if err := c.Node(through).RemoveNode(ctx, name); err != nil {
		c.t.Fatalf("remove %s: %v", name, err)
	}
	c.wait("the removal of "+name, func() bool {
		return !slices.ContainsFunc(c.Node(through).Status(ctx).Nodes, func(n replica.NodeStatus) bool { return n.Name == name })
	})
}

// wait waits until something is so, for two minutes at most: a failed replica is tried again after one.
func (c *Cluster) wait(what string, holds func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("%s is not done after two minutes", what)
		}
	}
}

// replicas names the nodes that have a replica, as the primary tells.
func (c *Cluster) replicas(vol volume.ID) string {
	var names []string
	for _, v := range c.Node(c.Primary(vol)).Status(context.Background()).Volumes {
		for _, r := range v.Replicas {
			if v.ID == vol {
				names = append(names, fmt.Sprintf("%s:%s", r.Node, r.State))
			}
		}
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// hasData reports whether a node's disk has anything of a volume.
func (c *Cluster) hasData(node uint64, vol volume.ID) bool {
	_, err := c.nodes[node-1].disk.FS().Stat(replica.VolumeDir(vol))
	return err == nil
}

// Goal: a replica moves, away from the primary too, while clients write: nothing is lost, nobody waits
// for long, the old node has no data left and goes on serving through the others; and it can
// come back to a node where it was, from the log or without it.
func TestCluster_MoveVolume(t *testing.T) {
	for name, adjust := range map[string][]func(*replica.Options){"long log": nil, "short log": {shortLog}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := New(t, 51, 4, adjust...)
				vol := c.Volume("v")
				f := c.create(vol, "f")
				data := bytes.Repeat([]byte("moving! "), 512)
				for i := range uint64(200) {
					if res, err := c.Do(2, vol, writeOp(f, i*4096, data), time.Second); err != nil || res.Err != volume.OK {
						t.Fatalf("write: %v, errno %d", err, res.Err)
					}
				}
				first := c.replicas(vol)
				all := []string{"node1", "node2", "node3", "node4"}
				for round := range 8 {
					from := c.Node(c.Primary(vol)).Name()
					if round%2 == 1 { // a secondary
						i := slices.IndexFunc(all, func(n string) bool {
							return n != from && strings.Contains(c.replicas(vol), n+":")
						})
						from = all[i]
					}
					to := all[slices.IndexFunc(all, func(n string) bool { return !strings.Contains(c.replicas(vol), n+":") })]
					longest := make(chan time.Duration)
					go func() { longest <- c.longestWrite(1, vol, f, 5*time.Second) }()
					c.move(2, from, to)
					c.waitUpToDate(vol)
					if wait := <-longest; wait > 400*time.Millisecond {
						t.Errorf("round %d, %s to %s: a write waited for %s", round, from, to, wait)
					}
					if got := c.replicas(vol); strings.Contains(got, from+":") || !strings.Contains(got, to+":UpToDate") {
						t.Errorf("round %d: after %s to %s the replicas are %s", round, from, to, got)
					}
					time.Sleep(time.Second)
					if id := uint64(from[4] - '0'); c.hasData(id, vol) {
						t.Errorf("round %d: %s still has data", round, from)
					}
					for node := uint64(1); node <= 4; node++ {
						res, err := c.Do(node, vol, readOp(f, 199*4096, 4096), time.Second)
						if err != nil || !bytes.Equal(res.Data, data) {
							t.Errorf("round %d: read through node %d: %v, errno %d", round, node, err, res.Err)
						}
					}
				}
				if first == "" {
					t.Error("no replicas at the beginning")
				}
				c.equalDigests(vol)
			})
		})
	}
}

// equalDigests fails the test unless all replicas hold the same, bytes of files included. A verification may be under
// way, whose entries come between two nodes' digests: then it looks again.
func (c *Cluster) equalDigests(vol volume.ID) {
	c.t.Helper()
	var digests map[[32]byte][]string
	for range 20 {
		time.Sleep(time.Second)
		digests = map[[32]byte][]string{}
		for id := range uint64(len(c.nodes)) {
			n := c.Node(id + 1)
			if n == nil {
				continue
			}
			if sum, has, err := n.Digest(vol); err != nil {
				c.t.Errorf("digest of node %d: %v", id+1, err)
			} else if has {
				digests[sum] = append(digests[sum], n.Name())
			}
		}
		if len(digests) == 1 {
			return
		}
	}
	c.t.Errorf("replicas differ: %v", digests)
}

// Goal: what cannot be moved is refused with what is in the way.
func TestCluster_MoveRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 52, 4)
		c.Volume("v")
		ctx := context.Background()
		for _, row := range []struct{ volume, from, to, want string }{
			{"none", "node1", "node4", "no such volume"},
			{"v", "node9", "node4", "no node is named"},
			{"v", "node1", "node9", "no node is named"},
			{"v", "node4", "node1", "has no replica"},
			{"v", "node1", "node2", "already"},
		} {
			err := c.Node(2).MoveVolume(ctx, row.volume, row.from, row.to)
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("move %v: %v", row, err)
			}
		}
		c.move(2, "node1", "")
		c.remove(2, "node1")
		if err := c.Node(2).RemoveNode(ctx, "node3"); err == nil || !strings.Contains(err.Error(), "trinas node replace node3") {
			t.Errorf("remove a node that nobody can stand in for: %v", err)
		}
		if err := c.Node(2).MoveVolume(ctx, "v", "node2", ""); err == nil || !strings.Contains(err.Error(), "another node join") {
			t.Errorf("move with nowhere to go: %v", err)
		}
	})
}

// Goal: a node that is gone for ever is removed, its replicas made anew elsewhere, and the cluster can
// lose another one after that. A node with its name can join again.
func TestCluster_RemoveNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 53, 4)
		vol := c.Volume("v")
		f := c.create(vol, "f")
		lost := c.Primary(vol)%4 + 1
		for !strings.Contains(c.replicas(vol), fmt.Sprintf("node%d:", lost)) || lost == 1 {
			lost = lost%4 + 1
		}
		c.Crash(lost)
		ctx := context.Background()
		name := fmt.Sprintf("node%d", lost)
		c.remove(1, name)
		c.waitUpToDate(vol)
		other := uint64(2)
		for other == lost || other == 1 {
			other++
		}
		c.Crash(other)
		c.longestWrite(1, vol, f, 3*time.Second)
		c.Start(other)
		token, err := c.Node(1).NewToken(ctx, "")
		if err != nil {
			t.Fatal(err)
		}
		if id := c.Join(name, token); id != 5 {
			t.Errorf("the new node has id %d", id)
		}
		c.Start(lost) // the old one comes back: nobody knows it
		c.longestWrite(5, vol, f, 3*time.Second)
		c.Crash(lost)
		c.equalDigests(vol)
	})
}

// Goal: in a cluster of three a dead node is replaced by a new one with its name.
func TestCluster_ReplaceNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 54, 3)
		vol := c.Volume("v")
		f := c.create(vol, "f")
		c.longestWrite(1, vol, f, time.Second)
		c.Crash(3)
		ctx := context.Background()
		token, err := c.Node(2).ReplaceToken(ctx, "node3")
		if err != nil {
			t.Fatal(err)
		}
		c.Join("node3", token)
		deadline := time.Now().Add(time.Minute)
		for c.replicas(vol) != "node1:UpToDate node2:UpToDate node3:UpToDate" || len(c.Node(1).Status(ctx).Nodes) != 3 {
			if time.Now().After(deadline) {
				t.Fatalf("after a minute: %s, %+v", c.replicas(vol), c.Node(1).Status(ctx).Nodes)
			}
			time.Sleep(100 * time.Millisecond)
		}
		c.Crash(2)
		c.longestWrite(4, vol, f, 3*time.Second)
		c.Start(2)
		c.waitUpToDate(vol)
		c.equalDigests(vol)
	})
}

// Goal: new replicas go to the nodes with the most free space, and equal ones are told apart by what
// they hold.
func TestCluster_PlacedByFreeSpace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 57, 5)
		for id, space := range map[int]int64{1: 8 << 30, 2: 40 << 30, 3: 10 << 30, 4: 38 << 30, 5: 39 << 30} {
			c.nodes[id-1].disk.SetSpace(space)
		}
		time.Sleep(time.Second)
		vol := c.Volume("v")
		if got := c.replicas(vol); got != "node2:UpToDate node4:UpToDate node5:UpToDate" {
			t.Errorf("placed on %s", got)
		}
		other, err := c.Node(1).CreateVolume(context.Background(), "w", 1)
		if err != nil || len(other.Replicas) != 1 || other.Replicas[0].Node == "node1" || other.Replicas[0].Node == "node3" {
			t.Errorf("a second volume: %+v, %v", other.Replicas, err)
		}
	})
}

// Goal: the replicas of a node that is gone for long are made anew elsewhere, if that is wanted, and the
// node has nothing left of them when it is back.
func TestCluster_ReplaceAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 58, 4, func(o *replica.Options) { o.ReplaceAfter = 5 * time.Minute })
		vol := c.Volume("v")
		f := c.create(vol, "f")
		if res, err := c.Do(1, vol, writeOp(f, 0, pattern(1)), time.Second); err != nil || res.Err != 0 {
			t.Fatal(err, res.Err)
		}
		lost := c.Primary(vol)
		c.Crash(lost)
		time.Sleep(4 * time.Minute)
		if got := c.replicas(vol); !strings.Contains(got, fmt.Sprintf("node%d:Outdated", lost)) {
			t.Errorf("too early: %s", got)
		}
		time.Sleep(2 * time.Minute)
		if got := c.replicas(vol); strings.Contains(got, fmt.Sprintf("node%d:", lost)) || strings.Count(got, "UpToDate") != 3 {
			t.Errorf("after six minutes: %s", got)
		}
		c.Start(lost)
		time.Sleep(10 * time.Second)
		if c.hasData(lost, vol) {
			t.Errorf("node%d still has data", lost)
		}
		if res, err := c.Do(lost, vol, readOp(f, 0, 65536), time.Second); err != nil || !bytes.Equal(res.Data, pattern(1)) {
			t.Errorf("read through it: %v, errno %d", err, res.Err)
		}
	})
}

// Goal: a node that has left a volume, and whose disk is behind with the cluster's state, does not forget what it voted
// for: after a power cut it would think that it keeps the volume, and make its replica anew, as a founder with a vote.
// Method: the disk hangs when the state is to be written, then the power fails; the node starts cut off.
func TestCluster_ForgetsOnlyWhatIsSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 59, 4, often) // a start begins with what the checkpoint has
		vol := c.Volume("v")
		c.create(vol, "f")
		time.Sleep(3 * time.Second)
		free := uint64(slices.IndexFunc([]uint64{1, 2, 3, 4}, func(id uint64) bool { return !c.hasData(id, vol) })) + 1
		old := uint64(1) // a secondary: the primary has to carry the move out
		for old == free || old == c.Primary(vol) {
			old++
		}
		m := c.nodes[old-1]
		before, _ := c.Node(old).Position(vol)
		hang := make(chan struct{})
		m.disk.OnOp(func(op, name string, off, n int64) error {
			if op == "create" && name == "cluster/state.new" {
				<-hang
			}
			return m.trouble.hook(op, name, off, n)
		})
		c.move(c.Primary(vol), fmt.Sprintf("node%d", old), fmt.Sprintf("node%d", free))
		c.waitUpToDate(vol)
		time.Sleep(2 * time.Second)
		if got := c.replicas(vol); strings.Contains(got, fmt.Sprintf("node%d:", old)) {
			t.Fatalf("replicas %s after the move", got)
		}
		go func() { time.Sleep(time.Second); close(hang) }()
		c.Crash(old)
		m.disk.OnOp(m.trouble.hook)
		c.Net.Isolate(old)
		c.Start(old)
		for range 200 {
			if p, has := c.Node(old).Position(vol); has && (p.Applied < before.Applied || p.Term < before.Term) {
				t.Fatalf("the node that left has a replica with a vote, at %+v after %+v", p, before)
			}
			time.Sleep(10 * time.Millisecond)
		}
		c.Net.Rejoin(old)
		c.wait("the data to go", func() bool { return !c.hasData(old, vol) })
		c.waitUpToDate(vol)
		c.equalDigests(vol)
	})
}
