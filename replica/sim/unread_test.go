package sim

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"trinas/replica"
	"trinas/replica/volume"
)

// smallCache makes nodes read back from disk what is not among the last entries of the log.
func smallCache(o *replica.Options) { o.SegmentBytes, o.LogCacheBytes = 1<<20, 128<<10 }

// writeSlots writes 64 KiB to each of so many slots of a file, through a node.
func (c *Cluster) writeSlots(node uint64, vol volume.ID, f volume.Attr, slots, seed int) {
	c.t.Helper()
	for slot := range slots {
		if res, err := c.Do(node, vol, writeOp(f, uint64(slot)*65536, pattern(seed+slot)), 10*time.Second); err != nil || res.Err != volume.OK {
			c.t.Fatalf("write slot %d through node %d: %v, errno %d", slot, node, err, res.Err)
		}
	}
}

// Goal: a primary that cannot read the log for a secondary that lags takes its replica out of service and says
// why; the volume and the agent go on; it comes back when the disk is well. Method: a secondary is away while
// more is written than the log's cache holds, and reads of the primary's log fail when it is back.
func TestCluster_LogUnreadForSecondary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 61, 3, smallCache)
		vol := c.Volume("v")
		f := c.create(vol, "f")
		bad := c.Primary(vol)
		away := bad%3 + 1
		c.Net.Isolate(away)
		c.writeSlots(bad, vol, f, 64, 0)
		c.nodes[bad-1].trouble.set(func(t *trouble) { t.read = "log/" })
		c.Net.Rejoin(away)
		c.wait("the replica's failure", func() bool { state, _ := c.replicaState(vol, bad); return state == "Failed" })
		if _, reason := c.replicaState(vol, bad); !strings.Contains(reason, "read the log") || !strings.Contains(reason, "log/") {
			t.Errorf("the reason is %q", reason)
		}
		c.writeSlots(bad, vol, f, 8, 100) // through the others
		c.nodes[bad-1].trouble.clear()
		if err := c.Node(bad).RetryReplica(context.Background(), "v"); err != nil {
			t.Error(err)
		}
		c.waitUpToDate(vol)
		c.sameEverywhere(vol)
	})
}

// Goal: a replica whose log cannot be read after a start stays out of service; its node serves through the others,
// and knows the cluster. Method: a node stops with more in its log than its checkpoints cover.
func TestCluster_LogUnreadAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 62, 3, smallCache)
		vol := c.Volume("v")
		f := c.create(vol, "f")
		bad := c.Primary(vol)
		c.writeSlots(bad, vol, f, 64, 0)
		c.nodes[bad-1].trouble.set(func(t *trouble) { t.read = "log/0000000002" })
		c.Restart(bad)
		c.wait("the replica's failure", func() bool { state, _ := c.replicaState(vol, bad); return state == "Failed" })
		c.writeSlots(bad, vol, f, 8, 100)
		time.Sleep(10 * time.Minute) // tried again, in vain
		if state, _ := c.replicaState(vol, bad); state != "Failed" {
			t.Errorf("a replica whose log cannot be read is %s", state)
		}
		c.nodes[bad-1].trouble.clear()
		time.Sleep(10 * time.Minute) // for the next try
		c.wait("the replica to come back", func() bool { state, _ := c.replicaState(vol, bad); return state == "UpToDate" })
		c.waitUpToDate(vol)
		c.sameEverywhere(vol)
	})
}

// Goal: the same of the log of the cluster's own state: the node goes on serving volumes, refuses what would change the
// cluster, with the reason, and takes part again when its disk is well.
func TestCluster_LogUnreadOfCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 63, 3, func(o *replica.Options) { o.LogCacheBytes = 2 << 10 })
		vol := c.Volume("v")
		ctx := context.Background()
		c.Transfer(vol, 1)
		c.Net.Isolate(3)
		for range 20 {
			if _, err := c.Node(1).NewToken(ctx, ""); err != nil {
				t.Fatal(err)
			}
		}
		for id := uint64(1); id <= 2; id++ { // one of them leads the cluster's group
			c.nodes[id-1].trouble.set(func(t *trouble) { t.read = "log/" })
		}
		c.Net.Rejoin(3)
		failed := func(id uint64) bool {
			_, err := c.Node(id).NewToken(ctx, "")
			return err != nil && strings.Contains(err.Error(), "cluster is out of service on this node")
		}
		c.wait("the failure of the cluster's log", func() bool { return failed(1) || failed(2) })
		c.create(vol, "f")
		for id := uint64(1); id <= 2; id++ {
			c.nodes[id-1].trouble.clear()
		}
		time.Sleep(5 * time.Minute)
		for id := uint64(1); id <= 3; id++ {
			if _, err := c.Node(id).NewToken(ctx, ""); err != nil {
				t.Errorf("node %d, after its disk was mended: %v", id, err)
			}
		}
	})
}
