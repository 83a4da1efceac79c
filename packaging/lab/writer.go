package lab

import (
	"context"
	"sync"

	"trinas/agent/drill"
)

// Writer keeps one write under way to a file of numbered slots, round and round, each acknowledged as
// durable before the next, and remembers what was acknowledged: nothing else is known about the file.
type Writer struct {
	file       *drill.File
	blockBytes int

	mu     sync.Mutex
	ledger drill.Ledger
}

// NewWriter makes a writer of a file with slots of blockBytes each: a multiple of 8, at most
// nfs3.MaxIOBytes. The file is the writer's from then on.
func NewWriter(file *drill.File, slots uint64, blockBytes int) *Writer {
	return &Writer{file: file, blockBytes: blockBytes, ledger: drill.Ledger{Slots: slots}}
}

// Run writes until ctx ends: that is no error. The write then under way may be done or not, as one
// that a crash interrupts. Run may be called again.
func (w *Writer) Run(ctx context.Context) error { return w.Write(ctx, 0) }

// Write is Run, and ends after so many writes too; 0: no end.
func (w *Writer) Write(ctx context.Context, writes int) error {
	defer w.file.Close()
	block := make([]byte, w.blockBytes)
	for n := 0; ctx.Err() == nil && (writes == 0 || n < writes); n++ {
		w.mu.Lock()
		slot, sequence := w.ledger.Next()
		w.mu.Unlock()
		drill.EncodeBlock(block, slot, sequence)
		if err := w.file.Write(ctx, block, int64(slot)*int64(w.blockBytes)); err != nil {
			if ctx.Err() != nil {
				break
			}
			return err
		}
		w.mu.Lock()
		w.ledger.Acknowledge()
		w.mu.Unlock()
	}
	return nil
}

// Acknowledged is how many writes were.
func (w *Writer) Acknowledged() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ledger.Acknowledged
}

// Read reads one slot through a file of its own, also while Run writes. An error says that the slot
// shows less than what was acknowledged before the read began, or what was never written there.
func (w *Writer) Read(ctx context.Context, file *drill.File, slot uint64) error {
	w.mu.Lock()
	least := w.ledger.Expect(slot)
	w.mu.Unlock()
	b, err := file.Read(ctx, w.blockBytes, int64(slot)*int64(w.blockBytes))
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ledger.Shows(slot, least, b)
}

// Check reads the whole file back through another and compares it with what was acknowledged. Not
// while Run writes.
func (w *Writer) Check(ctx context.Context, file *drill.File) (drill.Losses, error) {
	defer file.Close()
	return drill.CheckFile(ctx, file, w.ledger, w.blockBytes)
}
