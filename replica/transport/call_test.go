package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// Goal: answers of every size come back to who asked, errors as *RemoteError.
func TestCall_RoundTrip(t *testing.T) {
	one, two := startPair(t)
	ctx := t.Context()
	for _, size := range []int{0, 1, 4096, directBytes - callHead, directBytes, 1 << 20, maxBodyBytes - 5} {
		whole := append([]byte("head "), bytes.Repeat([]byte("p"), size)...)
		got, err := one.Call(ctx, 2, whole[:5], nil, whole[5:])
		if err != nil || !bytes.Equal(got, whole) {
			t.Fatalf("%d bytes came back as %d, %v", len(whole), len(got), err)
		}
	}
	if _, err := one.Call(ctx, 2, make([]byte, maxBodyBytes+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("oversize request: %v", err)
	}
	if _, err := one.Call(ctx, 5, nil); !errors.Is(err, ErrNotConnected) {
		t.Errorf("unknown node: %v", err)
	}

	reply := func(answer []byte, err error) {
		two.seen.set(func(r *recorder) {
			r.onCall = func(_ context.Context, from NodeID, _, reply []byte) ([]byte, error) {
				if from != 1 {
					t.Errorf("call from %d", from)
				}
				if err != nil {
					return nil, err
				}
				if answer == nil {
					return nil, nil // against the contract
				}
				return append(reply, answer...), nil
			}
		})
	}
	var remote *RemoteError
	reply(nil, errors.New("no such volume"))
	if _, err := one.Call(ctx, 2); !errors.As(err, &remote) || remote.Text != "no such volume" || remote.Node != 2 {
		t.Errorf("error: %v", err)
	}
	reply(nil, errors.New(string(make([]byte, 1<<20))))
	if _, err := one.Call(ctx, 2); !errors.As(err, &remote) || len(remote.Text) != maxFailureBytes {
		t.Errorf("long error: %v", err)
	}
	reply(make([]byte, MaxFrameBytes), nil)
	if _, err := one.Call(ctx, 2); !errors.As(err, &remote) {
		t.Errorf("oversize answer: %v", err)
	}
	reply(nil, nil)
	if _, err := one.Call(ctx, 2); !errors.As(err, &remote) {
		t.Errorf("handler that appends nothing: %v", err)
	}
}

// Goal: many calls at once, more than the window and than the goroutines that serve, are all
// answered, each with its own answer; no more than maxServing run together.
func TestCall_Concurrent(t *testing.T) {
	one, two := startPair(t)
	var running, most atomic.Int64
	release := make(chan struct{})
	two.seen.set(func(r *recorder) {
		r.onCall = func(_ context.Context, _ NodeID, req, reply []byte) ([]byte, error) {
			two.seen.note(func() { most.Store(max(most.Load(), running.Add(1))) })
			defer running.Add(-1)
			<-release
			return append(reply, req...), nil
		}
	})
	var all sync.WaitGroup
	for i := range maxCalls + 500 {
		all.Go(func() {
			want := fmt.Appendf(nil, "call %d %s", i, bytes.Repeat([]byte("x"), i*7))
			got, err := one.Call(context.Background(), 2, want)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("call %d: %d bytes, %v", i, len(got), err)
			}
		})
	}
	two.seen.await(t, "as many calls as may run", func() bool { return most.Load() == maxServing })
	for one.peer(2).calls.unsent() > 0 { // until the window is full
	}
	beat := plainMessage(raftpb.MessageType_MsgHeartbeat, 0)
	one.Send(2, []Message{beat})
	two.seen.await(t, "a sign that time has passed", func() bool { return len(two.seen.raft) == 1 })
	close(release)
	all.Wait()
	if most.Load() != maxServing {
		t.Errorf("%d calls ran together, the bound is %d", most.Load(), maxServing)
	}
	c := one.peer(2).calls
	if len(c.pending) != 0 || c.window.calls != 0 || c.window.bytes != 0 {
		t.Errorf("left behind: %d calls, window %d calls %d bytes", len(c.pending), c.window.calls, c.window.bytes)
	}
}

// unsent is how many calls can still be sent before the window is full.
func (q *caller) unsent() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return maxCalls - len(q.pending) + len(q.waiting)
}

// Goal: who gives up returns at once and the handler's context ends; calls that wait for a
// goroutine there are forgotten; the lane goes on.
func TestCall_Cancel(t *testing.T) {
	one, two := startPair(t)
	var began, ended atomic.Int64
	two.seen.set(func(r *recorder) {
		r.onCall = func(ctx context.Context, _ NodeID, req, reply []byte) ([]byte, error) {
			if string(req) == "quick" {
				return append(reply, req...), nil
			}
			two.seen.note(func() { began.Add(1) })
			<-ctx.Done()
			two.seen.note(func() { ended.Add(1) })
			return nil, ctx.Err()
		}
	})
	for round := range int64(3) {
		ctx, cancel := context.WithCancel(context.Background())
		var all sync.WaitGroup
		for range 600 {
			all.Go(func() {
				if _, err := one.Call(ctx, 2, make([]byte, 1000)); !errors.Is(err, context.Canceled) {
					t.Errorf("cancelled call: %v", err)
				}
			})
		}
		two.seen.await(t, "as many calls as may run", func() bool { return began.Load() >= (round+1)*maxServing })
		cancel()
		all.Wait()
		two.seen.await(t, "the handlers' end", func() bool { return ended.Load() == began.Load() })
		if got, err := one.Call(context.Background(), 2, []byte("quick")); err != nil || string(got) != "quick" {
			t.Fatalf("call after the cancelled ones: %q, %v", got, err)
		}
		began.Store((round + 1) * maxServing) // waiting ones may have started before their cancel came
		ended.Store(began.Load())
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := one.Call(ctx, 2, []byte("quick")); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("call with a context that has ended: %v", err)
	}
}

// Goal: a caller may use the request's memory again as soon as Call returns, cancelled or not, and
// no two callers share memory. Method: each caller has its own byte and overwrites its requests
// after their cancel; every request must arrive with one byte only.
func TestCall_RequestMemory(t *testing.T) {
	one, two := startPair(t)
	two.seen.set(func(r *recorder) {
		r.onCall = func(_ context.Context, _ NodeID, req, reply []byte) ([]byte, error) {
			if len(bytes.Trim(req, string(req[:1]))) > 0 || req[0] == 0 {
				t.Error("a request arrived changed")
			}
			return append(reply, 1), nil
		}
	})
	var all sync.WaitGroup
	for caller := range 4 {
		all.Go(func() {
			data := make([]byte, 100_000)
			for range 200 {
				copy(data, bytes.Repeat([]byte{byte('a' + caller)}, len(data)))
				ctx, cancel := context.WithCancel(context.Background())
				go cancel()
				one.Call(ctx, 2, data)
				clear(data)
			}
		})
	}
	all.Wait()
	if _, err := one.Call(context.Background(), 2, []byte("aaa")); err != nil {
		t.Fatal(err)
	}
}

// Goal: when the connection goes, calls that were sent end as ErrBroken and served ones lose
// their context.
func TestCall_Broken(t *testing.T) {
	one, two := startPair(t)
	served, gone := make(chan struct{}), make(chan struct{})
	two.seen.set(func(r *recorder) {
		r.onCall = func(ctx context.Context, _ NodeID, _, _ []byte) ([]byte, error) {
			close(served)
			<-ctx.Done()
			close(gone)
			return nil, ctx.Err()
		}
	})
	result := make(chan error, 1)
	go func() {
		_, err := one.Call(context.Background(), 2, []byte("request"))
		result <- err
	}()
	<-served
	two.mu.Lock()
	two.incoming[incomingKey{1, callLane}].wire.Conn.Close()
	two.mu.Unlock()
	if err := <-result; !errors.Is(err, ErrBroken) {
		t.Errorf("call over a lost connection: %v", err)
	}
	<-gone
	one.seen.awaitEvents(t, "up 2", "down 2", "up 2")
}

// Goal: a call that was never sent says so, for it may be sent again elsewhere.
func TestCall_Unsent(t *testing.T) {
	q := newCaller(2, new(pool))
	q.open(nil)
	sent := q.post([][]byte{[]byte("y")}, 1)
	q.take(nil, nil)
	c := q.post([][]byte{[]byte("x")}, 1)
	q.shut()
	if a := <-c.done; !errors.Is(a.err, ErrNotConnected) {
		t.Errorf("unsent call: %v", a.err)
	}
	if a := <-sent.done; !errors.Is(a.err, ErrBroken) {
		t.Errorf("sent call: %v", a.err)
	}
	if q.post(nil, 0) != nil {
		t.Error("queued without a connection")
	}
}

// Goal: who comes first gets in first, within both bounds; who leaves the line frees its place.
func TestWindow(t *testing.T) {
	w := window{maxCalls: 3, maxBytes: 100}
	ctx := context.Background()
	w.enter(ctx, 60)
	waits := func(ctx context.Context, bytes int) chan error {
		w.mu.Lock()
		before := len(w.line)
		w.mu.Unlock()
		done := make(chan error, 1)
		go func() { done <- w.enter(ctx, bytes) }()
		for {
			w.mu.Lock()
			n := len(w.line)
			w.mu.Unlock()
			if n > before {
				return done
			}
		}
	}
	giveUp, cancel := context.WithCancel(ctx)
	large := waits(giveUp, 50)
	small := waits(ctx, 10) // fits, but stands behind
	cancel()
	if err := <-large; !errors.Is(err, context.Canceled) {
		t.Fatalf("who gave up: %v", err)
	}
	if err := <-small; err != nil {
		t.Fatal(err)
	}
	w.enter(ctx, 30)
	fourth := waits(ctx, 0) // the fourth call
	w.leave(60)
	if err := <-fourth; err != nil {
		t.Fatal(err)
	}
	w.leave(10)
	w.leave(30)
	w.leave(0)
	if w.calls != 0 || w.bytes != 0 || len(w.line) != 0 {
		t.Errorf("left behind: %d calls, %d bytes, %d waiting", w.calls, w.bytes, len(w.line))
	}
}

// Goal: the answer to a call that was cancelled meanwhile is not sent, nor counted twice.
func TestServer_CancelledAnswer(t *testing.T) {
	s := &server{t: &Transport{}, live: make(map[uint64]*request)}
	s.room = window{maxCalls: 1, calls: 1, bytes: 300}
	r := &request{id: 4, body: &buffer{b: make([]byte, 100)}, cancel: func() {}}
	s.live[4], s.bytes = r, 100
	s.cancel(4)
	s.answer(r, &buffer{b: make([]byte, callHead), held: 300}) // would panic if it wrote: no connection
	if s.bytes != 0 || len(s.answers) != 0 || s.room.calls != 0 || s.room.bytes != 0 {
		t.Errorf("%d bytes counted, %d answers queued, %d bytes of the room taken", s.bytes, len(s.answers), s.room.bytes)
	}
}

// Goal: requests that are being answered take a bounded part of the memory, whatever the other node sends,
// and all of them are answered. Method: 40 calls at once of 200 KB each with room for four; those that are
// served wait until no more come.
func TestServer_Room(t *testing.T) {
	ca := newAuthority(t, 1)
	one := startNode(t, ca.identity(1))
	const fit = 4
	two := startNode(t, ca.identity(2), func(o *Options) { o.AnsweringBytes = fit * 2 * (272 << 10) })
	let, begun := make(chan struct{}), make(chan struct{}, 40)
	two.seen.set(func(r *recorder) {
		r.onCall = func(_ context.Context, _ NodeID, req, reply []byte) ([]byte, error) {
			begun <- struct{}{}
			<-let
			return append(reply, req...), nil
		}
	})
	one.SetPeers(map[NodeID]string{2: two.addr()})
	two.SetPeers(map[NodeID]string{1: one.addr()})
	one.seen.awaitEvents(t, "up 2")
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() {
			req := bytes.Repeat([]byte{byte(i)}, 200_000)
			got, err := one.Call(context.Background(), 2, req)
			if err != nil || !bytes.Equal(got, req) {
				t.Errorf("call %d: %v, or its answer is another's", i, err)
			}
			one.Free(got)
		})
	}
	for range fit {
		<-begun
	}
	select {
	case <-begun:
		t.Errorf("more than %d are served at once", fit)
	case <-time.After(50 * time.Millisecond):
	}
	close(let)
	all.Wait()
}

// Goal: a node whose calls are all waiting, and whose connection is lost, is let in again: the reader that
// waits for room notices.
func TestServer_RoomAndLoss(t *testing.T) {
	ca := newAuthority(t, 1)
	one := startNode(t, ca.identity(1))
	two := startNode(t, ca.identity(2), func(o *Options) { o.AnsweringBytes = 1 })
	let, begun := make(chan struct{}), make(chan struct{}, 8)
	defer close(let)
	two.seen.set(func(r *recorder) {
		r.onCall = func(_ context.Context, _ NodeID, _, reply []byte) ([]byte, error) {
			begun <- struct{}{}
			<-let
			return reply, nil
		}
	})
	one.SetPeers(map[NodeID]string{2: two.addr()})
	two.SetPeers(map[NodeID]string{1: one.addr()})
	one.seen.awaitEvents(t, "up 2")
	two.seen.awaitEvents(t, "up 1")
	for range 2 {
		go one.Call(context.Background(), 2, []byte("x"))
	}
	<-begun
	for q, sent := one.peer(2).calls, false; !sent; { // the second waits for the first
		q.mu.Lock()
		sent = len(q.pending) == 2 && len(q.waiting) == 0
		q.mu.Unlock()
	}
	one.SetPeers(nil)
	one.SetPeers(map[NodeID]string{2: two.addr()})
	one.seen.awaitEvents(t, "up 2", "down 2", "up 2")
	go one.Call(context.Background(), 2, []byte("y"))
	<-begun // over the new connection, while the first is still being served
}
