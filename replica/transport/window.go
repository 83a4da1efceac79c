package transport

import (
	"context"
	"slices"
	"sync"
)

// window bounds the unanswered calls to one node, or of one node, in number and in bytes. Who comes first
// gets in first. A call that is alone gets in, however large it is.
type window struct {
	maxCalls, maxBytes int

	mu    sync.Mutex
	calls int
	bytes int
	line  []*waiter
}

type waiter struct {
	bytes int
	in    chan struct{} // closed when the waiter is in
}

// enter waits for room.
func (w *window) enter(ctx context.Context, bytes int) error {
	w.mu.Lock()
	if len(w.line) == 0 && w.fits(bytes) {
		w.calls++
		w.bytes += bytes
		w.mu.Unlock()
		return nil
	}
	me := &waiter{bytes: bytes, in: make(chan struct{})}
	w.line = append(w.line, me)
	w.mu.Unlock()

	select {
	case <-me.in:
		return nil
	case <-ctx.Done():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := slices.Index(w.line, me); i >= 0 {
		w.line = slices.Delete(w.line, i, i+1)
	} else {
		w.calls--
		w.bytes -= bytes
	}
	w.admit() // who stood behind a large call may fit
	return ctx.Err()
}

// leave gives back what enter took.
func (w *window) leave(bytes int) {
	w.mu.Lock()
	w.calls--
	w.bytes -= bytes
	w.admit()
	w.mu.Unlock()
}

// resize changes the most bytes.
func (w *window) resize(maxBytes int) {
	w.mu.Lock()
	w.maxBytes = maxBytes
	w.mu.Unlock()
}

func (w *window) fits(bytes int) bool {
	return w.calls == 0 || w.calls < w.maxCalls && w.bytes+bytes <= w.maxBytes
}

func (w *window) admit() {
	for len(w.line) > 0 && w.fits(w.line[0].bytes) {
		w.calls++
		w.bytes += w.line[0].bytes
		close(w.line[0].in)
		w.line = slices.Delete(w.line, 0, 1)
	}
}
