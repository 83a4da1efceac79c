package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"trinas/agent/drill"
	"trinas/packaging/lab"
)

const (
	writerFile  = "writes"
	writerSlots = 4096 // 16 MiB, written round and round
)

// writer keeps one write of 4 KiB under way through a node's gateway, each acknowledged as durable
// before the next, until its context ends.
type writer struct {
	file *drill.File

	mu     sync.Mutex
	ledger drill.Ledger
	times  timeline
}

func newWriter(n *lab.Node, volume string) *writer {
	return &writer{file: n.File(volume, writerFile, true), ledger: drill.Ledger{Slots: writerSlots}}
}

// run writes until ctx ends: that is no error.
func (w *writer) run(ctx context.Context) error {
	defer w.file.Close()
	block := make([]byte, drill.BlockBytes)
	for ctx.Err() == nil {
		w.mu.Lock()
		slot, sequence := w.ledger.Next()
		w.mu.Unlock()
		drill.EncodeBlock(block, slot, sequence)
		if err := w.file.Write(ctx, block, int64(slot)*drill.BlockBytes); err != nil {
			if ctx.Err() != nil {
				break
			}
			return err
		}
		w.mu.Lock()
		w.ledger.Acknowledge()
		w.times.add(time.Now())
		w.mu.Unlock()
	}
	return nil
}

func (w *writer) acknowledged() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ledger.Acknowledged
}

// check reads the whole file back through a node and compares it with what was acknowledged. Not
// while run writes.
func (w *writer) check(ctx context.Context, n *lab.Node, volume string) (drill.Losses, error) {
	const perRead = 256 // blocks
	var found drill.Losses
	file := n.File(volume, writerFile, false)
	defer file.Close()
	for at := uint64(0); at < writerSlots; at += perRead {
		b, err := file.Read(ctx, perRead*drill.BlockBytes, int64(at)*drill.BlockBytes)
		if err != nil {
			return found, fmt.Errorf("check acknowledged writes: %w", err)
		}
		for i := range uint64(perRead) {
			from := min(i*drill.BlockBytes, uint64(len(b)))
			to := min(from+drill.BlockBytes, uint64(len(b)))
			w.ledger.Check(at+i, b[from:to], &found)
		}
	}
	return found, nil
}
