package transport

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sync"
)

// caller is the asking half of the call lane to one node.
type caller struct {
	node   NodeID
	pool   *pool
	window window
	wake   chan struct{} // has room for one
	buf    []byte        // the writer's

	mu      sync.Mutex
	isOpen  bool
	lastID  uint64
	pending map[uint64]*pendingCall // unanswered
	waiting []*pendingCall          // those of pending that are not sent yet
	cancels []uint64                // sent, then given up; at most maxCalls
}

type pendingCall struct {
	id      uint64
	request *buffer // nil once the writer has it
	done    chan answer
}

type answer struct {
	body []byte
	err  error
}

func newCaller(node NodeID, pool *pool) *caller {
	return &caller{
		node:    node,
		pool:    pool,
		window:  window{maxCalls: maxCalls, maxBytes: maxCallBytes},
		wake:    make(chan struct{}, 1),
		pending: make(map[uint64]*pendingCall),
	}
}

func (q *caller) call(ctx context.Context, parts [][]byte) ([]byte, error) {
	size := 0
	for _, part := range parts {
		size += len(part)
	}
	if size > maxBodyBytes {
		return nil, fmt.Errorf("call node %d: request of %d bytes: %w", q.node, size, ErrTooLarge)
	}
	if err := q.window.enter(ctx, size); err != nil {
		return nil, err
	}
	defer q.window.leave(size)
	c := q.post(parts, size)
	if c == nil {
		return nil, fmt.Errorf("call node %d: %w", q.node, ErrNotConnected)
	}
	select {
	case a := <-c.done:
		return a.body, a.err
	case <-ctx.Done():
	}
	if q.giveUp(c) {
		return nil, ctx.Err()
	}
	a := <-c.done
	return a.body, a.err
}

// post queues a request; nil when there is no connection.
func (q *caller) post(parts [][]byte, size int) *pendingCall {
	q.mu.Lock()
	isOpen := q.isOpen
	q.mu.Unlock()
	if !isOpen {
		return nil // before the parts are copied
	}
	c := &pendingCall{request: q.pool.get(callHead + size), done: make(chan answer, 1)}
	body := append(c.request.b, make([]byte, callHead)...)
	for _, part := range parts {
		body = append(body, part...)
	}
	c.request.b = body

	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.isOpen {
		q.pool.put(c.request)
		return nil
	}
	q.lastID++
	c.id = q.lastID
	appendCallHead(body[:0], kindRequest, c.id, size)
	q.pending[c.id] = c
	q.waiting = append(q.waiting, c)
	signal(q.wake)
	return c
}

// giveUp forgets a call; false when its answer is there already.
func (q *caller) giveUp(c *pendingCall) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.pending[c.id] != c {
		return false
	}
	delete(q.pending, c.id)
	if c.request == nil {
		q.cancels = append(q.cancels, c.id)
		signal(q.wake)
		return true
	}
	q.pool.put(c.request)
	q.waiting = slices.DeleteFunc(q.waiting, func(w *pendingCall) bool { return w == c })
	return true
}

func (q *caller) open(*conn) {
	q.mu.Lock()
	q.isOpen = true
	q.mu.Unlock()
}

// shut ends all calls: those that were sent may have been carried out.
func (q *caller) shut() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.isOpen = false
	for id, c := range q.pending {
		err := ErrBroken
		if c.request != nil {
			q.pool.put(c.request)
			err = ErrNotConnected
		}
		c.done <- answer{err: fmt.Errorf("call node %d: %w", q.node, err)}
		delete(q.pending, id)
	}
	q.waiting, q.cancels = nil, nil
}

func (q *caller) write(c *conn) error {
	var requests []*buffer
	var cancels []uint64
	for {
		requests, cancels = q.take(requests[:0], cancels[:0])
		if len(requests)+len(cancels) == 0 {
			select {
			case <-q.wake:
			case <-c.gone:
				return c.err
			}
			continue
		}
		if err := q.send(c, requests, cancels); err != nil {
			return err
		}
		for i, b := range requests {
			q.pool.put(b)
			requests[i] = nil
		}
	}
}

// takeBytes bounds what the writer takes at a time: on a connection that does not move it keeps that
// memory also when those who called have given up.
const takeBytes = 4 << 20

// take moves of what waits the first takeBytes, one request at least, into the given slices. From
// here on a request counts as sent.
func (q *caller) take(requests []*buffer, cancels []uint64) ([]*buffer, []uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	taken, bytes := 0, 0
	for _, c := range q.waiting {
		if taken > 0 && bytes+len(c.request.b) > takeBytes {
			break
		}
		bytes += len(c.request.b)
		requests = append(requests, c.request)
		c.request = nil
		taken++
	}
	q.waiting = slices.Delete(q.waiting, 0, taken)
	cancels = append(cancels, q.cancels...)
	q.cancels = q.cancels[:0]
	return requests, cancels
}

// send writes cancels first: the other node counts unanswered calls, and a request may have
// taken the place of a cancelled one.
func (q *caller) send(c *conn, requests []*buffer, cancels []uint64) error {
	c.wire.hold()
	q.buf = q.buf[:0]
	for _, id := range cancels {
		q.buf = appendCallHead(q.buf, kindCancel, id, 0)
	}
	var err error
	if q.buf, err = c.gather(q.buf, requests); err != nil {
		return err
	}
	return c.wire.flush()
}

// gather writes buf and frames: small ones by way of buf, large ones from where they are. It
// returns buf, empty.
func (c *conn) gather(buf []byte, frames []*buffer) ([]byte, error) {
	spill := func() error {
		if len(buf) == 0 {
			return nil
		}
		_, err := c.tls.Write(buf)
		buf = buf[:0]
		return err
	}
	for _, f := range frames {
		if len(buf)+len(f.b) <= directBytes {
			buf = append(buf, f.b...)
			continue
		}
		if err := spill(); err != nil {
			return buf, err
		}
		if len(f.b) < directBytes {
			buf = append(buf, f.b...)
			continue
		}
		if _, err := c.tls.Write(f.b); err != nil {
			return buf, err
		}
	}
	return buf, spill()
}

// smallAnswerBytes: an answer up to this size has memory of its own, which nobody needs to give back.
const smallAnswerBytes = 4 << 10

// read takes in answers. Those to calls that were given up are skipped.
func (q *caller) read(c *conn) error {
	for {
		kind, id, size, err := c.readCallHead()
		if err != nil {
			return err
		}
		if kind != kindAnswer && kind != kindFailure {
			return fmt.Errorf("%w: kind %d instead of an answer", errGarbage, kind)
		}
		if !q.asked(id) {
			if _, err := c.in.Discard(size); err != nil {
				return err
			}
			continue
		}
		var body []byte
		if size <= smallAnswerBytes {
			body = make([]byte, size)
		} else {
			body = q.pool.get(size).b[:size]
		}
		if _, err := io.ReadFull(c.in, body); err != nil {
			return err
		}
		a := answer{body: body}
		if kind == kindFailure {
			a = answer{err: &RemoteError{Node: q.node, Text: string(body)}}
		}
		q.finish(id, a)
	}
}

func (q *caller) asked(id uint64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.pending[id]
	return c != nil && c.request == nil
}

func (q *caller) finish(id uint64, a answer) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if c := q.pending[id]; c != nil {
		delete(q.pending, id)
		c.done <- a // has room for one
	}
}

// readCallHead reads a frame's header and returns its body's size.
func (c *conn) readCallHead() (kind byte, id uint64, size int, err error) {
	head, err := c.in.Peek(callHead)
	if err != nil {
		return 0, 0, 0, err
	}
	length, err := frameLength(head, callHead)
	if err != nil {
		return 0, 0, 0, err
	}
	kind, id = head[4], binary.LittleEndian.Uint64(head[8:])
	_, err = c.in.Discard(callHead)
	return kind, id, length + lengthBytes - callHead, err
}
