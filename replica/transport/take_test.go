package transport

import (
	"context"
	"testing"
)

// Goal: a writer whose connection does not move keeps little memory of calls that were given up. Method:
// ten callers with 1 MiB each; the writer takes what it takes, and then all give up.
func TestCaller_GivenUp(t *testing.T) {
	q := newCaller(2, &pool{})
	q.open(nil)
	ctx, cancel := context.WithCancel(t.Context())
	const callers = 10
	ended := make(chan error)
	for range callers {
		go func() {
			_, err := q.call(ctx, [][]byte{make([]byte, 1<<20)})
			ended <- err
		}()
	}
	for {
		q.mu.Lock()
		n := len(q.waiting)
		q.mu.Unlock()
		if n == callers {
			break
		}
	}
	requests, _ := q.take(nil, nil)
	bytes := 0
	for _, b := range requests {
		bytes += len(b.b)
	}
	if len(requests) == 0 || bytes > takeBytes {
		t.Errorf("the writer took %d requests of %d bytes together", len(requests), bytes)
	}
	cancel()
	for range callers {
		if err := <-ended; err != context.Canceled {
			t.Error(err)
		}
	}
	if _, cancels := q.take(nil, nil); len(q.waiting) != 0 || len(cancels) != len(requests) {
		t.Errorf("%d calls still wait, %d of %d are cancelled", len(q.waiting), len(cancels), len(requests))
	}
	// A request larger than the bound goes alone.
	go q.call(t.Context(), [][]byte{make([]byte, takeBytes+1)})
	for {
		if requests, _ := q.take(nil, nil); len(requests) == 1 {
			break
		}
	}
	q.shut()
}
