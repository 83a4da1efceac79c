package rpc

import (
	"sync"
	"sync/atomic"
)

// budget bounds the memory and the number of requests of one connection, or of a whole server.
// A record's bytes are reserved before it is read, its reply's before its handler starts; both
// are given back when the reply has been written. Whoever finds it used up waits, and so does
// not read: TCP then holds the client back.
//
// Invariant: somebody can always go on. A record is let in when nothing is held, a handler when
// none is running, even above the limit: so records that wait for their replies' memory cannot
// lock each other out. The limit is exceeded by one request at most.
type budget struct {
	mu         sync.Mutex
	changed    sync.Cond
	limitBytes int64
	limitRuns  int
	heldBytes  int64
	running    int
	waiters    int
}

func newBudget(limitBytes int64, limitRuns int) *budget {
	b := &budget{limitBytes: limitBytes, limitRuns: limitRuns}
	b.changed.L = &b.mu
	return b
}

// reserve takes n bytes for a record; false when stop was set first.
func (b *budget) reserve(n int64, stop *atomic.Bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.heldBytes > 0 && b.heldBytes+n > b.limitBytes {
		if !b.wait(stop) {
			return false
		}
	}
	b.heldBytes += n
	return true
}

// start takes n more bytes for a reply and counts a running request; false when stop was set
// first.
func (b *budget) start(n int64, stop *atomic.Bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.running >= b.limitRuns ||
		n > 0 && b.running > 0 && b.heldBytes+n > b.limitBytes {
		if !b.wait(stop) {
			return false
		}
	}
	b.heldBytes += n
	b.running++
	return true
}

// wait lets go of the lock until something changed; false when stop is set.
func (b *budget) wait(stop *atomic.Bool) bool {
	if stop.Load() {
		return false
	}
	b.waiters++
	b.changed.Wait()
	b.waiters--
	return !stop.Load()
}

// giveBack returns n bytes and the running requests that had them (0 or 1).
func (b *budget) giveBack(n int64, runs int) {
	b.mu.Lock()
	b.heldBytes -= n
	b.running -= runs
	if b.waiters > 0 {
		b.changed.Broadcast()
	}
	b.mu.Unlock()
}

// wake makes those who wait look at their stop flag.
func (b *budget) wake() {
	b.mu.Lock()
	b.changed.Broadcast()
	b.mu.Unlock()
}

// busy reports how many requests are running.
func (b *budget) busy() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.running
}
