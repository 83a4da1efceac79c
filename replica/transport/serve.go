package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
)

// server is the answering half of one connection of the call lane.
type server struct {
	t   *Transport
	c   *conn
	ctx context.Context // ends with the connection
	buf []byte          // of whoever writes

	mu       sync.Mutex
	drained  sync.Cond           // signalled when answers was written, or the connection is gone
	live     map[uint64]*request // unanswered and not cancelled
	bytes    int                 // of their requests
	waiting  []*request          // those of live that no goroutine serves yet
	serving  int                 // goroutines, at most maxServing
	answers  []*buffer
	queued   int  // bytes of answers
	writing  bool // a goroutine is writing answers
	lastSize int  // of the last answer: the next is probably like it
	ended    bool
}

type request struct {
	id     uint64
	body   []byte
	size   int
	ctx    context.Context
	cancel context.CancelFunc
}

// serveCalls answers one connection's calls until it is gone.
func (t *Transport) serveCalls(c *conn) error {
	ctx, cancel := context.WithCancel(t.ctx)
	s := &server{t: t, c: c, ctx: ctx, live: make(map[uint64]*request)}
	s.drained.L = &s.mu
	err := s.read()
	c.fail(err)
	cancel()
	s.mu.Lock()
	s.ended = true
	s.waiting, s.answers = nil, nil
	s.drained.Broadcast()
	s.mu.Unlock()
	return err
}

func (s *server) read() error {
	for {
		kind, id, size, err := s.c.readCallHead()
		if err != nil {
			return err
		}
		switch {
		case kind == kindRequest:
			err = s.accept(id, size)
		case kind == kindCancel && size == 0:
			s.cancel(id)
		default:
			err = fmt.Errorf("%w: kind %d, %d bytes instead of a request", errGarbage, kind, size)
		}
		if err != nil {
			return err
		}
	}
}

// accept reads a request and has it served. The caller bounds its unanswered calls; one that does
// not is cut off.
func (s *server) accept(id uint64, size int) error {
	s.mu.Lock()
	excess := len(s.live) >= maxCalls || s.bytes+size > maxCallBytes
	_, again := s.live[id]
	s.mu.Unlock()
	if excess || again {
		return fmt.Errorf("%w: it sent more calls than it may, or one call twice", errGarbage)
	}
	r := &request{id: id, size: size, body: make([]byte, size)}
	if _, err := io.ReadFull(s.c.in, r.body); err != nil {
		return err
	}
	r.ctx, r.cancel = context.WithCancel(s.ctx)

	s.mu.Lock()
	defer s.mu.Unlock()
	s.live[id] = r
	s.bytes += size
	if s.serving == maxServing {
		s.waiting = append(s.waiting, r)
		return nil
	}
	s.serving++
	s.t.running.Go(func() { s.serve(r) })
	return nil
}

func (s *server) cancel(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.live[id]
	if r == nil {
		return // answered already
	}
	r.cancel()
	s.forget(r)
	s.waiting = slices.DeleteFunc(s.waiting, func(w *request) bool { return w == r })
}

func (s *server) forget(r *request) {
	delete(s.live, r.id)
	s.bytes -= r.size
}

// serve answers r and then whatever waits.
func (s *server) serve(r *request) {
	for r != nil {
		reply := s.t.pool.get(s.guess())
		body, err := s.t.opt.Handler.Call(r.ctx, s.c.node, r.body, append(reply.b, make([]byte, callHead)...))
		r.cancel()
		r.body = nil
		if err == nil && len(body)-callHead > maxBodyBytes {
			err = fmt.Errorf("answer of %d bytes: %w", len(body)-callHead, ErrTooLarge)
		}
		if err == nil && len(body) < callHead {
			err = errors.New("the handler did not append its answer")
		}
		kind := byte(kindAnswer)
		if err != nil {
			text := err.Error()
			kind, body = kindFailure, append(reply.b[:0], make([]byte, callHead)...)
			body = append(body, text[:min(len(text), maxFailureBytes)]...)
		}
		appendCallHead(body[:0], kind, r.id, len(body)-callHead)
		reply.b = body
		s.answer(r, reply)
		r = s.next()
	}
}

func (s *server) guess() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastSize
}

// answer queues an answer, unless nobody waits for it, and writes what is queued when no other
// goroutine does: at depth one that saves waking a writer.
func (s *server) answer(r *request, reply *buffer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.writing && s.queued > maxAnswerBytes && !s.ended {
		s.drained.Wait()
	}
	if s.live[r.id] != r || s.ended {
		s.t.pool.put(reply)
		return
	}
	s.forget(r)
	s.lastSize = len(reply.b)
	s.answers = append(s.answers, reply)
	s.queued += len(reply.b)
	if s.writing {
		return
	}
	s.writing = true
	for len(s.answers) > 0 && !s.ended {
		batch := s.answers
		s.answers, s.queued = nil, 0
		s.mu.Unlock()
		err := s.write(batch)
		s.mu.Lock()
		if err != nil {
			s.c.fail(err) // read notices and ends the rest
			break
		}
		s.drained.Broadcast()
	}
	s.writing = false
}

func (s *server) write(batch []*buffer) (err error) {
	s.c.wire.hold()
	if s.buf, err = s.c.gather(s.buf[:0], batch); err != nil {
		return err
	}
	for _, b := range batch {
		s.t.pool.put(b)
	}
	return s.c.wire.flush()
}

// next is the request that has waited longest; nil ends the goroutine.
func (s *server) next() *request {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 || s.ended {
		s.serving--
		return nil
	}
	r := s.waiting[0]
	s.waiting = slices.Delete(s.waiting, 0, 1)
	return r
}
