package rpc

import (
	"net/netip"
	"sync"
)

// The server's memory and connections are divided, so that whoever uses up a part has used up
// nobody else's:
//
//	                        loopback clients   other hosts   one of them
//	connections                    all             1/2           1/8
//	requests under way             3/8             1/8           1/16   of MaxTotalBytes
//	requests on hold               3/8             1/8
//
// A node's own guests are behind its loopback; no other host can hold them up.
const (
	localEighths  = 3
	othersEighths = 1
)

// side is one of the two kinds of clients.
type side struct {
	budget   *budget // of requests under way
	maxConns int
	conns    int // guarded by Server.mu

	maxHeldBytes int64 // of requests on hold

	mu        sync.Mutex // guards heldBytes and the heldRequests of the side's connections
	heldBytes int64
}

func newSide(opt *Options, eighths int64, maxConns int) *side {
	part := opt.MaxTotalBytes * eighths / 8
	return &side{budget: newBudget(part, 1<<30), maxConns: maxConns, maxHeldBytes: part}
}

// share is what one host other than this one has, over all its connections.
type share struct {
	budget *budget
	conns  int // guarded by Server.mu
}

// shareKey is the host that an address belongs to: a host with IPv6 usually has all addresses of
// a /64.
func shareKey(addr netip.Addr) netip.Addr {
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return addr
}

// enter counts a new connection from remote and returns where it belongs; ok is false when there
// are too many. s.mu is held.
func (s *Server) enter(remote netip.AddrPort, foreign bool) (at *side, sh *share, ok bool) {
	at = s.local
	addr := remote.Addr()
	if addr.IsValid() && !addr.IsLoopback() {
		at = s.others
		if sh = s.shares[shareKey(addr)]; sh == nil {
			sh = &share{budget: newBudget(s.others.budget.limitBytes/2, 1<<30)}
		}
	}
	eighth := max(1, s.opt.MaxConns/8)
	if len(s.conns) >= s.opt.MaxConns || at.conns >= at.maxConns ||
		foreign && s.foreign >= eighth || sh != nil && sh.conns >= eighth {
		return nil, nil, false
	}
	at.conns++
	if foreign {
		s.foreign++
	}
	if sh != nil {
		sh.conns++
		s.shares[shareKey(addr)] = sh
	}
	return at, sh, true
}

// leave undoes enter, when nothing of the connection is under way. s.mu is held.
func (s *Server) leave(c *conn) {
	c.side.conns--
	if c.foreign {
		s.foreign--
	}
	if c.share != nil {
		if c.share.conns--; c.share.conns == 0 {
			delete(s.shares, shareKey(c.remote.Addr()))
		}
	}
}

// Hold takes the call out of its connection's limits, because it waits for what may be long in
// coming: the connection then reads on, so that a client whose calls for one thing hang can still
// make others. It reports whether the call is out of them, now or since an earlier Hold. What may
// be on hold is bounded like what may be under way: MaxRequests per connection, and bytes for all
// clients of a side. Calls that could be refused instead (droppable) get half of that, so that
// there is room for those that cannot. Only the call's handler may ask.
func (c *Call) Hold(droppable bool) bool {
	r := c.request
	if r == nil || r.conn.side == nil { // a datagram's: they have no limits of their own
		return false
	}
	if !r.held {
		r.held = r.conn.hold(r.bytes, droppable)
	}
	return r.held
}

// hold moves a request with so many bytes from the budgets to what is on hold, if there is room.
func (c *conn) hold(bytes int64, droppable bool) bool {
	requests, most := c.server.opt.MaxRequests, c.side.maxHeldBytes
	if droppable {
		requests, most = requests/2, most/2
	}
	c.side.mu.Lock()
	ok := c.heldRequests < requests && c.side.heldBytes+bytes <= most
	if ok {
		c.heldRequests++
		c.side.heldBytes += bytes
	}
	c.side.mu.Unlock()
	if ok {
		c.release(bytes, 1)
	}
	return ok
}

// finish gives back what an answered request had.
func (c *conn) finish(bytes int64, held bool) {
	if !held {
		c.release(bytes, 1)
		return
	}
	c.side.mu.Lock()
	c.heldRequests--
	c.side.heldBytes -= bytes
	c.side.mu.Unlock()
}
