package sim

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"trinas/replica"
)

// cut is a loss of power at one operation of a disk.
type cut struct {
	at    int64
	begun atomic.Bool // operations are counted
	ops   atomic.Int64
	done  chan struct{} // closed when it happens
}

// cutAt has a machine's disk lose power at the k-th operation that changes something, and fail from then on; they
// are counted from the first one on a file of that name ("": from now on). Take it away with disk.OnOp.
func (m *machine) cutAt(k int, from string) *cut {
	c := &cut{at: int64(k), done: make(chan struct{})}
	m.disk.OnOp(func(op, name string, _, _ int64) error {
		if op == "read" || op == "space" || op == "stat" || op == "list" {
			return nil
		}
		if from == "" || name == from {
			c.begun.Store(true)
		}
		if !c.begun.Load() {
			return nil
		}
		n := c.ops.Add(1)
		if n == c.at {
			m.disk.Crash()
			close(c.done)
		}
		if n >= c.at {
			return syscall.EIO
		}
		return nil
	})
	return c
}

func (c *cut) happened() bool { return c.ops.Load() >= c.at }

// stride is how many of the places where a run can be cut a test goes on by: all, or with -short (the race detector) every fifth.
func stride() int {
	if testing.Short() {
		return 5
	}
	return 1
}

// Goal: a loss of power on the node at any point of a rebuild holds nothing up: it goes on after the next start, no
// acknowledged write is lost, and nothing is left over. Method: the k-th operation of the disk after the request
// crashes it, for every k until a rebuild gets through; each round begins with a damaged checkpoint.
func TestCluster_RebuildCutShort(t *testing.T) {
	for name, discard := range map[string]bool{"aside": false, "discard": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := New(t, 72, 3, often)
				vol := c.Volume("v")
				f := c.create(vol, "f")
				c.writeSlots(1, vol, f, 4, 0)
				time.Sleep(3 * time.Second)
				const bad, most = 2, 300
				m := c.nodes[bad-1]
				cuts := 0
				for k := 1; ; k += stride() {
					if k > most {
						t.Fatalf("a rebuild takes more than %d operations", most)
					}
					c.damageCheckpoint(bad, vol)
					c.writeSlots(1, vol, f, 4, k)
					c.wait("the failure", func() bool { state, _ := c.replicaState(vol, bad); return state == "Failed" })
					c.wait("the others", func() bool { return strings.Count(c.replicas(vol), "UpToDate") == 2 })
					cut := m.cutAt(k, "")
					err := c.tryRebuild(bad, "v", discard)
					done := false
					for end := time.Now().Add(time.Minute); !done && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
						select {
						case <-cut.done:
							done = true
						default:
							if err != nil {
								t.Fatalf("cut at operation %d: refused: %v", k, err)
							}
							done = !c.rebuilding(bad)
						}
					}
					wasCut := cut.happened()
					m.disk.OnOp(m.trouble.hook)
					if wasCut {
						cuts++
						c.writeSlots(1, vol, f, 4, 1000+k)
						c.Crash(bad)
						c.Start(bad)
						time.Sleep(time.Second)
						if state, _ := c.replicaState(vol, bad); state == "Failed" && !c.rebuilding(bad) { // it was cut before it was decided
							c.rebuild(bad, discard)
						}
					}
					c.rebuilt(bad, vol)
					c.equalDigests(vol)
					if !wasCut {
						break
					}
					for slot := range 4 {
						res, err := c.Do(bad, vol, readOp(f, uint64(slot)*65536, 65536), time.Second)
						if err != nil || string(res.Data) != string(pattern(1000+k+slot)) {
							t.Fatalf("cut at operation %d: slot %d: %v, errno %d, not what was written", k, slot, err, res.Err)
						}
					}
				}
				if cuts < 20/stride() {
					t.Errorf("only %d operations were cut", cuts)
				}
				t.Logf("%d operations were cut", cuts)
			})
		})
	}
}

// Goal: the same when any other node, or the whole cluster, loses power in the middle. Method: it does so some time after
// the request, in steps of 30 ms until the rebuild is over by then.
func TestCluster_RebuildOthersLost(t *testing.T) {
	for name, lost := range map[string][]uint64{"one": {1}, "another": {3}, "all": {1, 2, 3}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := New(t, 73, 3, often)
				vol := c.Volume("v")
				f := c.create(vol, "f")
				c.writeSlots(1, vol, f, 16, 0)
				time.Sleep(3 * time.Second)
				const bad = 2
				over := false
				steps := 0
				for ; !over; steps += stride() {
					if steps > 200 {
						t.Fatal("a rebuild takes more than 6 s")
					}
					c.damageCheckpoint(bad, vol)
					c.wait("the failure", func() bool { state, _ := c.replicaState(vol, bad); return state == "Failed" })
					c.wait("the others", func() bool { return strings.Count(c.replicas(vol), "UpToDate") == 2 })
					c.writeSlots(3, vol, f, 4, steps)
					c.rebuild(bad, false)
					time.Sleep(time.Duration(steps) * 30 * time.Millisecond)
					over = !c.rebuilding(bad)
					for _, id := range lost {
						c.Crash(id)
					}
					time.Sleep(time.Duration(steps%4) * 500 * time.Millisecond)
					for _, id := range lost {
						c.Start(id)
					}
					c.rebuilt(bad, vol)
					c.equalDigests(vol)
					for slot := range 4 {
						res, err := c.Do(bad, vol, readOp(f, uint64(slot)*65536, 65536), time.Second)
						if err != nil || string(res.Data) != string(pattern(steps+slot)) {
							t.Fatalf("step %d: slot %d: %v, errno %d, not what was written", steps, slot, err, res.Err)
						}
					}
				}
				t.Logf("%d steps", steps)
			})
		})
	}
}

// Goal: a removal that a loss of power cuts short anywhere is ended after the next start, also when the replica is to come again
// at once. Method: the k-th operation on the disk of the node that is left crashes it, for every k until a move gets through; then
// the replica moves back.
func TestCluster_RemovalCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 78, 4, often)
		vol := c.Volume("v")
		f := c.create(vol, "f")
		c.writeSlots(1, vol, f, 4, 0)
		time.Sleep(3 * time.Second)
		free := uint64(slices.IndexFunc([]uint64{1, 2, 3, 4}, func(id uint64) bool { return !c.hasData(id, vol) })) + 1
		old := free%4 + 1
		from, to := fmt.Sprintf("node%d", old), fmt.Sprintf("node%d", free)
		m := c.nodes[old-1]
		cuts := 0
		for k := 1; ; k += stride() {
			if k > 200 {
				t.Fatal("a removal takes more than 200 operations")
			}
			cut := m.cutAt(k, replica.VolumeDir(vol)+"/leaving.new")
			c.move(free%3+1, from, to)
			done := false
			for end := time.Now().Add(20 * time.Second); !done && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
				select {
				case <-cut.done:
					done = true
				default:
					done = cut.begun.Load() && !c.hasData(old, vol)
				}
			}
			wasCut := cut.happened()
			m.disk.OnOp(m.trouble.hook)
			if wasCut {
				cuts++
				c.Crash(old)
				if k%2 == 0 { // it is to come again before it is up
					c.Start(old)
				}
			}
			back := func() error { return c.Node(free).MoveVolume(context.Background(), "v", to, from) }
			c.waitUpToDate(vol)
			if c.Node(old) == nil {
				c.Start(old)
			}
			c.wait("the move back", func() bool { return back() == nil })
			c.wait("it to be back", func() bool {
				return strings.Contains(c.replicas(vol), from+":UpToDate") && !strings.Contains(c.replicas(vol), to+":")
			})
			c.waitUpToDate(vol)
			c.equalDigests(vol)
			if !wasCut {
				break
			}
		}
		if cuts < 6/stride() {
			t.Errorf("only %d operations were cut", cuts)
		}
		t.Logf("%d operations were cut", cuts)
	})
}
