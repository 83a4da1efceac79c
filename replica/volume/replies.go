package volume

import (
	"cmp"
	"slices"
)

// Bounds of the duplicate-request cache.
const (
	maxClients = 1024
	maxReplies = 256 // per client
)

// reply is what a mutation came to.
type reply struct {
	xid, sum uint32
	gen      uint32
	err      Errno
	file     FileID // the file that the operation made or changed; 0: none
}

// replies remembers what recent mutations came to, so that one that is sent again, maybe to
// another primary, gets the first answer. It is part of the state: the same on every replica.
type replies struct {
	clients map[uint64]*client
}

// client is one client's ring of replies: it grows to maxReplies, then next is the oldest.
type client struct {
	last    uint64 // log index of its last mutation
	replies []reply
	next    int
}

func newReplies() replies { return replies{clients: make(map[uint64]*client)} }

// find gives what the request came to when it was first applied, or nil.
func (r *replies) find(id RequestID, index uint64) *reply {
	p := r.get(id)
	if p != nil {
		r.clients[id.Client].last = index
	}
	return p
}

// get is find that changes nothing.
func (r *replies) get(id RequestID) *reply {
	c := r.clients[id.Client]
	if c == nil || id == (RequestID{}) {
		return nil
	}
	// From the newest back: clients use their XIDs again after a while.
	at := c.next
	for range c.replies {
		if at--; at < 0 {
			at = len(c.replies) - 1
		}
		p := &c.replies[at]
		if p.xid == id.XID && p.sum == id.Sum {
			return p
		}
	}
	return nil
}

// remember adds what the request came to.
func (r *replies) remember(id RequestID, index uint64, p reply) {
	if id == (RequestID{}) {
		return
	}
	c := r.clients[id.Client]
	if c == nil {
		if len(r.clients) >= maxClients {
			r.forgetOldest()
		}
		c = &client{}
		r.clients[id.Client] = c
	}
	c.last = index
	p.xid, p.sum = id.XID, id.Sum
	if len(c.replies) < maxReplies {
		c.replies = append(c.replies, p)
		return
	}
	c.replies[c.next] = p
	c.next = (c.next + 1) % maxReplies
}

// forgetOldest drops the client whose last mutation is the oldest. No two have the same index,
// so that the map's order does not matter.
func (r *replies) forgetOldest() {
	var oldest uint64
	for id, c := range r.clients {
		if o := r.clients[oldest]; o == nil || c.last < o.last {
			oldest = id
		}
	}
	delete(r.clients, oldest)
}

// byAge gives the clients' ids, the one with the oldest last mutation first.
func (r *replies) byAge() []uint64 {
	ids := make([]uint64, 0, len(r.clients))
	for id := range r.clients {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b uint64) int {
		return cmp.Compare(r.clients[a].last, r.clients[b].last)
	})
	return ids
}

// inOrder calls f for the replies of c, oldest first.
func (c *client) inOrder(f func(*reply)) {
	for i := range c.replies {
		f(&c.replies[(c.next+i)%len(c.replies)])
	}
}

func (r *replies) count() (n int) {
	for _, c := range r.clients {
		n += len(c.replies)
	}
	return n
}
