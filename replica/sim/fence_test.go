package sim

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"trinas/replica"
	"trinas/replica/volume"
)

func (c *Cluster) activate(node uint64, path string, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	return c.Node(node).Activate(ctx, "v", path)
}

// Goal: in a live migration both sides write; a node that was cut off for long and whose image was
// started elsewhere never writes again, though its writes come through the moment it is back,
// until it activates the image itself.
func TestCluster_Fence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 31, 3)
		vol := c.Volume("v")
		f := c.create(vol, "disk 0.raw")
		write := func(node uint64, text string) volume.Errno {
			res, err := c.Do(node, vol, writeOp(f, 0, []byte(text)), time.Minute)
			if err != nil {
				t.Fatalf("write through node %d: %v", node, err)
			}
			return res.Err
		}
		for _, node := range []uint64{1, 2} { // a live migration
			if err := c.activate(node, "disk 0.raw", time.Second); err != nil {
				t.Fatal(err)
			}
			if errno := write(1, "from 1"); errno != volume.OK {
				t.Fatalf("node 1, active: errno %d", errno)
			}
		}
		for _, already := range []bool{false, true} { // node 3 joins them for a moment
			if got, err := c.Node(3).Claim(context.Background(), "v", "disk 0.raw"); err != nil || got != already {
				t.Fatalf("claim of node 3: %v, %v; want %v", got, err, already)
			}
		}
		if err := c.Node(3).Deactivate(context.Background(), "v", "disk 0.raw"); err != nil {
			t.Fatal(err)
		}
		if errno := write(3, "from 3"); errno != volume.EFENCED {
			t.Fatalf("node 3, not active: errno %d", errno)
		}
		ctx := context.Background()
		if err := c.Node(1).Deactivate(ctx, "v", "disk 0.raw"); err != nil {
			t.Fatal(err)
		}

		// Node 2's guest writes on while its node is cut off; node 3 starts it anew.
		c.Net.Isolate(2)
		late := make(chan volume.Errno)
		go func() {
			res, err := c.Do(2, vol, writeOp(f, 0, []byte("too late")), time.Hour)
			if err != nil {
				t.Errorf("the write of the lost node: %v", err)
			}
			late <- res.Err
		}()
		time.Sleep(11 * time.Second)
		if err := c.activate(3, "disk 0.raw", time.Second); err != nil {
			t.Fatal(err)
		}
		if errno := write(3, "restarted"); errno != volume.OK {
			t.Fatalf("node 3, active: errno %d", errno)
		}
		c.Net.Rejoin(2)
		if errno := <-late; errno != volume.EFENCED {
			t.Errorf("the write of the lost node: errno %d, want it refused", errno)
		}
		res, err := c.Do(1, vol, readOp(f, 0, 64), time.Second)
		if err != nil || !bytes.HasPrefix(res.Data, []byte("restarted")) {
			t.Errorf("read %q, %v", res.Data, err)
		}
		images, err := c.Node(c.Primary(vol)).Images("v")
		if err != nil || len(images) != 1 || fmt.Sprint(images[0]) != "{disk 0.raw [node3] [node2]}" {
			t.Errorf("images %v, %v", images, err)
		}
		if err := c.activate(2, "disk 0.raw", time.Second); err != nil {
			t.Fatal(err)
		}
		if errno := write(2, "again"); errno != volume.OK {
			t.Errorf("node 2, active again: errno %d", errno)
		}
	})
}

// Goal: a new primary that has just started does not take images from nodes that it has not met yet.
func TestCluster_FenceAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 32, 3)
		vol := c.Volume("v")
		f := c.create(vol, "disk")
		if err := c.activate(1, "disk", time.Second); err != nil {
			t.Fatal(err)
		}
		for id := uint64(1); id <= 3; id++ {
			c.Crash(id)
		}
		c.Start(2)
		c.Start(3)
		if err := c.activate(2, "disk", 10*time.Second); err != nil {
			t.Fatal(err)
		}
		c.Start(1)
		if res, err := c.Do(1, vol, writeOp(f, 0, []byte("x")), 10*time.Second); err != nil || res.Err != volume.OK {
			t.Errorf("node 1 was away for less than a session: %v, errno %d", err, res.Err)
		}
	})
}

// Goal: whatever crashes and partitions do, no write of an old incarnation of a guest gets into the
// image once a new one was started in its place. Method: a guest is started on one node after the
// other, each time after the node before was cut off for longer than a session; every incarnation
// goes on writing its number as long as it is told OK, also the old ones. The newest reads the block all
// the while: nothing but its own number may be there once it has written it.
func TestSim_Fence(t *testing.T) {
	seeds := 6
	if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { simulateFence(t, uint64(seed)) })
		})
	}
}

func simulateFence(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 7))
	c := New(t, 300+seed, 3)
	vol := c.Volume("v")
	f := c.create(vol, "disk")
	stop := make(chan struct{})
	var guests sync.WaitGroup
	number := func(n int) []byte { return bytes.Repeat([]byte{byte(n)}, 512) }
	var refused atomic.Int32
	for incarnation := 1; incarnation <= 8; incarnation++ {
		node := uint64(incarnation%3 + 1)
		if err := c.activate(node, "disk", time.Minute); err != nil {
			t.Fatalf("incarnation %d: %v", incarnation, err)
		}
		if res, err := c.Do(node, vol, writeOp(f, 0, number(incarnation)), time.Minute); err != nil || res.Err != volume.OK {
			t.Fatalf("incarnation %d cannot write: %v, errno %d", incarnation, err, res.Err)
		}
		pauses := rand.New(rand.NewPCG(seed, uint64(incarnation)))
		guests.Go(func() { // its kernel: writes until it is refused
			for {
				select {
				case <-stop:
					return
				default:
				}
				if c.Node(node) == nil {
					time.Sleep(10 * time.Millisecond)
					continue
				}
				res, err := c.Do(node, vol, writeOp(f, 0, number(incarnation)), time.Second)
				if err == nil && res.Err == volume.EFENCED {
					refused.Add(1)
					return
				}
				time.Sleep(time.Duration(pauses.IntN(20)) * time.Millisecond)
			}
		})
		for range 40 { // the guest at work, while the node cut off before comes back
			res, err := c.Do(node, vol, readOp(f, 0, 512), time.Minute)
			if err != nil || res.Err != volume.OK || !bytes.Equal(res.Data, number(incarnation)) {
				t.Fatalf("seed %d: incarnation %d reads %v, %v, errno %d", seed, incarnation, res.Data[:1], err, res.Err)
			}
			switch rng.IntN(20) {
			case 0:
				c.Net.Rejoin(node%3 + 1)
				c.Net.Rejoin((node+1)%3 + 1)
			case 1:
				if other := node%3 + 1; c.Node(other) != nil && c.Node((node+1)%3+1) != nil {
					c.Crash(other)
					time.Sleep(time.Second)
					c.Start(other)
				}
			}
			time.Sleep(time.Duration(rng.IntN(300)) * time.Millisecond)
		}
		for id := uint64(1); id <= 3; id++ {
			c.Net.Rejoin(id)
		}
		time.Sleep(3 * time.Second)
		c.Net.Isolate(node)
		time.Sleep(12 * time.Second)
	}
	for id := uint64(1); id <= 3; id++ {
		c.Net.Rejoin(id)
	}
	time.Sleep(5 * time.Second)
	close(stop)
	guests.Wait()
	if n := refused.Load(); n < 7 {
		t.Errorf("seed %d: %d old incarnations were refused, want 7", seed, n)
	}
}

// counter counts the lines of a log that have an event's name.
type counter struct {
	slog.Handler
	event string
	lines *atomic.Int32
}

func (c counter) Enabled(context.Context, slog.Level) bool { return true }

func (c counter) WithAttrs([]slog.Attr) slog.Handler { return c }

func (c counter) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "event" && a.Value.String() == c.event {
			c.lines.Add(1)
		}
		return true
	})
	return nil
}

// Goal: that a node's writes to an image are refused is said once, until the node activates the image anew;
// that it deactivates it, as the end of a guest left behind does, is no reason to say it again.
func TestCluster_FencedIsSaidOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said atomic.Int32
		c := New(t, 37, 3, func(o *replica.Options) { o.Log = slog.New(counter{event: "image-fenced", lines: &said}) })
		vol := c.Volume("v")
		f := c.create(vol, "disk")
		refused := func(want int32) {
			t.Helper()
			res, err := c.Do(1, vol, writeOp(f, 0, []byte("x")), time.Minute)
			if err != nil || res.Err != volume.EFENCED || said.Load() != want {
				t.Errorf("%v, errno %d, said %d times, want %d", err, res.Err, said.Load(), want)
			}
		}
		if err := c.activate(2, "disk", time.Second); err != nil {
			t.Fatal(err)
		}
		refused(1)
		refused(1)
		if err := c.Node(1).Deactivate(context.Background(), "v", "disk"); err != nil {
			t.Fatal(err)
		}
		refused(1)
		if err := c.activate(1, "disk", time.Second); err != nil {
			t.Fatal(err)
		}
		if err := c.Node(1).Deactivate(context.Background(), "v", "disk"); err != nil {
			t.Fatal(err)
		}
		refused(2)
	})
}
