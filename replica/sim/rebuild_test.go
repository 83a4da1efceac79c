package sim

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"trinas/replica"
	"trinas/replica/volume"
)

// often makes nodes write checkpoints often, so that there is one to damage.
func often(o *replica.Options) { o.CheckpointInterval = time.Second }

// rebuild has a node's replica of volume v made anew, and fails the test when that is refused.
func (c *Cluster) rebuild(node uint64, discard bool) {
	c.t.Helper()
	if err := c.tryRebuild(node, "v", discard); err != nil {
		c.t.Fatalf("rebuild on node %d: %v", node, err)
	}
}

func (c *Cluster) tryRebuild(node uint64, name string, discard bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return c.Node(node).RebuildReplica(ctx, name, discard)
}

// rebuilding reports whether a node's disk has anything of a rebuild.
func (c *Cluster) rebuilding(node uint64) bool {
	names, err := c.nodes[node-1].disk.FS().List("rebuild")
	return err == nil && len(names) > 0
}

// rebuilt waits until a node's replica is made anew, and the old one gone.
func (c *Cluster) rebuilt(node uint64, vol volume.ID) {
	c.t.Helper()
	c.wait(fmt.Sprintf("the rebuild on node %d", node), func() bool { return !c.rebuilding(node) })
	c.waitUpToDate(vol)
}

// missing is how many replicas a volume lacks, as a node tells.
func (c *Cluster) missing(node uint64, vol volume.ID) int {
	for _, v := range c.Node(node).Status(context.Background()).Volumes {
		if v.ID == vol {
			return v.Missing
		}
	}
	return -1
}

// Goal: a replica whose checkpoint is damaged is made anew in place: writers never wait, the other volume goes on, the
// new replica holds everything and counts as any other, nothing of the old one is left, and the same works again.
// With and without setting the old one aside; on a founder, and on one that was made anew before.
func TestCluster_Rebuild(t *testing.T) {
	for name, discard := range map[string]bool{"aside": false, "discard": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := New(t, 71, 3, often, func(o *replica.Options) { o.ResyncBytesPerSecond = 4 << 20 })
				vol, other := c.Volume("v"), c.Volume("w")
				f := c.create(vol, "f")
				c.writeSlots(1, vol, f, 128, 0) // 8 MiB: a resync takes 2 s
				time.Sleep(5 * time.Second)
				bad := c.Primary(vol)
				rounds := 2
				if testing.Short() {
					rounds = 1
				}
				for round := range rounds {
					c.damageCheckpoint(bad, vol)
					c.wait("the failure", func() bool { state, _ := c.replicaState(vol, bad); return state == "Failed" })
					c.wait("the others", func() bool { return strings.Count(c.replicas(vol), "UpToDate") == 2 })
					if state, _ := c.replicaState(other, bad); state == "Failed" {
						t.Errorf("the replica of the other volume is %s", state)
					}
					longest := make(chan time.Duration, 1)
					go func() { longest <- c.longestWrite(bad, vol, f, 20*time.Second) }()
					c.rebuild(bad, discard)
					c.rebuild(bad, discard) // again: no harm
					left, aside, resync, seen := false, false, false, false
					for range 2000 {
						names := c.replicas(vol)
						left = left || !strings.Contains(names, fmt.Sprintf("node%d:UpToDate", bad)) && !strings.Contains(names, fmt.Sprintf("node%d:SyncTarget", bad))
						_, err := c.nodes[bad-1].disk.FS().Stat(fmt.Sprintf("rebuild/%016x/old/checkpoint", uint64(vol)))
						aside = aside || err == nil
						for _, v := range c.Node(bad%3 + 1).Status(context.Background()).Volumes {
							for _, r := range v.Replicas {
								mine := v.ID == vol && r.Node == c.Node(bad).Name()
								resync = resync || mine && r.Resync != nil
								seen = seen || mine && strings.Contains(r.Reason, "made anew")
							}
						}
						time.Sleep(5 * time.Millisecond)
					}
					if !left || aside == discard || !resync || !seen {
						t.Errorf("round %d: left the volume %t, old copy aside %t, resync shown %t, reason shown elsewhere %t", round, left, aside, resync, seen)
					}
					c.rebuilt(bad, vol)
					if wait := <-longest; wait > 400*time.Millisecond {
						t.Errorf("round %d: a write waited for %s", round, wait)
					}
					c.equalDigests(vol)
				}
				c.Crash(bad%3 + 1) // so that the new replica is needed
				c.longestWrite(bad, vol, f, 3*time.Second)
				c.Transfer(vol, bad)
				res, err := c.Do(bad, vol, readOp(f, 127*65536, 65536), time.Second)
				if err != nil || string(res.Data) != string(pattern(127)) {
					t.Errorf("read at the new replica: %v, errno %d, not what was written", err, res.Err)
				}
				if n := c.missing(bad, vol); n != 0 {
					t.Errorf("%d replicas are missing", n)
				}
			})
		})
	}
}

// Goal: what would leave the volume without a majority that has everything is refused, and so is what makes no sense;
// each with what is in the way. Nothing has changed then.
func TestCluster_RebuildRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 74, 4, often)
		vol := c.Volume("v")
		f := c.create(vol, "f")
		single, err := c.Node(1).CreateVolume(context.Background(), "single", 1)
		if err != nil {
			t.Fatal(err)
		}
		c.writeSlots(1, vol, f, 4, 0)
		time.Sleep(3 * time.Second)
		refused := func(node uint64, name, want string) {
			t.Helper()
			if err := c.tryRebuild(node, name, false); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("rebuild of %s on node %d: %v, want %q", name, node, err, want)
			}
			if c.rebuilding(node) {
				t.Errorf("rebuild of %s on node %d was refused, and has begun", name, node)
			}
		}
		var on []uint64
		var none uint64
		for id := uint64(1); id <= 4; id++ {
			if strings.Contains(c.replicas(vol), fmt.Sprintf("node%d:", id)) {
				on = append(on, id)
			} else {
				none = id
			}
		}
		bad, away := on[0], on[1]
		refused(bad, "none", "no such volume")
		refused(bad, "v", "trinas verify")
		refused(none, "v", "has no replica")
		c.damageCheckpoint(bad, vol)
		c.wait("the failure", func() bool { state, _ := c.replicaState(vol, bad); return state == "Failed" })
		c.wait("the others", func() bool { return strings.Count(c.replicas(vol), "UpToDate") == 2 })

		c.Net.Isolate(away)
		time.Sleep(2 * time.Second)
		refused(bad, "v", "0 of its other replicas are UpToDate (none), and 2 are needed")
		c.Net.Rejoin(away)
		c.wait("the others", func() bool { return strings.Count(c.replicas(vol), "UpToDate") == 2 })

		used := int64(4 * 65536)
		c.nodes[bad-1].disk.SetSpace(used + 256<<20) // what is there already, and the reserve
		time.Sleep(time.Second)
		refused(bad, "v", "--discard")
		c.nodes[bad-1].disk.SetSpace(0)
		time.Sleep(time.Second)

		c.rebuild(bad, false)
		if err := c.Node(bad).RetryReplica(context.Background(), "v"); err == nil || !strings.Contains(err.Error(), "made anew") {
			t.Errorf("retry in the middle of a rebuild: %v", err)
		}
		c.wait("it to leave", func() bool { return strings.Count(c.replicas(vol), "UpToDate") == 2 && !c.inService(vol, bad) })
		c.rebuilt(bad, vol)

		at := slices.IndexFunc([]uint64{1, 2, 3, 4}, func(id uint64) bool { return c.hasData(id, single.ID) })
		c.damageCheckpoint(uint64(at)+1, single.ID)
		time.Sleep(time.Second)
		refused(uint64(at)+1, "single", "no other replica")
		if _, reason := c.replicaState(single.ID, uint64(at)+1); !strings.Contains(reason, "restore the volume from a backup") {
			t.Errorf("the reason of a single replica: %s", reason)
		}
	})
}

// inService reports whether a node has a replica in service.
func (c *Cluster) inService(vol volume.ID, node uint64) bool {
	_, ok := c.Node(node).Position(vol)
	return ok
}

// Goal: a node that is lost in the middle of a rebuild leaves a volume that says so, cannot be moved meanwhile, and gets its
// third replica on another node by the same command; the lost one then removes what it has.
func TestCluster_RebuildElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 75, 4, often)
		vol := c.Volume("v")
		f := c.create(vol, "f")
		c.writeSlots(1, vol, f, 4, 0)
		time.Sleep(3 * time.Second)
		var on []uint64
		var none uint64
		for id := uint64(1); id <= 4; id++ {
			if strings.Contains(c.replicas(vol), fmt.Sprintf("node%d:", id)) {
				on = append(on, id)
			} else {
				none = id
			}
		}
		bad := on[1]
		c.damageCheckpoint(bad, vol)
		c.wait("the failure", func() bool { state, _ := c.replicaState(vol, bad); return state == "Failed" })
		c.wait("the others", func() bool { return strings.Count(c.replicas(vol), "UpToDate") == 2 })
		m := c.nodes[bad-1]
		m.disk.OnOp(func(op, name string, off, n int64) error { // it cannot set the old copy aside
			if op == "rename" && name == replica.VolumeDir(vol) {
				return syscall.EIO
			}
			return m.trouble.hook(op, name, off, n)
		})
		c.rebuild(bad, false)
		time.Sleep(10 * time.Second)
		if state, reason := c.replicaState(vol, bad); state != "Failed" || !strings.Contains(reason, "being made anew") || !c.leftOne(vol) {
			t.Errorf("a replica that cannot be set aside is %s: %s", state, reason)
		}
		c.Crash(bad)
		m.disk.OnOp(m.trouble.hook)
		c.wait("the lack to be told", func() bool { return c.missing(none, vol) == 1 })
		err := c.Node(none).MoveVolume(context.Background(), "v", fmt.Sprintf("node%d", on[0]), fmt.Sprintf("node%d", none))
		if err == nil || !strings.Contains(err.Error(), "lacks a replica") {
			t.Errorf("a move meanwhile: %v", err)
		}
		c.rebuild(none, false)
		c.rebuilt(none, vol)
		if got := c.missing(none, vol); got != 0 || !strings.Contains(c.replicas(vol), fmt.Sprintf("node%d:UpToDate", none)) {
			t.Errorf("%d are missing, replicas %s", got, c.replicas(vol))
		}
		c.equalDigests(vol)
		c.Start(bad)
		c.wait("the lost node to clear up", func() bool { return !c.rebuilding(bad) && !c.hasData(bad, vol) })
		if state, reason := c.replicaState(vol, bad); state != "none" {
			t.Errorf("the lost node has a replica that is %s: %s", state, reason)
		}
		c.move(on[0], fmt.Sprintf("node%d", on[0]), fmt.Sprintf("node%d", bad)) // it can take it again
		c.waitUpToDate(vol)
		c.equalDigests(vol)
	})
}

// leftOne reports whether the cluster's state knows two replicas of a volume, and none that leaves.
func (c *Cluster) leftOne(vol volume.ID) bool {
	for _, v := range c.Node(c.Primary(vol)).Status(context.Background()).Volumes {
		if v.ID == vol {
			n := 0
			for _, r := range v.Replicas {
				if r.Role != "diskless" {
					n++
				}
			}
			return n == 2 && len(v.Leaving) == 0
		}
	}
	return false
}

// Goal: a failed replica that is moved away, or whose volume is deleted, leaves nothing on its node.
func TestCluster_FailedReplicaMovedAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 76, 4, often)
		vol, w := c.Volume("v"), c.Volume("w")
		c.create(vol, "f")
		c.create(w, "f")
		time.Sleep(3 * time.Second)
		free := slices.IndexFunc([]uint64{1, 2, 3, 4}, func(id uint64) bool { return !c.hasData(id, vol) })
		bad := c.Primary(vol)
		c.damageCheckpoint(bad, vol)
		time.Sleep(time.Second)
		c.move(1, fmt.Sprintf("node%d", bad), fmt.Sprintf("node%d", free+1))
		c.wait("the data to go", func() bool { return !c.hasData(bad, vol) })
		c.waitUpToDate(vol)
		c.equalDigests(vol)
		has := uint64(slices.IndexFunc([]uint64{1, 2, 3, 4}, func(id uint64) bool { return c.hasData(id, w) })) + 1
		c.damageCheckpoint(has, w)
		time.Sleep(time.Second)
		if err := c.Node(1).DeleteVolume(context.Background(), "w"); err != nil {
			t.Fatal(err)
		}
		c.wait("the deleted volume's data to go", func() bool { return !c.hasData(has, w) })
	})
}

// Goal: a replica whose checkpoint is gone is not begun anew where it counts, since it would have forgotten what it voted
// for; it is Failed, says which file, and can be rebuilt. The same for one that the volume was made with, and for one that came later.
func TestCluster_CheckpointGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 77, 3, often)
		vol := c.Volume("v")
		f := c.create(vol, "f")
		c.writeSlots(1, vol, f, 4, 0)
		time.Sleep(3 * time.Second)
		const bad = 2
		for round := range 2 { // in the second it has been rebuilt: it came later
			c.Crash(bad)
			dir := c.nodes[bad-1].disk.FS().Sub(replica.VolumeDir(vol))
			if err := dir.Remove("checkpoint"); err != nil {
				t.Fatal(err)
			}
			if err := dir.SyncDir("."); err != nil {
				t.Fatal(err)
			}
			c.Start(bad)
			time.Sleep(2 * time.Minute)
			state, reason := c.replicaState(vol, bad)
			if state != "Failed" || !strings.Contains(reason, replica.VolumeDir(vol)) || !strings.Contains(reason, "no checkpoint") || !strings.Contains(reason, "trinas volume rebuild v") {
				t.Fatalf("round %d: the replica is %s: %s", round, state, reason)
			}
			c.rebuild(bad, false)
			c.rebuilt(bad, vol)
			c.equalDigests(vol)
		}
	})
}

// Goal: a replica that is told to be UpToDate counts: from that moment on any other node may be lost. Method: another
// one is lost in the moment in which status says so of a replica that was made anew.
func TestCluster_RebuiltCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for seed := uint64(1); seed <= 12; seed++ {
			c := New(t, seed, 3, often)
			vol := c.Volume("v")
			f := c.create(vol, "f")
			c.writeSlots(1, vol, f, 4, 0)
			time.Sleep(3 * time.Second)
			bad := seed%3 + 1
			c.damageCheckpoint(bad, vol)
			c.wait("the failure", func() bool { state, _ := c.replicaState(vol, bad); return state == "Failed" })
			c.wait("the others", func() bool { return strings.Count(c.replicas(vol), "UpToDate") == 2 })
			c.rebuild(bad, false)
			lost := bad%3 + 1
			for looks := 0; ; looks++ {
				if state, _ := c.replicaState(vol, bad); state == "UpToDate" {
					break
				}
				if looks == 10000 {
					t.Fatalf("seed %d: not UpToDate after 10 s", seed)
				}
				time.Sleep(time.Millisecond)
			}
			c.Crash(lost)
			res, err := c.Do(bad, vol, writeOp(f, 0, pattern(1)), 10*time.Second)
			if err != nil || res.Err != volume.OK {
				t.Errorf("seed %d: a write without node %d: %v, errno %d", seed, lost, err, res.Err)
			}
			c.Close()
		}
	})
}
