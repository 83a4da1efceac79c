package replica

import (
	"context"
	"sync"
	"sync/atomic"
)

// waterline is an index that only rises, and that others wait for.
type waterline struct {
	index   atomic.Uint64
	waiting atomic.Int32

	mu    sync.Mutex
	rises chan struct{} // closed at the next rise, when somebody waits
}

func (w *waterline) get() uint64 { return w.index.Load() }

func (w *waterline) set(index uint64) {
	w.index.Store(index)
	if w.waiting.Load() == 0 {
		return
	}
	w.mu.Lock()
	if w.rises != nil {
		close(w.rises)
		w.rises = nil
	}
	w.mu.Unlock()
}

// wait returns once the waterline has reached index; errNotPrimary when ctx ends before.
func (w *waterline) wait(ctx context.Context, index uint64) error {
	if w.get() >= index {
		return nil
	}
	// Announce first, look again after: set stores first and looks for waiters after.
	w.waiting.Add(1)
	defer w.waiting.Add(-1)
	for {
		w.mu.Lock()
		if w.rises == nil {
			w.rises = make(chan struct{})
		}
		rises := w.rises
		w.mu.Unlock()
		if w.get() >= index {
			return nil
		}
		select {
		case <-rises:
		case <-ctx.Done():
			return errNotPrimary
		}
	}
}
