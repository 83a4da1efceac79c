package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"trinas/packaging/lab"
)

const (
	writerFile  = "writes"
	writerSlots = 4096 // 16 MiB, written round and round
)

// writer keeps one write of 4 KiB under way through a node's gateway, each acknowledged as durable
// before the next, until its context ends.
type writer struct {
	file *lab.File

	mu     sync.Mutex
	ledger ledger
	times  timeline
}

func newWriter(n *lab.Node, volume string) *writer {
	return &writer{file: n.File(volume, writerFile, true), ledger: ledger{slots: writerSlots}}
}

// run writes until ctx ends: that is no error.
func (w *writer) run(ctx context.Context) error {
	defer w.file.Close()
	block := make([]byte, blockBytes)
	for ctx.Err() == nil {
		w.mu.Lock()
		slot, sequence := w.ledger.next()
		w.mu.Unlock()
		encodeBlock(block, slot, sequence)
		if err := w.file.Write(ctx, block, int64(slot)*blockBytes); err != nil {
			if ctx.Err() != nil {
				break
			}
			return err
		}
		w.mu.Lock()
		w.ledger.acknowledge()
		w.times.add(time.Now())
		w.mu.Unlock()
	}
	return nil
}

func (w *writer) acknowledged() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ledger.acknowledged
}

// check reads the whole file back through a node and compares it with what was acknowledged. Not
// while run writes.
func (w *writer) check(ctx context.Context, n *lab.Node, volume string) (losses, error) {
	const perRead = 256 // blocks
	var found losses
	file := n.File(volume, writerFile, false)
	defer file.Close()
	for at := uint64(0); at < writerSlots; at += perRead {
		b, err := file.Read(ctx, perRead*blockBytes, int64(at)*blockBytes)
		if err != nil {
			return found, fmt.Errorf("check acknowledged writes: %w", err)
		}
		for i := range uint64(perRead) {
			from := min(i*blockBytes, uint64(len(b)))
			to := min(from+blockBytes, uint64(len(b)))
			w.ledger.check(at+i, b[from:to], &found)
		}
	}
	return found, nil
}
