package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"trinas/agent/drill"
	"trinas/packaging/lab"
)

// probePause keeps the probes from loading the machine that they measure.
const probePause = 2 * time.Millisecond

// timeline holds the moments at which I/O was answered, in order.
type timeline struct{ at []time.Time }

func (t *timeline) add(at time.Time) { t.at = append(t.at, at) }

// longestGap is the longest time without an answer that touches [from, to]: one that began before
// from counts whole, one that goes on at to counts until then.
func (t *timeline) longestGap(from, to time.Time) time.Duration {
	var longest time.Duration
	last := from
	for _, at := range t.at {
		if at.After(to) {
			break
		}
		if at.After(from) {
			longest = max(longest, at.Sub(last))
		}
		last = at
	}
	return max(longest, to.Sub(last))
}

// probe asks one node's gateway all the time for a small durable write and for a read of what it
// has written, and notes when each was answered.
type probe struct {
	node *lab.Node
	file *drill.File

	mu    sync.Mutex
	times timeline
}

func newProbe(n *lab.Node, volume string) *probe {
	return &probe{node: n, file: n.File(volume, "probe-"+n.Name, true)}
}

// run probes until ctx ends: that is no error. A read that returns anything but what was written
// last is.
func (p *probe) run(ctx context.Context) error {
	defer p.file.Close()
	block := make([]byte, blockBytes)
	pause := time.NewTicker(probePause)
	defer pause.Stop()
	for count := uint64(1); ; count++ {
		binary.LittleEndian.PutUint64(block, count)
		if err := p.file.Write(ctx, block, 0); err != nil {
			return unlessEnded(ctx, err)
		}
		p.note()
		got, err := p.file.Read(ctx, blockBytes, 0)
		if err != nil {
			return unlessEnded(ctx, err)
		}
		p.note()
		if !bytes.Equal(got, block) {
			return fmt.Errorf("probe through %s: wrote %d, then read something else: a stale read", p.node.Name, count)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-pause.C:
		}
	}
}

func (p *probe) note() {
	p.mu.Lock()
	p.times.add(time.Now())
	p.mu.Unlock()
}

func (p *probe) longestGap(from, to time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.times.longestGap(from, to)
}

func unlessEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
