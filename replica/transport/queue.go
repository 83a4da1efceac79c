package transport

import (
	"sync"

	"go.etcd.io/raft/v3/raftpb"
)

// directBytes: a payload from this size on goes to TLS from where it is; smaller ones are
// gathered with their neighbours first, for fewer TLS records.
const directBytes = 32 << 10

// promptBytes is the most that a sender writes itself, on an idle connection: it must never wait.
const promptBytes = 64 << 10

// keepQueued bounds the queue's memory that is kept for its next use, in messages.
const keepQueued = 4096

// raftQueue is the sending half of a Raft lane. One goroutine at a time writes (writing): the lane's
// own, or whoever sends a prompt message while the connection is idle, as far as the socket takes it
// at once. That saves waking the lane's goroutine.
type raftQueue struct {
	limitBytes int
	wake       chan struct{} // has room for one: the lane's goroutine has something to write
	buf        []byte        // of whoever writes

	mu      sync.Mutex
	c       *conn // nil: not open
	writing bool
	rest    bool // the wire holds bytes that the socket did not take at once
	waiting []queued
	bytes   int // of waiting and of what is being written
	spare   []queued
}

type queued struct {
	m Message
	p plan
}

func newRaftQueue(limitBytes int) *raftQueue {
	return &raftQueue{limitBytes: limitBytes, wake: make(chan struct{}, 1)}
}

// send sorts messages onto their lanes.
func (p *peer) send(ms []Message) (dropped bool) {
	var pushed, prompt [len(p.queues)]bool
	for _, m := range ms {
		l, ok := laneOf(m.Raft.GetType())
		if !ok {
			p.log.Error("a local Raft message was sent to another node; dropped",
				"event", "message-dropped", "group", m.Group, "type", m.Raft.GetType().String())
			dropped = true
			continue
		}
		plan := planOf(m)
		if plan.bytes > MaxFrameBytes {
			p.log.Error("a Raft message is larger than a frame; dropped: bound the size of entries",
				"event", "message-dropped", "group", m.Group, "type", m.Raft.GetType().String(), "bytes", plan.bytes)
			dropped = true
			continue
		}
		if p.queues[l-1].push(queued{m, plan}) {
			pushed[l-1], prompt[l-1] = true, m.Prompt
		} else {
			dropped = true
		}
	}
	for i, q := range p.queues {
		if pushed[i] && !(prompt[i] && q.writeNow()) {
			signal(q.wake)
		}
	}
	return dropped
}

func signal(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

func (q *raftQueue) push(one queued) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.c == nil || q.bytes > 0 && q.bytes+one.p.bytes > q.limitBytes {
		return false
	}
	q.bytes += one.p.bytes
	q.waiting = append(q.waiting, one)
	return true
}

func (q *raftQueue) open(c *conn) {
	q.mu.Lock()
	q.c, q.rest = c, false
	q.mu.Unlock()
}

func (q *raftQueue) shut() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.c = nil
	q.waiting, q.spare = nil, nil
	q.bytes = 0
}

func (q *raftQueue) read(c *conn) error { return c.watch() }

// write sends what is queued, everything at a time.
func (q *raftQueue) write(c *conn) error {
	for {
		batch, ok := q.take(c)
		if !ok {
			select {
			case <-q.wake:
			case <-c.gone:
				return c.err
			}
			continue
		}
		c.wire.hold()
		err := q.encode(c, batch)
		if err == nil {
			err = c.wire.flush()
		}
		q.wrote(c, batch, false)
		if err != nil {
			return err
		}
	}
}

// writeNow writes what waits, without waiting itself, and reports whether nothing is left to be done.
// False when somebody else writes, and when the lane's goroutine is to.
func (q *raftQueue) writeNow() bool {
	q.mu.Lock()
	if q.c == nil || q.writing || q.rest || q.bytes > promptBytes || len(q.waiting) == 0 {
		busy := q.writing // whoever writes looks again when it is done
		q.mu.Unlock()
		return busy
	}
	c, batch := q.c, q.takeLocked()
	q.mu.Unlock()
	c.wire.hold()
	err := q.encode(c, batch)
	all := false
	if err == nil {
		all, err = c.wire.flushNow()
	}
	if err != nil {
		c.fail(err)
	}
	return !q.wrote(c, batch, !all)
}

// take makes the caller, which is c's own goroutine, the one who writes, and gives it all that waits.
// False when there is nothing to write, or somebody else writes.
func (q *raftQueue) take(c *conn) (batch []queued, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.writing || q.c != c || len(q.waiting) == 0 && !q.rest {
		return nil, false
	}
	return q.takeLocked(), true
}

func (q *raftQueue) takeLocked() []queued {
	batch := q.waiting
	q.writing = true
	q.waiting, q.spare = q.spare[:0], batch
	if cap(batch) > keepQueued {
		q.spare = nil // a rare long queue
	}
	return batch
}

// wrote ends the caller's writing of batch to c; rest says that the wire has not sent all. It reports
// whether there is more to write.
func (q *raftQueue) wrote(c *conn, batch []queued, rest bool) (more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.writing = false
	if q.c == c { // not opened anew meanwhile
		for i := range batch {
			q.bytes -= batch[i].p.bytes
		}
		q.rest = rest
	}
	clear(batch) // the messages may be large: let go of them
	return q.rest || len(q.waiting) > 0
}

func (q *raftQueue) encode(c *conn, batch []queued) error {
	q.buf = q.buf[:0]
	for _, one := range batch {
		if err := q.encodeOne(c, one); err != nil {
			return err
		}
	}
	return q.spill(c, 0)
}

func (q *raftQueue) encodeOne(c *conn, one queued) (err error) {
	if one.p.proto {
		if q.buf, err = appendProto(q.buf, one.m, one.p); err != nil {
			return err
		}
		return q.spill(c, flushBytes)
	}
	q.buf = appendRaftHead(q.buf, one.m, one.p)
	for _, e := range one.m.Raft.Entries {
		if e == nil {
			e = new(raftpb.Entry)
		}
		q.buf = appendEntryHead(q.buf, e)
		if len(e.Data) < directBytes {
			q.buf = append(q.buf, e.Data...)
			if err := q.spill(c, flushBytes); err != nil {
				return err
			}
			continue
		}
		if err := q.spill(c, 0); err != nil {
			return err
		}
		if _, err := c.tls.Write(e.Data); err != nil {
			return err
		}
	}
	return nil
}

// spill hands the buffer to TLS when it has more than limit bytes.
func (q *raftQueue) spill(c *conn, limit int) error {
	if len(q.buf) <= limit {
		return nil
	}
	_, err := c.tls.Write(q.buf)
	q.buf = q.buf[:0]
	if cap(q.buf) > 2*flushBytes {
		q.buf = nil // a rare large frame
	}
	return err
}
