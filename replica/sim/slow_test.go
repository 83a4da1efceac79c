package sim

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"trinas/replica"
	"trinas/replica/volume"
)

// slowDisk makes every sync of a node's log take as long as given; 0: as fast as before.
func (c *Cluster) slowDisk(node uint64, sync time.Duration) {
	c.nodes[node-1].trouble.set(func(t *trouble) { t.sync = sync })
}

// longestWrite writes again and again for some time through a node, and returns the longest wait.
func (c *Cluster) longestWrite(node uint64, vol volume.ID, f volume.Attr, total time.Duration) (longest time.Duration) {
	c.t.Helper()
	for end := time.Now().Add(total); time.Now().Before(end); {
		start := time.Now()
		if res, err := c.Do(node, vol, writeOp(f, 0, bytes.Repeat([]byte{1}, 4096)), time.Minute); err != nil || res.Err != volume.OK {
			c.t.Fatalf("write through node %d: %v, errno %d", node, err, res.Err)
		}
		longest = max(longest, time.Since(start))
		time.Sleep(10 * time.Millisecond)
	}
	return longest
}

// Goal: a primary whose log becomes slow is replaced before clients wait for long, does not come back as
// primary while others can be, not even when the other one is lost for a moment, and may when its
// disk is well again. DESIGN.md of the whole, failure detection.
func TestCluster_SlowLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 41, 3)
		vol := c.Volume("v")
		f := c.create(vol, "f")
		slow := c.Primary(vol)
		a, b := slow%3+1, (slow+1)%3+1
		c.slowDisk(slow, 400*time.Millisecond)
		if longest := c.longestWrite(a, vol, f, 10*time.Second); longest > 1500*time.Millisecond {
			t.Errorf("a write waited for %s when the primary's log became slow", longest)
		}
		if now := c.Primary(vol); now == slow {
			t.Fatal("the node with the slow log is still primary")
		}
		if longest := c.longestWrite(a, vol, f, 5*time.Second); longest > 50*time.Millisecond {
			t.Errorf("with a slow secondary a write waited for %s", longest)
		}
		for round := range 10 {
			lost := c.Primary(vol)
			c.Crash(lost)
			other := a + b - lost
			if now := c.Primary(vol); now != other { // the first one after the crash
				t.Errorf("round %d: node %d became primary, the one with the slow log is %d", round, now, slow)
			}
			c.longestWrite(other, vol, f, 6*time.Second)
			if now := c.Primary(vol); now != other {
				t.Errorf("round %d: primary is node %d, the one with the slow log is %d", round, now, slow)
			}
			c.Start(lost)
			c.waitUpToDate(vol)
		}
		c.slowDisk(slow, 0)
		c.longestWrite(a, vol, f, 40*time.Second)
		c.Transfer(vol, slow)
		if c.longestWrite(slow, vol, f, 15*time.Second); c.Primary(vol) != slow {
			t.Error("the node whose log is fast again gave the volume away")
		}
	})
}

// Goal: where all logs are slow, somebody leads all the same.
func TestCluster_AllLogsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 42, 3)
		vol := c.Volume("v")
		f := c.create(vol, "f")
		for id := uint64(1); id <= 3; id++ {
			c.slowDisk(id, 300*time.Millisecond)
		}
		c.longestWrite(1, vol, f, 10*time.Second)
		lost := c.Primary(vol)
		c.Crash(lost)
		if longest := c.longestWrite(lost%3+1, vol, f, 20*time.Second); longest > 12*time.Second {
			t.Errorf("a write waited for %s", longest)
		}
	})
}

// Goal: a replica whose disk refuses to write objects leaves service, and says so; its node goes on
// serving through the others, the volume goes on; when the disk is good again it comes back, by hand at once
// or by itself, without a restart, and holds the same.
func TestCluster_ReplicaFailed(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
		t.Run(errno.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { replicaFails(t, errno) })
		})
	}
}

func replicaFails(t *testing.T, errno syscall.Errno) {
	c := New(t, 43, 3)
	vol := c.Volume("v")
	f := c.create(vol, "f")
	for _, bad := range []uint64{c.Primary(vol), c.Primary(vol)%3 + 1} { // a primary's, a secondary's or the new primary's
		c.nodes[bad-1].trouble.set(func(t *trouble) { t.objects = errno })
		c.longestWrite(bad, vol, f, 3*time.Second) // through the node whose replica fails
		if state, reason := c.replicaState(vol, bad); state != "Failed" || !strings.Contains(reason, "volumes/") {
			t.Errorf("replica of node %d: %s, %q", bad, state, reason)
		}
		if res, err := c.Do(bad, vol, readOp(f, 0, 4096), time.Second); err != nil || res.Err != volume.OK || res.Count != 4096 {
			t.Errorf("read through node %d, whose replica failed: %v, errno %d", bad, err, res.Err)
		}
		// From another node it looks the same.
		if state := c.stateSeenBy(bad%3+1, vol, bad); state != "diskless Failed" {
			t.Errorf("node %d sees the replica of node %d as %s", bad%3+1, bad, state)
		}
		if err := c.Node(bad).RetryReplica(context.Background(), "v"); err == nil || !strings.Contains(err.Error(), "volumes/") {
			t.Errorf("retried on a bad disk: %v", err)
		}
		time.Sleep(3 * time.Minute) // tried by itself meanwhile, in vain
		if state, _ := c.replicaState(vol, bad); state != "Failed" {
			t.Errorf("on a bad disk the replica of node %d is %s", bad, state)
		}
		c.nodes[bad-1].trouble.clear()
		switch errno {
		case syscall.EIO: // by hand
			if err := c.Node(bad).RetryReplica(context.Background(), "v"); err != nil {
				t.Errorf("retried on a good disk: %v", err)
			}
		default: // by itself
			time.Sleep(9 * time.Minute)
		}
		c.waitUpToDate(vol)
		if err := c.Node(bad).RetryReplica(context.Background(), "v"); err == nil {
			t.Error("a replica in service was retried")
		}
	}
	c.sameEverywhere(vol)
}

// stateSeenBy is the role and state of a node's replica as another node tells.
func (c *Cluster) stateSeenBy(teller uint64, vol volume.ID, node uint64) string {
	for _, v := range c.Node(teller).Status(context.Background()).Volumes {
		for _, r := range v.Replicas {
			if v.ID == vol && r.Node == c.Node(node).Name() {
				return r.Role + " " + string(r.State)
			}
		}
	}
	return "none"
}

// replicaState is the state of a node's replica of a volume, and its reason, as the node itself tells.
func (c *Cluster) replicaState(vol volume.ID, node uint64) (state, reason string) {
	for _, v := range c.Node(node).Status(context.Background()).Volumes {
		for _, r := range v.Replicas {
			if v.ID == vol && r.Node == c.Node(node).Name() {
				return string(r.State), r.Reason
			}
		}
	}
	return "none", ""
}

// Goal: a primary whose log is slower than the others' holds up no write: it applies what they have, ahead of its own
// log; and after a power cut it has what was acknowledged although its log has not. Method: each sync of the primary's
// log takes 100 ms, which is not slow enough to hand over; it checkpoints all the while; it crashes in the middle.
func TestCluster_PrimaryAheadOfItsLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 65, 3, func(o *replica.Options) { o.CheckpointInterval = 250 * time.Millisecond })
		vol := c.Volume("v")
		f := c.create(vol, "f")
		slow := c.Primary(vol)
		for round := range 5 {
			c.Transfer(vol, slow)
			c.slowDisk(slow, 100*time.Millisecond)
			for _, node := range []uint64{slow, slow%3 + 1} {
				if longest := c.longestWrite(node, vol, f, 2*time.Second); longest > 20*time.Millisecond {
					t.Errorf("round %d: a write through node %d waited for %s", round, node, longest)
				}
			}
			if now := c.Primary(vol); now != slow {
				t.Fatalf("the primary is node %d, and was %d", now, slow)
			}
			c.writeSlots(slow, vol, f, 30, 100*round)
			c.Crash(slow)
			c.slowDisk(slow, 0)
			c.writeSlots(slow%3+1, vol, f, 10, 100*round+50)
			c.Start(slow)
			c.waitUpToDate(vol)
			c.sameEverywhere(vol)
		}
	})
}

// Goal: a primary whose disk hangs while nothing is written to its log, since all that it was asked to do waits for
// the write of an object, notices, and another takes over. Method: the disk hangs at an object's write; there is one client.
func TestCluster_DiskHangsAtObject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 67, 3)
		vol := c.Volume("v")
		f := c.create(vol, "f")
		bad := c.Primary(vol)
		disk := &c.nodes[bad-1].trouble
		hangs := make(chan struct{})
		disk.set(func(t *trouble) { t.hangs = hangs })
		if longest := c.longestWrite(bad%3+1, vol, f, 10*time.Second); longest > 4*time.Second {
			t.Errorf("a write waited for %s", longest)
		}
		if c.Primary(vol) == bad {
			t.Error("the node whose disk hangs is still primary")
		}
		close(hangs)
		disk.set(func(t *trouble) { t.hangs = nil })
		c.waitUpToDate(vol)
		c.sameEverywhere(vol)
	})
}

// Goal: who makes many small files does not wait for their objects to be synced one by one, long before a checkpoint is
// due. Method: half as many files are written as may be dirty at once; the housekeeping must have flushed them soon after.
func TestCluster_ManySmallFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const half = 1024 // of volume.Options.DirtyObjects' default
		c := New(t, 66, 3, func(o *replica.Options) { o.CheckpointInterval = time.Hour })
		vol := c.Volume("v")
		for i := range half {
			f := c.create(vol, fmt.Sprint("f", i))
			if res, err := c.Do(1, vol, writeOp(f, 0, []byte("something")), 5*time.Second); err != nil || res.Err != volume.OK {
				t.Fatalf("write file %d: errno %d, %v", i, res.Err, err)
			}
		}
		time.Sleep(time.Second)
		for node := uint64(1); node <= 3; node++ {
			for _, v := range c.Node(node).Figures().Volumes {
				if v.DirtyBytes > 0 {
					t.Errorf("node %d still has %d dirty bytes", node, v.DirtyBytes)
				}
			}
		}
	})
}
