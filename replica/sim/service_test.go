package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"trinas/replica"
	"trinas/replica/volume"
)

// Goal: a node knows whether it can serve a volume: it tells of an election as something that passes, and
// of a partition, after a while, as being cut off; an activation then ends at once, and with its reason.
func TestCluster_Service(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 33, 3)
		vol := c.Volume("v")
		c.create(vol, "disk")
		ctx := context.Background()
		service := func(node uint64) replica.Service {
			t.Helper()
			s, err := c.Node(node).Service(ctx, "v")
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		for node := uint64(1); node <= 3; node++ {
			s := service(node)
			if !s.Serving || s.CutOff || s.Reason != "" || s.ID != vol || s.Primary == "" || s.Space.TotalBytes == 0 {
				t.Errorf("node %d, all well: %+v", node, s)
			}
		}
		if _, err := c.Node(1).Service(ctx, "none"); !errors.Is(err, replica.ErrNoVolume) {
			t.Errorf("no such volume: %v", err)
		}

		awaited := make(chan replica.Service)
		c.Net.Isolate(1)
		c.Net.Isolate(2)
		c.Net.Isolate(3)
		time.Sleep(3 * time.Second)
		go func() {
			s, err := c.Node(1).AwaitService(ctx, "v")
			if err != nil {
				t.Error(err)
			}
			awaited <- s
		}()
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if s, err := c.Node(2).AwaitService(short, "v"); err != nil || s.Serving || s.CutOff || s.Reason == "" {
			t.Errorf("waited for 1 s only: %+v, %v", s, err)
		}
		c.Net.Rejoin(1)
		c.Net.Rejoin(2)
		c.Net.Rejoin(3)
		if s := <-awaited; !s.Serving {
			t.Errorf("waited for the others: %+v", s)
		}

		lost := c.Primary(vol)
		c.Net.Isolate(lost)
		time.Sleep(5 * time.Second)
		if s := service(lost); s.Serving || s.CutOff || !strings.Contains(s.Reason, "2 are needed") {
			t.Errorf("cut off for 5 s: %+v", s)
		}
		started := time.Now()
		err := c.activate(lost, "disk", time.Minute)
		if waited := time.Since(started); !errors.Is(err, replica.ErrCutOff) || waited > 6*time.Second {
			t.Errorf("activation on the lost node: %v after %s", err, waited)
		}
		started = time.Now()
		err = c.activate(lost, "disk", time.Minute)
		if waited := time.Since(started); !errors.Is(err, replica.ErrCutOff) || waited > 200*time.Millisecond {
			t.Errorf("activation on a node known to be cut off: %v after %s", err, waited)
		}
		started = time.Now()
		if s, err := c.Node(lost).AwaitService(ctx, "v"); err != nil || !s.CutOff || time.Since(started) > 200*time.Millisecond {
			t.Errorf("waited for while cut off: %+v, %v", s, err)
		}
		if s := service(lost); s.Serving || !s.CutOff || s.Space.TotalBytes == 0 {
			t.Errorf("cut off for longer: %+v", s)
		}
		if s := service(lost%3 + 1); !s.Serving {
			t.Errorf("the others: %+v", s)
		}
		c.Net.Rejoin(lost)
		if err := c.activate(lost, "disk", 10*time.Second); err != nil {
			t.Errorf("activation after the partition: %v", err)
		}
		if err := c.activate(lost, "none", time.Second); !errors.Is(err, replica.ErrNoImage) {
			t.Errorf("activation of nothing: %v", err)
		}
	})
}

// Goal: free space is what every replica can still take, less the reserve, through every node.
func TestCluster_ServiceSpace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const reserve = 64 << 20
		c := New(t, 34, 3, func(o *replica.Options) { o.ReserveBytes = reserve })
		vol := c.Volume("v")
		time.Sleep(2 * time.Second) // heartbeats tell
		s, err := c.Node(2).Service(context.Background(), "v")
		op := volume.Op{Kind: volume.FSStat, File: volume.RootID, Gen: 1}
		res, err2 := c.Do(1, vol, op, time.Second)
		if err != nil || err2 != nil || s.Space.FreeBytes != res.Space.FreeBytes ||
			s.Space.FreeBytes == 0 || s.Space.FreeBytes+reserve > s.Space.TotalBytes {
			t.Errorf("%+v, %v; %+v, %v", s.Space, err, res.Space, err2)
		}
	})
}

// Goal: a volume is stuck on a node while requests wait there and the node is cut off, no sooner and no longer; the
// requests' files are named.
func TestCluster_Stuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 35, 3)
		vol := c.Volume("v")
		f := c.create(vol, "disk")
		c.waitUpToDate(vol)
		time.Sleep(time.Second) // node 1 has applied it too
		stuck := func() string { return fmt.Sprint(c.Node(1).Stuck()) }
		c.Net.Isolate(1)
		time.Sleep(15 * time.Second)
		if got := stuck(); got != "[]" {
			t.Errorf("cut off, and nobody waits: %s", got)
		}
		var waits sync.WaitGroup
		for range 2 {
			waits.Go(func() {
				if _, err := c.Do(1, vol, writeOp(f, 0, []byte("x")), time.Minute); err != nil {
					t.Error(err)
				}
			})
		}
		waits.Go(func() {
			op := volume.Op{Kind: volume.Lookup, File: volume.RootID, Gen: 1, Name: "disk"}
			if _, err := c.Do(1, vol, op, time.Minute); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(time.Second)
		got := c.Node(1).Stuck()
		if len(got) != 1 || got[0].Volume != "v" || fmt.Sprint(got[0].Replicas) != "[node1 node2 node3]" ||
			!slices.Equal(got[0].Paths, []string{"", "disk"}) || !strings.Contains(got[0].Reason, "2 are needed") {
			t.Errorf("cut off with requests that wait: %+v", got)
		}
		c.Net.Rejoin(1)
		waits.Wait()
		if got := stuck(); got != "[]" {
			t.Errorf("back: %s", got)
		}

		c.Net.Isolate(1)
		waits.Go(func() { _, _ = c.Do(1, vol, writeOp(f, 0, []byte("x")), 5*time.Second) })
		time.Sleep(2 * time.Second)
		if got := stuck(); got != "[]" {
			t.Errorf("cut off for 2 s: %s", got)
		}
		waits.Wait()
		c.Net.Rejoin(1)
		time.Sleep(5 * time.Second)
	})
}

// Goal: a node that is Unfit is given no new image while others could take it, goes on with those that it has, and
// takes them where nobody is better. Method: slow logs.
func TestCluster_UnfitTakesNoImage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 43, 3)
		vol := c.Volume("v")
		f := c.create(vol, "busy")
		c.create(vol, "has")
		c.create(vol, "new")
		slow := c.Primary(vol)
		other := slow%3 + 1
		activate := func(node uint64, path string) error {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			c.Node(node).Gather(ctx)
			return c.Node(node).Activate(ctx, "v", path)
		}
		if err := activate(slow, "has"); err != nil {
			t.Fatal(err)
		}
		c.slowDisk(slow, 400*time.Millisecond)
		c.longestWrite(other, vol, f, 10*time.Second)
		if err := activate(slow, "new"); !errors.Is(err, replica.ErrUnfit) || !strings.Contains(err.Error(), "slow") {
			t.Errorf("a new image on a node with a slow log: %v", err)
		}
		if err := activate(slow, "/has"); err != nil {
			t.Errorf("an image that is active there: %v", err)
		}
		if err := activate(other, "new"); err != nil {
			t.Errorf("the same on another node: %v", err)
		}
		for node := uint64(1); node <= 3; node++ {
			c.slowDisk(node, 400*time.Millisecond)
		}
		c.longestWrite(other, vol, f, 15*time.Second)
		if err := activate(slow, "new"); err != nil {
			t.Errorf("where all logs are slow: %v", err)
		}
	})
}
