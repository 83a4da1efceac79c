package replica

import (
	"testing"
	"testing/synctest"

	"go.etcd.io/raft/v3/raftpb"
)

// Goal: one goroutine at a time applies, in order; one that was not made for it takes a single small
// entry only; close waits for whoever applies, and a failure is final.
func TestApplyQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q applyQueue
		q.init()
		message := func(bytes int) applyJob {
			return applyJob{msg: &raftpb.Message{Entries: []*raftpb.Entry{{Data: make([]byte, bytes)}}}}
		}
		taken := make(chan int, 10)
		go func() {
			for ms := q.take(); ms != nil; ms = q.take() {
				taken <- len(ms)
				q.done(true)
			}
			close(taken)
		}()
		synctest.Wait()
		q.putQuietly(message(1))
		synctest.Wait()
		if ms := q.takeNow(); len(ms) != 1 || len(taken) != 0 {
			t.Fatalf("got %d messages, the applier %d", len(ms), len(taken))
		}
		q.put(message(1))
		synctest.Wait()
		if q.takeNow() != nil || len(taken) != 0 {
			t.Error("two apply at once")
		}
		q.done(true)
		if got := <-taken; got != 1 {
			t.Errorf("the applier got %d messages", got)
		}
		q.putQuietly(message(promptBytes + 1))
		if q.takeNow() != nil {
			t.Error("a large entry was given to a goroutine that was not made for it")
		}
		if got := <-taken; got != 1 {
			t.Errorf("the applier got %d messages", got)
		}
		q.putQuietly(message(1))
		q.takeNow()
		closed := false
		go func() {
			q.close()
			closed = true
		}()
		synctest.Wait()
		if closed {
			t.Error("closed while somebody applies")
		}
		q.done(false)
		if _, more := <-taken; more {
			t.Error("more was given out after a failure")
		}
	})
}
