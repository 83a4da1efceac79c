package sim

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"trinas/replica"
	"trinas/replica/volume"
)

func envInt(name string, def int) int {
	if v, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return v
	}
	return def
}

// Goal: whatever crashes and partitions do, no acknowledged write is lost and no read is stale;
// when all is well again everything is served. Method: clients on every node write and read the
// blocks of one file while a random schedule crashes nodes (unsynced blocks are lost), cuts all
// power, isolates nodes and hands over; a checker knows what was acknowledged.
//
//	make sim SEEDS=n FIRST=x
func TestSim(t *testing.T) {
	seeds, first := envInt("SEEDS", 12), envInt("FIRST", 1)
	if testing.Short() {
		seeds = min(seeds, 3)
	}
	for seed := first; seed < first+seeds; seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { simulate(t, uint64(seed)) })
			if t.Failed() {
				t.Logf("repeat: make sim FIRST=%d SEEDS=1", seed)
			}
		})
	}
}

const (
	simBlocks = 24
	simTime   = 20 * time.Second
)

func simulate(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 99))
	var adjust []func(*replica.Options)
	if seed%2 == 0 { // a log so short that whoever was away needs a resync
		adjust = append(adjust, shortLog)
	}
	c := New(t, seed, 3, adjust...)
	vol := c.Volume("v")
	f := c.create(vol, "f")
	regs := newRegisters()
	do := func(node uint64, op volume.Op) (volume.Result, error) {
		if c.Node(node) == nil {
			time.Sleep(10 * time.Millisecond)
		}
		return c.Do(node, vol, op, 2*time.Second)
	}
	stop := make(chan struct{})
	stopped := func() bool {
		select {
		case <-stop:
			return true
		default:
			return false
		}
	}
	var clients sync.WaitGroup
	for i := range 6 {
		node, r := uint64(i%3+1), rand.New(rand.NewPCG(seed, uint64(i)))
		client := uint64(1000 + i)
		clients.Go(func() {
			for xid := uint32(1); !stopped(); xid++ {
				// Each client writes its own blocks and reads all.
				if r.IntN(2) == 0 {
					block := uint64(i) + 6*uint64(r.IntN(simBlocks/6))
					writeBlock(do, regs, f, node, client, xid, block, stopped)
				} else {
					block := uint64(r.IntN(simBlocks))
					least := regs.reading(block)
					res, err := do(node, readOp(f, block*blockBytes, blockBytes))
					if err == nil && res.Err == volume.OK {
						regs.read(fmt.Sprintf("node %d at %s", node, time.Now().Format("05.000")), block, least, &res)
					} else if err == nil {
						t.Errorf("read: errno %d", res.Err)
					}
				}
				time.Sleep(time.Duration(r.IntN(5)) * time.Millisecond)
			}
		})
	}
	schedule(c, rng)
	for id := uint64(1); id <= 3; id++ {
		c.Net.Rejoin(id)
		if c.Node(id) == nil {
			c.Start(id)
		}
	}
	close(stop)
	clients.Wait()
	c.waitUpToDate(vol)
	for block := range uint64(simBlocks) {
		for node := uint64(1); node <= 3; node++ {
			least := regs.reading(block)
			res, err := c.Do(node, vol, readOp(f, block*blockBytes, blockBytes), 10*time.Second)
			if err != nil || res.Err != volume.OK {
				t.Fatalf("seed %d: read block %d at the end through node %d: %v, errno %d", seed, block, node, err, res.Err)
			}
			regs.read(fmt.Sprintf("at the end, node %d", node), block, least, &res)
		}
	}
	for _, fault := range regs.faults {
		t.Errorf("seed %d: %s", seed, fault)
	}
}

// writeBlock writes block's next number until it is acknowledged, as a kernel client with a hard
// mount would: the same request again and again.
func writeBlock(do func(uint64, volume.Op) (volume.Result, error), regs *registers, f volume.Attr,
	node, client uint64, xid uint32, block uint64, stopped func() bool) {
	number, data := regs.send(block)
	for {
		op := writeOp(f, block*blockBytes, bytes.Clone(data))
		op.ID = volume.RequestID{Client: client, XID: xid, Sum: uint32(number)}
		res, err := do(node, op)
		if err == nil && res.Err == volume.OK {
			regs.acknowledged(block, number)
			return
		}
		if stopped() {
			return // its outcome stays unknown
		}
	}
}

// schedule lets things go wrong for simTime.
func schedule(c *Cluster, rng *rand.Rand) {
	end := time.Now().Add(simTime)
	for time.Now().Before(end) {
		time.Sleep(time.Duration(100+rng.IntN(1500)) * time.Millisecond)
		id := uint64(rng.IntN(3) + 1)
		switch rng.IntN(6) {
		case 0, 1:
			c.Crash(id)
		case 2:
			for id := uint64(1); id <= 3; id++ {
				c.Crash(id)
			}
		case 3:
			c.Net.Isolate(id)
		case 4:
			c.Net.Cut(id, id%3+1)
		}
		time.Sleep(time.Duration(rng.IntN(2500)) * time.Millisecond)
		for id := uint64(1); id <= 3; id++ {
			if rng.IntN(3) > 0 {
				c.Net.Rejoin(id)
			}
			if c.Node(id) == nil && rng.IntN(3) > 0 {
				c.Start(id)
			}
		}
	}
}
