package sim

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"trinas/replica"
	"trinas/replica/volume"
)

// shortLog makes nodes keep so little log that a replica which was away needs a resync.
func shortLog(o *replica.Options) {
	o.SegmentBytes, o.LogBytes, o.CheckpointInterval = 1<<20, 6<<20, 5*time.Second
}

// pattern is 64 KiB that nothing else in the tests writes.
func pattern(n int) []byte { return bytes.Repeat([]byte(fmt.Sprintf("%015d\n", n)), 4096) }

// Goal: a replica that was away for longer than the log reaches comes back by copying what changed,
// not the volume, and then holds everything. Method: 32 MiB are there, 3 MiB change and a file
// goes while a node is away and the others' log moves on; the bytes it reports as copied are
// counted; it is made primary and every byte is read from it.
func TestCluster_DeltaResync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 7, 3, shortLog)
		vol := c.Volume("v")
		f, gone := c.create(vol, "f"), c.create(vol, "gone")
		write := func(f volume.Attr, slot, n int) {
			t.Helper()
			res, err := c.Do(1, vol, writeOp(f, uint64(slot)*65536, pattern(n)), 10*time.Second)
			if err != nil || res.Err != 0 {
				t.Fatalf("write slot %d: %v, errno %d", slot, err, res.Err)
			}
		}
		want := make([]int, 512) // 32 MiB
		for slot := range want {
			want[slot] = slot
			write(f, slot, slot)
		}
		write(gone, 0, 1)
		c.Transfer(vol, 1)
		c.Crash(3)
		for round := range 8 { // 3 MiB of it change, again and again, until the log has moved on
			for slot := 100; slot < 148; slot++ {
				want[slot] = 1000*round + slot
				write(f, slot, want[slot])
			}
			time.Sleep(4 * time.Second)
		}
		if res, err := c.Do(2, vol, volume.Op{Kind: volume.Remove, File: volume.RootID, Gen: 1, Name: "gone"}, time.Second); err != nil || res.Err != 0 {
			t.Fatal(err, res.Err)
		}
		fresh := c.create(vol, "fresh")
		write(fresh, 3, 77)
		c.Start(3)
		var copied uint64
		for range 3000 {
			time.Sleep(2 * time.Millisecond)
			for _, v := range c.Node(1).Status(context.Background()).Volumes {
				for _, r := range v.Replicas {
					if r.Resync != nil {
						copied = max(copied, r.Resync.TotalBytes)
					}
				}
			}
		}
		if copied == 0 || copied > 6<<20 {
			t.Errorf("%d bytes were copied, want some, and at most 6 MiB of 32", copied)
		}
		c.waitUpToDate(vol)
		c.Transfer(vol, 3)
		for slot, n := range want {
			res, err := c.Do(3, vol, readOp(f, uint64(slot)*65536, 65536), time.Second)
			if err != nil || !bytes.Equal(res.Data, pattern(n)) {
				t.Fatalf("slot %d at the replica that came back: %v, errno %d, not what was written", slot, err, res.Err)
			}
		}
		res, err := c.Do(3, vol, readOp(fresh, 0, 4*65536), time.Second)
		if hole := make([]byte, 3*65536); err != nil || !bytes.Equal(res.Data, append(hole, pattern(77)...)) {
			t.Errorf("the new file: %v, errno %d", err, res.Err)
		}
		if res, err := c.Do(3, vol, readOp(gone, 0, 10), time.Second); err != nil || res.Err != volume.ESTALE {
			t.Errorf("the removed file: %v, errno %d, want ESTALE", err, res.Err)
		}
	})
}

// Goal: a resync goes on to its end when the node that it copies from is lost, when its own node
// crashes in the middle, and while writes go on.
func TestCluster_ResyncInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 8, 3, shortLog, func(o *replica.Options) { o.ResyncBytesPerSecond = 4 << 20 })
		vol := c.Volume("v")
		f := c.create(vol, "f")
		want := make([]int, 256) // 16 MiB: a resync takes 4 s
		write := func(node uint64, slot, n int) {
			t.Helper()
			want[slot] = n
			res, err := c.Do(node, vol, writeOp(f, uint64(slot)*65536, pattern(n)), 10*time.Second)
			if err != nil || res.Err != 0 {
				t.Fatalf("write slot %d: %v, errno %d", slot, err, res.Err)
			}
		}
		c.Transfer(vol, 1)
		c.Crash(3)
		for slot := range want {
			write(1, slot, slot)
			time.Sleep(50 * time.Millisecond)
		}
		c.Start(3)
		time.Sleep(1500 * time.Millisecond)
		c.Crash(3) // in the middle of it
		c.Start(3)
		time.Sleep(1500 * time.Millisecond)
		c.Transfer(vol, 2) // the source changes
		for slot := 0; slot < 40; slot++ {
			write(1, slot*6, 5000+slot)
			time.Sleep(50 * time.Millisecond)
		}
		c.waitUpToDate(vol)
		c.Transfer(vol, 3)
		for slot, n := range want {
			res, err := c.Do(3, vol, readOp(f, uint64(slot)*65536, 65536), time.Second)
			if err != nil || !bytes.Equal(res.Data, pattern(n)) {
				t.Fatalf("slot %d at the replica that came back: %v, errno %d, not what was written", slot, err, res.Err)
			}
		}
	})
}

// Goal: when the primary is lost while a replica of three is being brought up to date, the other two
// go on, although the new primary can commit nothing before that replica is whole. Method: the
// primary is lost at several moments after the resync began, amid writes, so that the new primary
// may not have heard how much was committed; everything is answered, and is there.
func TestCluster_ResyncWithoutThird(t *testing.T) {
	for _, after := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond, 300 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			begins := make(chan struct{}, 1)
			c := New(t, 11, 3, shortLog, func(o *replica.Options) {
				o.ResyncBytesPerSecond = 4 << 20
				o.Log = slog.New(logWatch{slog.DiscardHandler, "resync begins", begins})
			})
			vol := c.Volume("v")
			f := c.create(vol, "f")
			want := make([]int, 64) // 4 MiB: a resync takes 1 s
			write := func(slot, n int) {
				want[slot] = n
				res, err := c.Do(2, vol, writeOp(f, uint64(slot)*65536, pattern(n)), progressBound)
				if err != nil || res.Err != 0 {
					t.Errorf("lost %s after the resync began: write slot %d: %v, errno %d", after, slot, err, res.Err)
				}
			}
			c.Transfer(vol, 1)
			c.Crash(3)
			for n := range 4 * len(want) {
				write(n%len(want), n)
				time.Sleep(50 * time.Millisecond)
			}
			over := make(chan struct{})
			written := make(chan struct{})
			go func() {
				defer close(written)
				for n := 1000; ; n++ {
					select {
					case <-over:
						return
					default:
						write(n%len(want), n)
					}
				}
			}()
			c.Start(3)
			<-begins
			time.Sleep(after)
			c.Crash(1)
			close(over)
			<-written
			for slot, n := range want {
				res, err := c.Do(3, vol, readOp(f, uint64(slot)*65536, 65536), progressBound)
				if err != nil || !bytes.Equal(res.Data, pattern(n)) {
					t.Fatalf("lost %s after the resync began: slot %d: %v, errno %d, not what was written", after, slot, err, res.Err)
				}
			}
			c.Start(1)
			c.waitUpToDate(vol)
			c.equalDigests(vol)
		})
	}
}

// writeOften writes a block of a file again and again, slowly, through a node.
func (c *Cluster) writeOften(node uint64, vol volume.ID, f volume.Attr, times int) {
	c.t.Helper()
	for n := range times {
		if res, err := c.Do(node, vol, writeOp(f, 0, pattern(n)), time.Second); err != nil || res.Err != volume.OK {
			c.t.Fatalf("write through node %d: %v, errno %d", node, err, res.Err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Goal: a replica comes back although the snapshot message that begins its resync was lost. Method: the
// replica hears nothing for the 10 ms after the message has left.
func TestCluster_SnapshotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := make(chan struct{}, 1)
		c := New(t, 13, 3, shortLog, func(o *replica.Options) {
			o.Log = slog.New(logWatch{slog.DiscardHandler, "sent snapshot[", sent})
		})
		vol := c.Volume("v")
		f := c.create(vol, "f")
		c.Transfer(vol, 1)
		c.Crash(3)
		c.writeOften(1, vol, f, 256)
		for len(sent) > 0 { // those of the members that joined
			<-sent
		}
		c.Start(3)
		<-sent
		c.Net.Hang(3)
		time.Sleep(10 * time.Millisecond)
		c.Net.WakeUp(3)
		c.waitUpToDate(vol)
	})
}

// Goal: what is sent to a replica that is slow to come back is not fetched once more for each snapshot message
// that was sent meanwhile. Method: its disk is so slow that the primary takes the snapshot for lost, and sends others.
func TestCluster_SnapshotSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent, begun := make(chan struct{}, 100), make(chan struct{}, 100)
		c := New(t, 14, 3, shortLog, func(o *replica.Options) {
			o.Log = slog.New(logWatch{logWatch{slog.DiscardHandler, "sent snapshot[", sent}, "resync begins", begun})
		})
		vol := c.Volume("v")
		f := c.create(vol, "f")
		c.Transfer(vol, 1)
		c.Crash(3)
		c.writeOften(1, vol, f, 256)
		for len(sent) > 0 { // those of the members that joined
			<-sent
		}
		for len(begun) > 0 {
			<-begun
		}
		c.nodes[2].trouble.set(func(t *trouble) { t.write = 16 * time.Second })
		c.Start(3)
		<-begun
		for range 5 {
			time.Sleep(5 * time.Second)
			c.writeOften(1, vol, f, 2)
		}
		c.nodes[2].trouble.clear()
		c.waitUpToDate(vol)
		if len(sent) < 3 {
			t.Errorf("%d snapshots were sent: too few to show anything", len(sent))
		}
		if n := 1 + len(begun); n > 2 { // the second is for the last of them
			t.Errorf("%d resyncs for %d snapshots", n, len(sent))
		}
	})
}

// Goal: the log's index has its bound in memory, however small the entries are: who was away for longer needs
// a resync. Method: 2,000 entries, with an index for 1,000 and then for 100,000.
func TestCluster_LogIndex(t *testing.T) {
	for _, kept := range []int64{1_000, 100_000} {
		synctest.Test(t, func(t *testing.T) {
			begun := make(chan struct{}, 100)
			c := New(t, 15, 3, func(o *replica.Options) {
				o.LogIndexBytes, o.CheckpointInterval = kept*24, 5*time.Second
				o.Log = slog.New(logWatch{slog.DiscardHandler, "resync begins", begun})
			})
			vol := c.Volume("v")
			f := c.create(vol, "f")
			c.Transfer(vol, 1)
			c.Crash(3)
			for len(begun) > 0 { // those of the members that joined
				<-begun
			}
			for n := range 2_000 {
				if res, err := c.Do(1, vol, writeOp(f, 0, []byte{byte(n)}), time.Second); err != nil || res.Err != 0 {
					t.Fatal(err, res.Err)
				}
			}
			time.Sleep(10 * time.Second)
			c.Start(3)
			c.waitUpToDate(vol)
			if cut := len(begun) > 0; cut != (kept < 2_000) {
				t.Errorf("index for %d entries: the log was cut: %v", kept, cut)
			}
		})
	}
}

// logWatch tells when a message that contains text is logged.
type logWatch struct {
	slog.Handler
	text string
	seen chan struct{}
}

func (w logWatch) Enabled(context.Context, slog.Level) bool { return true }

func (w logWatch) WithAttrs([]slog.Attr) slog.Handler { return w }

func (w logWatch) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, w.text) {
		select {
		case w.seen <- struct{}{}:
		default:
		}
	}
	return w.Handler.Handle(context.Background(), r)
}

// Transfer makes node the primary.
func (c *Cluster) Transfer(_ volume.ID, node uint64) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := c.Node(node).Transfer(ctx, "v", fmt.Sprintf("node%d", node)); err != nil {
		c.t.Fatal(err)
	}
}

// Goal: a resync that is slowed down to 64 KiB/s, so that each extent takes 16 s, is one resync: the primary does not
// take the snapshot for lost meanwhile. And while a secondary that replicates lacks much it is no UpToDate.
func TestCluster_SlowResync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 66, 3, shortLog, func(o *replica.Options) { o.ResyncBytesPerSecond = 64 << 10 })
		vol := c.Volume("v")
		f := c.create(vol, "f")
		c.Transfer(vol, 1)
		c.Crash(3)
		for round := range 4 { // more than the log keeps, in 3 MiB
			c.writeSlots(1, vol, f, 48, 100*round)
			time.Sleep(6 * time.Second)
		}
		c.Start(3)
		for range 70 { // the primary moves on
			time.Sleep(time.Second)
			c.writeSlots(1, vol, f, 1, 1000)
		}
		c.wait("the resync", func() bool { state, _ := c.replicaState(vol, 3); return state == "UpToDate" })
		for _, v := range c.Node(3).Figures().Volumes {
			if v.Resyncs != 1 || v.ResyncBytes < 3<<20 {
				t.Errorf("%d resyncs of %d bytes, want one of 3 MiB or more", v.Resyncs, v.ResyncBytes)
			}
		}
		c.waitUpToDate(vol)
		c.sameEverywhere(vol)
	})
}
