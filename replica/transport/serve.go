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

	// room is what requests take from when they are read until their answers are written: the buffer of
	// each, and one for its answer. Where there is none, nothing is read.
	room window

	mu      sync.Mutex
	live    map[uint64]*request // unanswered and not cancelled
	bytes   int                 // of their requests
	waiting []*request          // those of live that no goroutine serves yet
	serving int                 // goroutines, at most maxServing
	answers []*buffer
	writing bool // a goroutine is writing answers
	ended   bool
}

type request struct {
	id     uint64
	body   *buffer
	answer int // bytes that its answer may take
	held   int // what it has of the server's room
	ctx    context.Context
	cancel context.CancelFunc
}

// serveCalls answers one connection's calls until it is gone.
func (t *Transport) serveCalls(c *conn) error {
	ctx, cancel := context.WithCancel(t.ctx)
	s := &server{t: t, c: c, ctx: ctx, live: make(map[uint64]*request)}
	s.room.maxCalls = maxCalls
	t.running.Go(func() { // read may be waiting for room, and not see the end
		<-c.gone
		cancel()
	})
	err := s.read()
	c.fail(err)
	s.mu.Lock()
	s.ended = true
	s.waiting, s.answers = nil, nil
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
	r := &request{id: id, body: s.t.pool.get(size)}
	r.body.b = r.body.b[:size]
	if _, err := io.ReadFull(s.c.in, r.body.b); err != nil {
		return err
	}
	r.answer = callHead + s.t.opt.Handler.AnswerBytes(r.body.b)
	r.held = cap(r.body.b) + poolRound(r.answer)
	s.room.resize(s.t.answeringShare())
	if err := s.room.enter(s.ctx, r.held); err != nil {
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
	if i := slices.Index(s.waiting, r); i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
		s.t.pool.put(r.body)
		s.room.leave(r.held)
	}
}

func (s *server) forget(r *request) {
	delete(s.live, r.id)
	s.bytes -= len(r.body.b)
}

// serve answers r and then whatever waits.
func (s *server) serve(r *request) {
	for r != nil {
		reply := s.t.pool.get(r.answer)
		body, err := s.t.opt.Handler.Call(r.ctx, s.c.node, r.body.b, append(reply.b, make([]byte, callHead)...))
		r.cancel()
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
		reply.b, reply.held = body, r.held
		s.answer(r, reply)
		r = s.next()
	}
}

// answer queues an answer, unless nobody waits for it, and writes what is queued when no other
// goroutine does: at depth one that saves waking a writer.
func (s *server) answer(r *request, reply *buffer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted := s.live[r.id] == r && !s.ended
	if wanted {
		s.forget(r)
	}
	s.t.pool.put(r.body)
	if !wanted {
		s.free(reply)
		return
	}
	s.answers = append(s.answers, reply)
	if s.writing {
		return
	}
	s.writing = true
	for len(s.answers) > 0 && !s.ended {
		batch := s.answers
		s.answers = nil
		s.mu.Unlock()
		err := s.write(batch)
		s.mu.Lock()
		if err != nil {
			s.c.fail(err) // read notices and ends the rest
			break
		}
	}
	s.writing = false
}

// free takes back an answer, and what it had of the room.
func (s *server) free(reply *buffer) {
	held := reply.held
	s.t.pool.put(reply)
	s.room.leave(held)
}

func (s *server) write(batch []*buffer) (err error) {
	s.c.wire.hold()
	if s.buf, err = s.c.gather(s.buf[:0], batch); err != nil {
		return err
	}
	for _, b := range batch {
		s.free(b)
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
