package rpc

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// conn is one client's connection. Its reader goroutine owns it: it starts a goroutine per
// request, waits for all of them and closes.
type conn struct {
	server  *Server
	nc      net.Conn
	remote  netip.AddrPort
	foreign bool // from an unprivileged port, where those are refused

	// ctx ends when the connection is gone; kept here because every request of the connection
	// gets it as it is.
	ctx    context.Context
	cancel context.CancelFunc

	budget *budget
	side   *side     // nil for datagrams
	share  *share    // nil for loopback clients
	outer  []*budget // the share's and the side's, in the order in which they are asked

	heldRequests int // see Call.Hold; guarded by side.mu

	waiting  atomic.Bool // the reader waits for a budget, so it does not see the client leave
	stopped  atomic.Bool // no further request is read
	gone     atomic.Bool // closed: replies go nowhere
	requests sync.WaitGroup

	deadlineMu sync.Mutex // orders stopReading against the reader's own deadlines

	mu       sync.Mutex
	replies  []*request  // finished, in the order in which they finished
	spare    []*request  // the slice that replies had before
	writing  bool        // a goroutine is in flush
	vector   [][]byte    // flush's: what goes out in one system call
	unsent   net.Buffers // flush's: what of vector has not been written
	deadline time.Time   // flush's: the write deadline in force
}

// request is one call on its way through the server; pooled.
type request struct {
	Call
	Reply
	conn    *conn
	program *Program
	in      *buffer
	bytes   int64  // what it holds of the budgets
	held    bool   // on hold: its bytes are not of the budgets; its handler's until it is sent
	run     func() // runs it; made once, so that starting a goroutine allocates nothing
}

func newConn(s *Server, nc net.Conn, remote netip.AddrPort, foreign bool,
	ctx context.Context, cancel context.CancelFunc) *conn {
	return &conn{
		server: s, nc: nc, remote: remote, foreign: foreign, ctx: ctx, cancel: cancel,
		budget: newBudget(s.opt.MaxConnBytes, s.opt.MaxRequests),
	}
}

// belong says whose limits hold for the connection. Before serve.
func (c *conn) belong(at *side, sh *share) {
	c.side, c.share = at, sh
	if sh != nil {
		c.outer = append(c.outer, sh.budget)
	}
	c.outer = append(c.outer, at.budget)
}

// serve reads requests until the client leaves or breaks the protocol, or the server stops; it
// returns when all requests have ended and the connection is closed.
func (c *conn) serve() {
	err := c.read()
	log := c.server.opt.Log
	switch {
	case c.stopped.Load(): // shutting down: what is under way is still answered
		c.requests.Wait()
	case err == io.EOF || errors.Is(err, net.ErrClosed):
	case errors.Is(err, ErrRecordTooLong) || errors.Is(err, errNoCall):
		log.Warn("connection closed: not RPC, or a request above the limit; is this an NFS client?",
			"event", "nfs-garbage", "client", c.remote.String(), "error", err)
	default:
		log.Debug("connection lost", "client", c.remote.String(), "error", err)
	}
	c.close()
	c.requests.Wait()
}

// close ends the connection at once. It may be called by anybody, more than once.
func (c *conn) close() {
	c.gone.Store(true)
	c.stopped.Store(true)
	c.cancel()
	_ = c.nc.Close()
	c.wake()
}

// wake makes a reader that waits for memory look whether it is to stop.
func (c *conn) wake() {
	c.budget.wake()
	for _, b := range c.outer {
		b.wake()
	}
}

// stopReading lets the reader end, and what it has started be answered.
func (c *conn) stopReading() {
	c.deadlineMu.Lock()
	c.stopped.Store(true)
	_ = c.nc.SetReadDeadline(time.Unix(1, 0))
	c.deadlineMu.Unlock()
	c.budget.wake()
}

// setReadDeadline is the record reader's; after stopReading it changes nothing.
func (c *conn) setReadDeadline(t time.Time) {
	c.deadlineMu.Lock()
	if !c.stopped.Load() {
		_ = c.nc.SetReadDeadline(t)
	}
	c.deadlineMu.Unlock()
}

// errNoCall says that a record is not an RPC call.
var errNoCall = errors.New("record is no RPC call")

// read takes records off the connection and starts their requests.
func (c *conn) read() error {
	s := c.server
	limit := s.opt.MaxRecordBytes
	if c.foreign {
		limit = min(limit, foreignRecordBytes)
	}
	in := recordReader{
		conn: c.nc, chunk: make([]byte, chunkBytes), limit: limit, pools: s.pools,
		reserve: c.reserve, deadline: c.setReadDeadline, patience: s.opt.RecordTimeout,
	}
	for !c.stopped.Load() {
		buf, n, size, err := in.next()
		if err != nil {
			c.release(int64(size), 0)
			return err
		}
		// The smallest reply buffer is part of every request's price, so that records never
		// wait for memory to refuse them with.
		c.charge(smallBytes)
		r := s.newRequest(c, buf, n, int64(size)+smallBytes)
		if !c.dispatch(r) {
			s.free(r)
			c.release(r.bytes, 0)
			if c.stopped.Load() {
				return errStopped
			}
			return errNoCall
		}
	}
	return errStopped
}

// reserve waits until the budgets have n bytes for a record.
func (c *conn) reserve(n int) bool {
	c.waiting.Store(true)
	defer c.waiting.Store(false)
	if !c.budget.reserve(int64(n), &c.stopped) {
		return false
	}
	for i, b := range c.outer {
		if !b.reserve(int64(n), &c.stopped) {
			c.giveBack(i, int64(n), 0)
			return false
		}
	}
	return true
}

// charge counts n bytes without waiting.
func (c *conn) charge(n int64) { c.release(-n, 0) }

// start waits until the budgets let a request with n more bytes run.
func (c *conn) start(n int64) bool {
	c.waiting.Store(true)
	defer c.waiting.Store(false)
	if !c.budget.start(n, &c.stopped) {
		return false
	}
	for i, b := range c.outer {
		if !b.start(n, &c.stopped) {
			c.giveBack(i, n, 1)
			return false
		}
	}
	return true
}

// release returns n bytes, and runs requests, to the budgets.
func (c *conn) release(n int64, runs int) { c.giveBack(len(c.outer), n, runs) }

// giveBack is release for the connection's budget and the first outer ones.
func (c *conn) giveBack(outer int, n int64, runs int) {
	c.budget.giveBack(n, runs)
	for _, b := range c.outer[:outer] {
		b.giveBack(n, runs)
	}
}

// newRequest makes the request for the record in buf.
func (s *Server) newRequest(c *conn, buf *buffer, n int, bytes int64) *request {
	r, ok := s.requests.Get().(*request)
	if !ok {
		r = &request{}
		r.run = r.serve
	}
	r.conn, r.in, r.bytes, r.held, r.program = c, buf, bytes, false, nil
	r.Call.request = r
	r.Call.mem = buf.mem
	r.Call.Remote = c.remote
	r.Call.Args = buf.mem[Headroom : Headroom+n] // the record, until it is decoded
	r.Reply.pools = s.pools
	r.Reply.out = s.pools.get(smallBytes)
	r.Reply.Body = r.Reply.out.mem[replyBytes:replyBytes]
	return r
}

// free takes a request and its buffers back.
func (s *Server) free(r *request) {
	s.pools.put(r.in)
	s.pools.put(r.Reply.out)
	r.conn, r.program, r.in = nil, nil, nil
	r.Reply.out, r.Reply.Body = nil, nil
	r.Call.mem, r.Call.Args, r.Call.Cred, r.Call.request = nil, nil, Cred{}, nil
	s.requests.Put(r)
}

// dispatch decodes a request's header and starts its handler, or answers it at once; false when
// it cannot be answered or the connection ends.
func (c *conn) dispatch(r *request) bool {
	why, auth := r.Call.decode(r.Call.Args)
	if why == verdictDrop {
		return false
	}
	if why == verdictServe && c.foreign && r.Proc != 0 {
		why, auth = verdictAuth, AuthTooWeak
	}
	extra := int64(0)
	if why == verdictServe {
		var stat AcceptStat
		if r.program, stat = c.server.choose(&r.Call, &r.Reply); r.program == nil {
			putAccepted(r.out.mem, r.XID, stat)
		} else if r.program.ReplyBytes != nil {
			if n := r.program.ReplyBytes(&r.Call); replyBytes+n > smallBytes {
				extra = int64(c.server.pools.round(replyBytes + n))
			}
		}
	}
	if !c.start(extra) {
		return false
	}
	r.bytes += extra
	c.requests.Add(1)
	if r.program != nil {
		go r.run()
		return true
	}
	if why != verdictServe {
		// A denied reply has no accepted header: it goes where that would stand.
		denied := appendDenied(r.out.mem[markBytes:markBytes], r.XID, why, auth)
		r.Body = denied[:len(denied):len(denied)]
	}
	c.send(r)
	return true
}

// choose finds a call's program; nil when the reply, in Body and the status, is known already.
func (s *Server) choose(call *Call, reply *Reply) (*Program, AcceptStat) {
	for i := range s.programs {
		p := &s.programs[i]
		switch {
		case p.Number != call.Prog:
			continue
		case call.Vers < p.Low || call.Vers > p.High:
			reply.Body = AppendUint32(reply.Body, p.Low)
			reply.Body = AppendUint32(reply.Body, p.High)
			return nil, ProgMismatch
		case call.Proc == 0:
			return nil, Success
		}
		return p, 0
	}
	return nil, ProgUnavail
}

// serve runs a request's handler and sends its reply.
func (r *request) serve() {
	stat := r.handle()
	if stat != Success {
		r.Body = r.out.mem[replyBytes:replyBytes]
	}
	putAccepted(r.out.mem, r.XID, stat)
	r.conn.send(r)
}

// handle runs the handler; a panic is one request's failure, not the agent's.
func (r *request) handle() (stat AcceptStat) {
	defer func() {
		if p := recover(); p != nil {
			r.conn.server.opt.Log.Error("a request made its handler panic; please report this",
				"event", "request-panic", "program", r.Prog, "procedure", r.Proc, "client", r.conn.remote.String(),
				"panic", p, "stack", string(debug.Stack()))
			stat = SystemErr
		}
	}()
	return r.program.Handle(r.conn.ctx, &r.Call, &r.Reply)
}
