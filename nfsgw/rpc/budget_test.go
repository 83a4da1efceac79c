package rpc

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// TestBudget takes a budget to its limits: who must wait waits, who may go on above the limit
// does (the invariant of budget), and stop wakes all.
func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(100, 2)
		var stop atomic.Bool
		// try starts f and reports whether it is through; done tells later.
		try := func(f func() bool) (through bool, done chan bool) {
			done = make(chan bool, 1)
			go func() { done <- f() }()
			synctest.Wait()
			return len(done) == 1, done
		}
		reserve := func(n int64) func() bool { return func() bool { return b.reserve(n, &stop) } }
		start := func(n int64) func() bool { return func() bool { return b.start(n, &stop) } }
		expect := func(what string, got, want bool) {
			t.Helper()
			if got != want {
				t.Errorf("%s: went on %v, want %v (held %d, running %d)", what, got, want, b.heldBytes, b.running)
			}
		}

		ok, _ := try(reserve(500))
		expect("a record above the limit, nothing held", ok, true)
		ok, second := try(reserve(10))
		expect("a record, too much held", ok, false)
		ok, _ = try(start(50))
		expect("a handler above the limit, none running", ok, true)
		ok, third := try(start(50))
		expect("a handler with a large reply, one running", ok, false)
		ok, _ = try(start(0))
		expect("a handler with a small reply", ok, true)
		ok, fourth := try(start(0))
		expect("a third handler, limit two", ok, false)

		b.giveBack(550, 1)
		synctest.Wait()
		expect("the record, all given back", len(second) == 1, true)
		expect("one of the waiting handlers", len(third)+len(fourth) == 1, true)
		expect("both of the waiting handlers", len(third)+len(fourth) == 2, false)
		ok, last := try(reserve(200))
		expect("a record, too much held again", ok, false)
		stop.Store(true)
		b.wake()
		synctest.Wait()
		if len(last) != 1 || <-last {
			t.Error("stop does not end the wait")
		}
	})
}
