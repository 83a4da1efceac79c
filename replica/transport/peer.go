package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// peer is one other node: the lanes on which this node sends to it.
type peer struct {
	t      *Transport
	id     NodeID
	addr   string
	config *tls.Config
	log    *slog.Logger
	queues [2]*raftQueue // by lane-1: beat, bulk
	calls  *caller
	links  [lanes]*link
	ctx    context.Context // ends when the peer is dropped or the transport closed
	stop   context.CancelFunc
	ended  chan struct{} // closed when nothing of the peer runs any more
	up     atomic.Int32  // lanes that are connected

	tell sync.Mutex // orders PeerUp and PeerDown; held while the handler is told
	told bool       // Invariant: the handler heard PeerUp and since then no PeerDown

	complaining sync.Mutex
	grumble     string // why dialling failed, as logged last
}

// traffic is what travels on a lane. Per connection: open, then write and read concurrently until
// both have returned, then shut.
type traffic interface {
	open(c *conn)
	write(c *conn) error // ends when c.gone is closed
	read(c *conn) error
	shut()
}

// link keeps one lane connected.
type link struct {
	p       *peer
	lane    lane
	traffic traffic
	kick    chan struct{} // the peer dialled us: try now
	delay   time.Duration // before the next dial
	quick   int           // short-lived connections in a row
}

// startPeer starts dialling a node, once its last peer has ended (after, which may be nil).
func (t *Transport) startPeer(id NodeID, addr string, after <-chan struct{}) *peer {
	p := &peer{
		t: t, id: id, addr: addr,
		config: t.trust.dialConfig(id),
		log:    t.log.With("peer", id),
		ended:  make(chan struct{}),
		calls:  newCaller(id, &t.pool),
	}
	p.queues[beatLane-1] = newRaftQueue(beatQueueBytes)
	p.queues[bulkLane-1] = newRaftQueue(t.opt.QueueBytes)
	p.ctx, p.stop = context.WithCancel(t.ctx)
	carried := [lanes]traffic{p.queues[0], p.queues[1], p.calls}
	for i := range p.links {
		p.links[i] = &link{p: p, lane: lane(i + 1), traffic: carried[i], kick: make(chan struct{}, 1)}
	}
	t.running.Go(func() { p.run(after) })
	return p
}

func (p *peer) run(after <-chan struct{}) {
	defer close(p.ended)
	if after != nil {
		<-after
	}
	var all sync.WaitGroup
	for _, l := range p.links {
		all.Go(l.run)
	}
	all.Wait()
	p.tellDown(false, errors.New("no longer a member at this address"))
}

// kick makes the lanes dial now.
func (p *peer) kick() {
	for _, l := range p.links {
		select {
		case l.kick <- struct{}{}:
		default:
		}
	}
}

func (p *peer) connected() bool { return p.up.Load() == lanes }

func (p *peer) tellUp() {
	p.tell.Lock()
	defer p.tell.Unlock()
	if !p.told && p.connected() && p.ctx.Err() == nil {
		p.told = true
		p.hush()
		p.log.Debug("node connected", "address", p.addr)
		p.t.opt.Handler.PeerUp(p.id)
	}
}

func (p *peer) tellDown(refused bool, cause error) {
	p.tell.Lock()
	defer p.tell.Unlock()
	if p.told && p.t.ctx.Err() == nil {
		p.told = false
		p.log.Debug("node lost", "address", p.addr, "refused", refused, "err", cause)
		p.t.opt.Handler.PeerDown(p.id, refused)
	}
}

// run dials and carries until the peer is dropped.
func (l *link) run() {
	p := l.p
	var c *conn
	for p.ctx.Err() == nil {
		if c == nil {
			var err error
			if c, err = l.dial(p.ctx); err != nil {
				p.complain(l.lane, err)
				l.wait(l.kick)
				continue
			}
		}
		began := time.Now()
		err := l.carry(c)
		if p.ctx.Err() != nil {
			return
		}
		p.log.Debug("connection lost", "address", p.addr, "lane", l.lane.String(), "err", err)
		refused := false
		c, refused = l.redial(time.Since(began))
		p.tellDown(refused, err)
		if l.quick > quickRedials {
			l.wait(nil)
		}
	}
	if c != nil {
		c.fail(p.ctx.Err())
	}
}

// carry runs the lane's traffic until the connection is gone and says why it is.
func (l *link) carry(c *conn) error {
	defer c.failWith(l.p.ctx)()
	l.traffic.open(c)
	l.p.up.Add(1)
	l.p.tellUp()
	var reader sync.WaitGroup
	reader.Go(func() { c.fail(l.traffic.read(c)) })
	c.fail(l.traffic.write(c))
	reader.Wait()
	l.p.up.Add(-1)
	l.traffic.shut()
	return c.reason()
}

// redial tries at once after a loss, to learn whether the process is gone: it dials until it is
// connected, refused, or hintTimeout is over. (While a process dies its listener may still take a
// connection that then breaks.) A connection that keeps breaking young is not redialled at once.
func (l *link) redial(lived time.Duration) (c *conn, refused bool) {
	if lived >= steadyAfter {
		l.quick, l.delay = 0, 0
	}
	if l.quick++; l.quick > quickRedials {
		return nil, false
	}
	ctx, cancel := context.WithTimeout(l.p.ctx, hintTimeout)
	defer cancel()
	for {
		c, err := l.dial(ctx)
		if err == nil || errors.Is(err, syscall.ECONNREFUSED) {
			return c, err != nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return nil, false
		}
	}
}

func (l *link) dial(ctx context.Context) (*conn, error) {
	return l.p.t.dial(ctx, l.p.id, l.p.addr, l.lane, l.p.config)
}

// complain logs a failed dial, unless the last one failed for the same reason.
func (p *peer) complain(l lane, err error) {
	root := err // without port numbers, which differ each time
	for next := err; next != nil; next = errors.Unwrap(next) {
		root = next
	}
	p.complaining.Lock()
	defer p.complaining.Unlock()
	if text := root.Error(); text != p.grumble && p.ctx.Err() == nil {
		p.grumble = text
		p.log.Warn("cannot connect to node; trying on", "event", "peer-unreachable", "address", p.addr, "lane", l.String(), "err", err)
	}
}

// hush makes the next failed dial worth a line in the log again.
func (p *peer) hush() {
	p.complaining.Lock()
	p.grumble = ""
	p.complaining.Unlock()
}

// wait passes the time before the next dial; kick, when not nil, cuts it short.
func (l *link) wait(kick <-chan struct{}) {
	l.delay = min(max(2*l.delay, minBackoff), maxBackoff)
	timer := time.NewTimer(l.delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-kick:
		l.delay = 0
	case <-l.p.ctx.Done():
	}
}
