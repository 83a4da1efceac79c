package sim

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"trinas/replica"
	"trinas/replica/volume"
)

// impatient does op through a node, not willing to hold, and returns how long that took and
// whether the operation was ever said to be sent.
func (c *Cluster) impatient(node uint64, vol volume.ID, op volume.Op) (errno volume.Errno, took time.Duration, sent bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var told atomic.Bool
	op.OnHold = func(sent bool) bool {
		if sent {
			told.Store(true)
		}
		return false
	}
	begun := time.Now()
	var res volume.Result
	err = c.Node(node).Do(ctx, vol, &op, &res)
	return res.Err, time.Since(begun), told.Load(), err
}

// Goal: while a primary is replaced no request is put off, whenever it comes, at nodes with and
// without a replica; nor in a second failover long after the first. Method: requests every 20 ms
// around the loss of the primary.
func TestOutage_Failover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 21, 4) // a volume is on three
		vol := c.Volume("v")
		f := c.create(vol, "f")
		for range 2 {
			old := c.Primary(vol)
			c.Crash(old)
			lost := time.Now()
			var running int
			done := make(chan error)
			for time.Since(lost) < 3*time.Second {
				for node := uint64(1); node <= 4; node++ {
					if node == old {
						continue
					}
					running++
					go func() {
						_, _, _, err := c.impatient(node, vol, writeOp(f, 0, []byte("x")))
						done <- err
					}()
				}
				time.Sleep(20 * time.Millisecond)
			}
			for range running {
				if err := <-done; err != nil {
					t.Errorf("put off in a failover: %v", err)
				}
			}
			c.Start(old)
			time.Sleep(time.Minute)
		}
	})
}

// Goal: without a majority a request that reached no primary is given back after two seconds, a
// later one at once, and neither ever takes effect; one that a primary may have carried out waits
// as long as it takes, and takes effect once.
func TestOutage_NoMajority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 22, 3)
		vol := c.Volume("v")
		c.create(vol, "f")
		p := c.Primary(vol)
		here, other := p%3+1, (p+1)%3+1

		// The primary takes a request and cannot tell anybody.
		for _, node := range []uint64{here, other} {
			c.Net.Cut(p, node)
		}
		type outcome struct {
			errno volume.Errno
			took  time.Duration
			sent  bool
			err   error
		}
		sent := make(chan outcome, 1)
		go func() {
			var o outcome
			o.errno, o.took, o.sent, o.err = c.impatient(here, vol, createOp("sent", volume.RequestID{Client: 7, XID: 1}))
			sent <- o
		}()
		time.Sleep(10 * time.Millisecond)
		c.Crash(other)
		time.Sleep(50 * time.Millisecond)
		c.Crash(p)

		_, took, told, err := c.impatient(here, vol, createOp("early", volume.RequestID{Client: 7, XID: 2}))
		if !errors.Is(err, replica.ErrNoPrimary) || told || took < 2*time.Second || took > 4*time.Second {
			t.Errorf("a request early in the outage: %v after %v", err, took)
		}
		for _, op := range []volume.Op{createOp("late", volume.RequestID{Client: 7, XID: 3}), {Kind: volume.GetAttr, File: volume.RootID, Gen: 1}} {
			_, took, told, err = c.impatient(here, vol, op)
			if !errors.Is(err, replica.ErrNoPrimary) || told || took < time.Millisecond || took > 100*time.Millisecond {
				t.Errorf("a request late in the outage: %v after %v", err, took)
			}
		}
		if len(sent) != 0 {
			t.Fatalf("a request that may have been carried out was given back: %+v", <-sent)
		}

		for _, node := range []uint64{here, other} {
			c.Net.Heal(p, node)
		}
		c.Start(p)
		c.Start(other)
		if o := <-sent; o.err != nil || o.errno != volume.OK || !o.sent {
			t.Errorf("the request that waited: %+v", o)
		}
		for name, want := range map[string]volume.Errno{"sent": volume.OK, "early": volume.ENOENT, "late": volume.ENOENT} {
			res, err := c.Do(here, vol, volume.Op{Kind: volume.Lookup, File: volume.RootID, Gen: 1, Name: name}, 10*time.Second)
			if err != nil || res.Err != want {
				t.Errorf("%s: errno %d, %v; want %d", name, res.Err, err, want)
			}
		}
	})
}
