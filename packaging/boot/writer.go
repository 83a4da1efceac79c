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

const (
	blockBytes = 4096
	slots      = 4096 // blocks of a writer's file
)

// writer writes synced blocks to a file, one after the other, and remembers what was acknowledged.
type writer struct {
	file *drill.File
	stop context.CancelFunc
	done chan struct{}

	mu      sync.Mutex
	ledger  [slots]uint64 // the newest acknowledged number of each slot
	next    uint64        // the number that is being written
	last    time.Time     // when the last acknowledgement came
	longest time.Duration // between two acknowledgements since the last call of gap
	err     error
}

func startWriter(ctx context.Context, m *lab.Machine, volume string) *writer {
	ctx, stop := context.WithCancel(ctx)
	w := &writer{file: m.File(volume, "writer-"+m.Name, true), stop: stop, done: make(chan struct{}), last: time.Now()}
	go w.run(ctx)
	return w
}

func (w *writer) run(ctx context.Context) {
	defer close(w.done)
	defer w.file.Close()
	for number := uint64(1); ; number++ {
		w.mu.Lock()
		w.next = number
		w.mu.Unlock()
		slot := number % slots
		err := w.file.Write(ctx, block(number), int64(slot)*blockBytes)
		w.mu.Lock()
		if err != nil {
			if ctx.Err() == nil {
				w.err = err
			}
			w.mu.Unlock()
			return
		}
		w.ledger[slot] = number
		now := time.Now()
		w.longest = max(w.longest, now.Sub(w.last))
		w.last = now
		w.mu.Unlock()
	}
}

// block is the block that a number stands for.
func block(number uint64) []byte {
	return bytes.Repeat(binary.LittleEndian.AppendUint64(nil, number), blockBytes/8)
}

// gap returns the longest time without an acknowledgement since the last call, the one under way
// included, and the writer's error.
func (w *writer) gap() (time.Duration, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	longest := max(w.longest, time.Since(w.last))
	w.longest = 0
	return longest, w.err
}

// goOn waits until a write that began after the call is acknowledged.
func (w *writer) goOn(ctx context.Context, m *lab.Machine) error {
	w.mu.Lock()
	from := w.next
	w.mu.Unlock()
	return m.Await(ctx, "the writer to go on", func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.ledger[w.next%slots] > from || w.next > from+1 {
			return nil
		}
		return fmt.Errorf("write %d has no answer; %w", w.next, w.err)
	})
}

// end stops the writer and returns how many writes were acknowledged.
func (w *writer) end() (uint64, error) {
	w.stop()
	<-w.done
	return w.next - 1, w.err
}

// check reads the file through a machine: every block is the one acknowledged last, or the one that
// was under way.
func (w *writer) check(ctx context.Context, through *lab.Machine, volume, name string) error {
	f := through.File(volume, name, false)
	defer f.Close()
	for slot, number := range w.ledger {
		if number == 0 {
			continue
		}
		got, err := f.Read(ctx, blockBytes, int64(slot)*blockBytes)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, block(number)) && !(w.next%slots == uint64(slot) && bytes.Equal(got, block(w.next))) {
			return fmt.Errorf("%s: block %d of %s is not write %d, which was acknowledged", through.Name, slot, name, number)
		}
	}
	return nil
}
