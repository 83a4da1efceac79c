package rpc

import (
	"encoding/binary"
	"runtime"
	"time"
)

// Reply is where a handler puts its results.
type Reply struct {
	// Body is the results, XDR. It starts empty; a handler appends to it. What goes beyond its
	// capacity works but is allocated: Reserve first.
	Body []byte

	out   *buffer
	pools *pools
}

// Reserve makes room for n bytes in Body, which must still be empty.
func (r *Reply) Reserve(n int) {
	if replyBytes+n > len(r.out.mem) {
		r.pools.put(r.out)
		r.out = r.pools.get(replyBytes + n)
	}
	r.Body = r.out.mem[replyBytes:replyBytes]
}

// inPlace reports whether Body stands behind the header in the reply's buffer.
func (r *Reply) inPlace() bool {
	return cap(r.Body) > 0 && &r.Body[:1][0] == &r.out.mem[replyBytes]
}

// hugeReplyBytes: a reply from this size on does not wait for company. What a system call costs is nothing beside
// it, and the client can take it in while the others are made.
const hugeReplyBytes = 128 << 10

// send queues a reply. Whoever finds nobody writing writes, its own reply and all that others
// queue meanwhile: one writer at a time and no hand-off when there is one request.
func (c *conn) send(r *request) {
	huge := len(r.Body) >= hugeReplyBytes
	c.mu.Lock()
	c.replies = append(c.replies, r)
	if c.writing {
		c.mu.Unlock()
		return
	}
	c.writing = true
	c.mu.Unlock()
	if !huge && c.budget.busy() > 1 {
		// Requests that were committed together end together: let the others queue their
		// replies, and all leave in one system call.
		runtime.Gosched()
	}
	c.flush()
}

// flush writes replies until none are queued.
func (c *conn) flush() {
	for {
		c.mu.Lock()
		batch := c.replies
		if len(batch) == 0 {
			c.writing = false
			c.mu.Unlock()
			return
		}
		c.replies = c.spare[:0]
		c.mu.Unlock()
		if !c.gone.Load() {
			if err := c.write(batch); err != nil {
				c.server.opt.Log.Debug("cannot send replies", "client", c.remote.String(), "error", err)
				c.close()
			}
		}
		for i, r := range batch {
			batch[i] = nil
			bytes, held := r.bytes, r.held
			c.server.free(r)
			c.finish(bytes, held)
			c.requests.Done()
		}
		c.mu.Lock()
		c.spare = batch[:0]
		c.mu.Unlock()
	}
}

// write sends the replies in one system call, if the socket takes them.
func (c *conn) write(batch []*request) error {
	// Setting a deadline costs a timer: it is moved only when half of it has passed.
	if now := time.Now(); c.deadline.Sub(now) < c.server.opt.WriteTimeout/2 {
		c.deadline = now.Add(c.server.opt.WriteTimeout)
		if err := c.nc.SetWriteDeadline(c.deadline); err != nil {
			return err
		}
	}
	v := c.vector[:0]
	for _, r := range batch {
		v = r.appendTo(v)
	}
	c.vector = v
	var err error
	if len(v) == 1 {
		_, err = c.nc.Write(v[0])
	} else {
		c.unsent = v
		_, err = c.unsent.WriteTo(c.nc)
	}
	clear(v)
	return err
}

// appendTo appends the parts of a reply, the record mark first.
func (r *request) appendTo(v [][]byte) [][]byte {
	mem, body := r.out.mem, r.Body
	switch {
	case cap(body) > 0 && &body[:1][0] == &mem[markBytes]: // denied
		binary.BigEndian.PutUint32(mem, lastFragment|uint32(len(body)))
		return append(v, mem[:markBytes+len(body)])
	case len(body) == 0 || r.inPlace():
		binary.BigEndian.PutUint32(mem, lastFragment|uint32(replyBytes-markBytes+len(body)))
		return append(v, mem[:replyBytes+len(body)])
	}
	binary.BigEndian.PutUint32(mem, lastFragment|uint32(replyBytes-markBytes+len(body)))
	return append(v, mem[:replyBytes], body)
}
