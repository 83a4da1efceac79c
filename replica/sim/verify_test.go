package sim

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"trinas/replica"
	"trinas/replica/disk"
	"trinas/replica/volume"
)

// wideLog makes room in the log for an entry with a whole extent.
func wideLog(o *replica.Options) { o.SegmentBytes = 4 << 20 }

// objectFile opens an object on a node's disk, behind its agent.
func (c *Cluster) objectFile(node uint64, vol volume.ID, f volume.Attr) disk.File {
	c.t.Helper()
	name := fmt.Sprintf("%s/objects/%02x/%016x", replica.VolumeDir(vol), uint8(f.File), uint64(f.File))
	file, err := c.nodes[node-1].disk.FS().Open(name, disk.ReadWrite)
	if err != nil {
		c.t.Fatal(err)
	}
	return file
}

// damage changes bytes of an object on a node's disk, behind its agent.
func (c *Cluster) damage(node uint64, vol volume.ID, f volume.Attr, off int64, text string) {
	c.t.Helper()
	file := c.objectFile(node, vol, f)
	if _, err := file.WriteAt([]byte(text), off); err != nil {
		c.t.Fatal(err)
	}
}

// verifyStatus is what the primary tells of the volume's last verification; nothing when there was none.
func (c *Cluster) verifyStatus(vol volume.ID) (st replica.VerifyStatus) {
	c.t.Helper()
	c.wait("the primary's word on the volume", func() bool {
		primary := c.Node(c.Primary(vol))
		for _, v := range primary.Status(context.Background()).Volumes {
			if v.ID == vol && v.Primary == primary.Name() { // it leads still, and knows it
				if v.Verify != nil {
					st = *v.Verify
				}
				return true
			}
		}
		return false
	})
	return st
}

// verify verifies volume v through a node, and returns what came of it.
func (c *Cluster) verify(through uint64, vol volume.ID, repair bool) replica.VerifyStatus {
	c.t.Helper()
	asked := time.Now().Add(-1) // a new primary may not know of the last one yet
	before := replica.VerifyStatus{Began: &asked}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := c.Node(through).Verify(ctx, "v", replica.VerifyRequest{Repair: repair}); err != nil {
		c.t.Fatal(err)
	}
	return c.verified(vol, before)
}

// verified waits for the end of a verification that began after another.
func (c *Cluster) verified(vol volume.ID, before replica.VerifyStatus) (st replica.VerifyStatus) {
	c.t.Helper()
	c.wait("the verification", func() bool {
		st = c.verifyStatus(vol)
		return st.Ended != nil && (before.Began == nil || st.Began.After(*before.Began))
	})
	return st
}

// Goal: damage behind an agent, on the primary's disk or a secondary's, is found, named by path, range
// and node, repaired from the others and found whole again, while clients write; a volume without
// damage has no finding.
func TestVerify_FindsAndRepairs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 81, 3, wideLog)
		vol := c.Volume("v")
		f, g := c.create(vol, "image"), c.create(vol, "busy")
		for slot := range uint64(80) { // 5 MiB
			for _, file := range []volume.Attr{f, g} {
				if res, err := c.Do(1, vol, writeOp(file, slot*65536, pattern(int(slot))), time.Second); err != nil || res.Err != 0 {
					t.Fatal(err, res.Err)
				}
			}
		}
		if st := c.verify(2, vol, true); st.State != replica.VerifyDone || len(st.Findings) != 0 || st.DoneBytes != 10<<20 || st.TotalBytes != 10<<20 {
			t.Fatalf("without damage: %+v", st)
		}
		for node := uint64(1); node <= 3; node++ {
			c.damage(node, vol, f, int64(node)<<20+77, "DAMAGE")
		}
		stop, stopped := make(chan struct{}), make(chan int)
		go func() { // a writer that never pauses, on another file and on a damaged one's other extents
			n := 0
			for ; ; n++ {
				select {
				case <-stop:
					stopped <- n
					return
				default:
				}
				for _, op := range []volume.Op{writeOp(g, uint64(n%80)*65536, pattern(n)), writeOp(f, 0, pattern(n))} {
					if res, err := c.Do(uint64(n%3)+1, vol, op, time.Second); err != nil || res.Err != 0 {
						t.Errorf("write: %v, errno %d", err, res.Err)
					}
				}
				time.Sleep(time.Millisecond)
			}
		}()
		c.Transfer(vol, 1) // the first damage that is met is its own
		found := c.verify(1, vol, false)
		if len(found.Findings) != 3 || found.Damaged() != 3 {
			t.Fatalf("found %+v", found)
		}
		for i, finding := range found.Findings {
			node := fmt.Sprintf("node%d", i+1)
			if finding.Path != "image" || finding.Offset != uint64(i+1)<<20 || strings.Join(finding.Nodes, ",") != node || finding.What != replica.FoundDiffers {
				t.Errorf("finding %d: %+v", i, finding)
			}
			if p := c.Node(c.Primary(vol)).Name(); p == node && i == 0 {
				t.Errorf("%s met damage of its own and leads on", p)
			}
		}
		repaired := c.verify(3, vol, true)
		if len(repaired.Findings) != 3 || repaired.Damaged() != 0 {
			t.Errorf("repaired %+v", repaired)
		}
		close(stop)
		if n := <-stopped; n < 100 {
			t.Errorf("%d rounds of writes went on meanwhile", n)
		}
		if again := c.verify(2, vol, false); len(again.Findings) != 0 {
			t.Errorf("after the repair: %+v", again.Findings)
		}
		c.sameEverywhere(vol)
	})
}

// sameEverywhere fails the test unless all replicas hold the same.
func (c *Cluster) sameEverywhere(vol volume.ID) {
	c.t.Helper()
	c.waitUpToDate(vol)
	time.Sleep(time.Second)
	var first [32]byte
	for node := uint64(1); node <= 3; node++ {
		sum, has, err := c.Node(node).Digest(vol)
		if err != nil || !has {
			c.t.Fatalf("digest of node %d: %v, %v", node, has, err)
		}
		if node == 1 {
			first = sum
		} else if sum != first {
			c.t.Errorf("node %d holds something else than node 1", node)
		}
	}
}

// Goal: where no majority agrees nothing is guessed: it is told, and stays as it is.
func TestVerify_NoMajority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 82, 3, wideLog)
		vol := c.Volume("v")
		f := c.create(vol, "f")
		if res, err := c.Do(1, vol, writeOp(f, 0, pattern(1)), time.Second); err != nil || res.Err != 0 {
			t.Fatal(err, res.Err)
		}
		time.Sleep(time.Second) // all have it
		c.damage(1, vol, f, 10, "one")
		c.damage(2, vol, f, 10, "two")
		st := c.verify(1, vol, true)
		if len(st.Findings) != 1 || st.Findings[0].What != replica.FoundNoMajority || st.Findings[0].Repaired || len(st.Findings[0].Nodes) != 3 {
			t.Errorf("%+v", st.Findings)
		}
		for node, want := range map[uint64]string{1: "one", 2: "two"} {
			b := make([]byte, 3)
			if _, err := c.objectFile(node, vol, f).ReadAt(b, 10); err != nil || string(b) != want {
				t.Errorf("node %d: %q, %v", node, b, err)
			}
		}
	})
}

// Goal: a verification goes on at another primary, over a crash, while clients write, and while a replica is away it
// waits and says so; a replica that replays its log after a crash is not taken for damaged.
func TestVerify_GoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 83, 3, wideLog, func(o *replica.Options) { o.VerifyBytesPerSecond = 1 << 20 })
		vol := c.Volume("v")
		f := c.create(vol, "f")
		for slot := range uint64(480) { // 30 MiB: half a minute
			if res, err := c.Do(1, vol, writeOp(f, slot*65536, pattern(int(slot))), time.Second); err != nil || res.Err != 0 {
				t.Fatal(err, res.Err)
			}
		}
		c.damage(3, vol, f, 25<<20, "late damage")
		before := c.verifyStatus(vol)
		if err := c.Node(2).Verify(context.Background(), "v", replica.VerifyRequest{Repair: true}); err != nil {
			t.Fatal(err)
		}
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() { // writes, so that a replica that replays has objects that are newer than its table
			defer close(stopped)
			for n := uint64(0); ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				_, _ = c.Do(n%3+1, vol, writeOp(f, n*7%384*65536, pattern(int(n))), 5*time.Second) // its node may be down
				time.Sleep(5 * time.Millisecond)
			}
		}()
		for round := range 2 {
			time.Sleep(12 * time.Second)
			st := c.verifyStatus(vol)
			if round == 0 && (st.State != replica.VerifyRunning || st.SecondsLeft < 10 || st.SecondsLeft > 40) {
				t.Errorf("after 12 s: %+v", st)
			}
			lost := c.Primary(vol)
			if lost == 3 { // a crash would undo the damage: the log is replayed over it
				if err := c.Node(3).Transfer(context.Background(), "v", "node1"); err != nil {
					t.Fatal(err)
				}
				lost = c.Primary(vol)
			}
			c.Crash(lost)
			time.Sleep(3 * time.Second)
			if st := c.verifyStatus(vol); st.State != replica.VerifyPaused || !strings.Contains(st.Waiting, fmt.Sprintf("node%d", lost)) {
				t.Errorf("with a replica away: %+v", st)
			}
			c.Start(lost)
		}
		st := c.verified(vol, before)
		close(stop)
		<-stopped
		if len(st.Findings) != 1 || !st.Findings[0].Repaired || st.Findings[0].Offset != 25<<20 || st.DoneBytes != 30<<20 {
			t.Errorf("%+v", st)
		}
		c.sameEverywhere(vol)
	})
}

// Goal: volumes are verified by schedule, in turns, and repaired where that is wanted; 0 is never. What
// was verified when is known after all nodes were lost at once.
func TestVerify_Schedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 84, 3, wideLog, func(o *replica.Options) { o.VerifyInterval, o.VerifyRepair = 10*time.Minute, true })
		vol := c.Volume("v")
		f := c.create(vol, "f")
		if res, err := c.Do(1, vol, writeOp(f, 0, pattern(1)), time.Second); err != nil || res.Err != 0 {
			t.Fatal(err, res.Err)
		}
		time.Sleep(time.Second) // all have it
		c.damage(2, vol, f, 10, "x")
		time.Sleep(11 * time.Minute)
		st := c.verifyStatus(vol)
		if st.State != replica.VerifyDone || len(st.Findings) != 1 || st.Damaged() != 0 || st.Next.Sub(*st.Began) != 10*time.Minute {
			t.Fatalf("%+v", st)
		}
		for node := uint64(1); node <= 3; node++ {
			c.Crash(node)
		}
		for node := uint64(1); node <= 3; node++ {
			c.Start(node)
		}
		time.Sleep(5 * time.Second)
		if again := c.verifyStatus(vol); again.Began == nil || !again.Began.Equal(*st.Began) {
			t.Errorf("after a restart of all: %+v", again)
		}
		time.Sleep(10 * time.Minute)
		if again := c.verifyStatus(vol); !again.Began.After(*st.Began) || len(again.Findings) != 0 {
			t.Errorf("the next one: %+v", again)
		}
	})
}

// Goal: an admin can stop a verification, also one that waits; asking twice is refused with a reason.
func TestVerify_Stop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 85, 3, wideLog, func(o *replica.Options) { o.VerifyBytesPerSecond = 1 << 20 })
		vol := c.Volume("v")
		f := c.create(vol, "f")
		for slot := range uint64(320) {
			if res, err := c.Do(1, vol, writeOp(f, slot*65536, pattern(int(slot))), time.Second); err != nil || res.Err != 0 {
				t.Fatal(err, res.Err)
			}
		}
		ctx := context.Background()
		if err := c.Node(1).Verify(ctx, "v", replica.VerifyRequest{Stop: true}); err == nil {
			t.Error("nothing was stopped without an error")
		}
		for range 2 {
			before := c.verifyStatus(vol)
			if err := c.Node(1).Verify(ctx, "v", replica.VerifyRequest{}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(4 * time.Second)
			if err := c.Node(2).Verify(ctx, "v", replica.VerifyRequest{}); err == nil || !strings.Contains(err.Error(), "already") {
				t.Errorf("a second one: %v", err)
			}
			if before.Began != nil { // it waits
				c.Crash(c.Primary(vol)%3 + 1)
				time.Sleep(4 * time.Second)
			}
			if err := c.Node(c.Primary(vol)).Verify(ctx, "v", replica.VerifyRequest{Stop: true}); err != nil {
				t.Fatal(err)
			}
			if st := c.verified(vol, before); st.State != replica.VerifyStopped || st.DoneBytes == 0 || st.DoneBytes > 10<<20 {
				t.Errorf("%+v", st)
			}
		}
	})
}

// Goal: an object that lost bytes is never read as zeros: the primary that meets it leaves service, says
// which file and what to do, others answer; and that way it is whole again.
func TestVerify_ReadOfDamage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 86, 3, wideLog, func(o *replica.Options) { o.CheckpointInterval = 2 * time.Second })
		vol := c.Volume("v")
		f := c.create(vol, "f")
		for slot := range uint64(20) {
			if res, err := c.Do(1, vol, writeOp(f, slot*65536, pattern(int(slot))), time.Second); err != nil || res.Err != 0 {
				t.Fatal(err, res.Err)
			}
		}
		time.Sleep(6 * time.Second) // a replay does not write it anew
		bad := c.Primary(vol)
		if err := c.objectFile(bad, vol, f).Truncate(100_000); err != nil {
			t.Fatal(err)
		}
		for slot := range uint64(20) {
			res, err := c.Do(bad%3+1, vol, readOp(f, slot*65536, 65536), 5*time.Second)
			if err != nil || !bytes.Equal(res.Data, pattern(int(slot))) {
				t.Fatalf("slot %d: %v, errno %d, not what was written", slot, err, res.Err)
			}
		}
		state, reason := c.replicaState(vol, bad)
		if state != "Failed" || !strings.Contains(reason, "objects/") || !strings.Contains(reason, "trinas verify v --repair") {
			t.Errorf("%s: %s", state, reason)
		}
		if st := c.verify(bad%3+1, vol, true); len(st.Findings) != 1+1 || st.Damaged() != 0 { // two extents
			t.Errorf("%+v", st)
		}
		c.sameEverywhere(vol)
	})
}

// forge gives a node, which is down, a table in which a file has another time than it should, as of the
// entry that made the file; the log goes on from there.
func (c *Cluster) forge(node uint64, vol volume.ID, f volume.Attr, name string) {
	c.t.Helper()
	v, err := volume.Open(c.nodes[node-1].disk.FS().Sub(replica.VolumeDir(vol)), volume.Options{})
	if err != nil {
		c.t.Fatal(err)
	}
	defer v.Close()
	for index, _ := v.Applied(); index < uint64(f.File); {
		index++
		var entry []byte
		if index == uint64(f.File) {
			op := createOp(name, volume.RequestID{})
			op.Time = 42
			if entry, err = op.Encode(nil); err != nil {
				c.t.Fatal(err)
			}
		}
		if _, err := v.Apply(index, 1, entry); err != nil {
			c.t.Fatal(err)
		}
	}
	if _, err := v.Checkpoint(context.Background()); err != nil {
		c.t.Fatal(err)
	}
}

// Goal: a replica whose table differs is found and gets the primary's, a primary's own among it; files'
// bytes are the same everywhere afterwards, and writes go on.
func TestVerify_Table(t *testing.T) {
	for _, leads := range []bool{false, true} {
		t.Run(fmt.Sprintf("primary %v", leads), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := New(t, 87, 3, wideLog)
				vol := c.Volume("v")
				f := c.create(vol, "f")
				c.Transfer(vol, 1)
				c.Crash(3)
				c.forge(3, vol, f, "f")
				c.Start(3)
				for slot := range uint64(40) {
					if res, err := c.Do(1, vol, writeOp(f, slot*65536, pattern(int(slot))), time.Second); err != nil || res.Err != 0 {
						t.Fatal(err, res.Err)
					}
				}
				// A write sets mtime and ctime anew; atime stays what the creation made it.
				c.waitUpToDate(vol)
				if leads {
					c.Transfer(vol, 3)
				}
				found := c.verify(2, vol, false)
				if len(found.Findings) != 1 || found.Findings[0].What != replica.FoundTable || strings.Join(found.Findings[0].Nodes, ",") != "node3" {
					t.Fatalf("%+v", found.Findings)
				}
				if st := c.verify(2, vol, true); len(st.Findings) != 1 || st.Damaged() != 0 {
					t.Errorf("%+v", st)
				}
				if res, err := c.Do(2, vol, writeOp(f, 0, pattern(77)), time.Second); err != nil || res.Err != 0 {
					t.Errorf("a write afterwards: %v, errno %d", err, res.Err)
				}
				if st := c.verify(2, vol, false); len(st.Findings) != 0 {
					t.Errorf("again: %+v", st)
				}
				c.sameEverywhere(vol)
			})
		})
	}
}

// Goal: a node that verifies and has no majority any more stops at once. Method: the others stand still in the middle of it, and the
// primary is stopped before it notices that it is alone.
func TestCluster_StopWhileVerifying(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 68, 3, func(o *replica.Options) { o.VerifyBytesPerSecond = 4 << 20 })
		vol := c.Volume("v")
		f := c.create(vol, "f")
		c.writeSlots(1, vol, f, 256, 0)
		primary := c.Primary(vol)
		if err := c.Node(primary).Verify(context.Background(), "v", replica.VerifyRequest{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		c.Pause(primary%3 + 1)
		c.Pause((primary+1)%3 + 1)
		time.Sleep(400 * time.Millisecond) // it has proposed the next part
		n := c.Node(primary)
		c.setNode(primary, nil)
		stopped := make(chan struct{})
		go func() { n.Close(); close(stopped) }()
		select {
		case <-stopped:
		case <-time.After(10 * time.Second):
			t.Fatal("the node does not stop")
		}
		c.Resume(primary%3 + 1)
		c.Resume((primary+1)%3 + 1)
	})
}
