package transport

import (
	"sync"

	"go.etcd.io/raft/v3/raftpb"
)

// directBytes: a payload from this size on goes to TLS from where it is; smaller ones are
// gathered with their neighbours first, for fewer TLS records.
const directBytes = 32 << 10

// keepQueued bounds the queue's memory that is kept for its next use, in messages.
const keepQueued = 4096

// raftQueue is the sending half of a Raft lane.
type raftQueue struct {
	limitBytes int
	wake       chan struct{} // has room for one
	buf        []byte        // the writer's

	mu      sync.Mutex
	isOpen  bool
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
	var wake [len(p.queues)]bool
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
			wake[l-1] = true
		} else {
			dropped = true
		}
	}
	for i, w := range wake {
		if w {
			signal(p.queues[i].wake)
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
	if !q.isOpen || q.bytes+one.p.bytes > q.limitBytes {
		return false
	}
	q.bytes += one.p.bytes
	q.waiting = append(q.waiting, one)
	return true
}

func (q *raftQueue) open() {
	q.mu.Lock()
	q.isOpen = true
	q.mu.Unlock()
}

func (q *raftQueue) shut() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.isOpen = false
	q.waiting, q.spare = nil, nil
	q.bytes = 0
}

func (q *raftQueue) read(c *conn) error { return c.watch() }

// write sends what is queued, everything at a time.
func (q *raftQueue) write(c *conn) error {
	written := 0
	for {
		batch := q.take(written)
		if len(batch) == 0 {
			written = 0
			select {
			case <-q.wake:
			case <-c.gone:
				return c.err
			}
			continue
		}
		c.wire.hold()
		if err := q.encode(c, batch); err != nil {
			return err
		}
		if err := c.wire.flush(); err != nil {
			return err
		}
		written = 0
		for i := range batch {
			written += batch[i].p.bytes
		}
		clear(batch) // the messages may be large: let go of them
	}
}

// take returns all that waits; written bytes no longer count as queued. The result is good until
// the next take.
func (q *raftQueue) take(written int) []queued {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bytes -= written
	batch := q.waiting
	q.waiting, q.spare = q.spare[:0], batch
	if cap(batch) > keepQueued {
		q.spare = nil // a rare long queue
	}
	return batch
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
