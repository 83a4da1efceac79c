package sim

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// Goal: a candidate asks for votes once its own is durable. Method: the log of a secondary hangs, and the primary hands over to it;
// the others would elect it at once, without its own vote. Raft paper, figure 2: currentTerm and votedFor are
// on stable storage before others hear of them.
func TestCluster_VoteDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 64, 3)
		vol := c.Volume("v")
		c.create(vol, "f")
		c.waitUpToDate(vol)
		old := c.Primary(vol)
		to := old%3 + 1
		c.slowDisk(to, 600*time.Millisecond)
		go func() { _ = c.Node(old).Transfer(context.Background(), "v", c.Node(to).Name()) }()
		for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			for _, v := range c.Node(to).Status(context.Background()).Volumes {
				if v.ID == vol && v.Primary == c.Node(to).Name() {
					t.Fatal("a member leads whose vote for itself is not durable")
				}
			}
		}
		c.slowDisk(to, 0)
		c.create(vol, "g")
	})
}
