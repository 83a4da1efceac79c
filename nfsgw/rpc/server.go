package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Program is one RPC program that a Server answers for. The NULL procedure (0) is answered by
// the server itself.
type Program struct {
	Number    uint32
	Low, High uint32 // the versions served

	// Handle runs one call and appends its results to reply.Body; they are sent when it returns
	// Success, else dropped. It runs on a goroutine of its own. ctx ends when the connection is
	// gone or the server closes. A panic is logged and answered with SystemErr.
	Handle func(ctx context.Context, call *Call, reply *Reply) AcceptStat

	// ReplyBytes says how many bytes a call's results may take; nil: less than 900 for every
	// call. The server asks before it starts Handle, to bound its memory. It may be asked about
	// any garbage and must be quick.
	ReplyBytes func(call *Call) int
}

// Options are a Server's bounds. Zero values mean the defaults in parentheses.
type Options struct {
	MaxRecordBytes int   // most bytes of one call (1 MiB + 8 KiB)
	MaxConns       int   // connections at a time (2048)
	MaxRequests    int   // requests under way per connection (128)
	MaxConnBytes   int64 // request and reply buffers per connection (32 MiB)
	MaxTotalBytes  int64 // the same over all connections, with those on hold (256 MiB); see share.go

	// RecordTimeout is how long a record that has begun may take to arrive (60 s), WriteTimeout
	// how long a client may not take its replies (60 s; at least half of it is granted).
	RecordTimeout, WriteTimeout time.Duration

	// PrivilegedPorts refuses all calls but NULL from source ports of 1024 and above: there any
	// local user could claim to be root. Such connections are few (an eighth of MaxConns) and
	// their records small, so that they cannot crowd out the others.
	PrivilegedPorts bool

	Log *slog.Logger // nil: nothing is logged
}

// foreignRecordBytes bounds the calls of clients that are refused for their source port anyway.
const foreignRecordBytes = 4 << 10

func (o Options) withDefaults() Options {
	setDefault(&o.MaxRecordBytes, 1<<20+8<<10)
	setDefault(&o.MaxConns, 2048)
	setDefault(&o.MaxRequests, 128)
	setDefault(&o.MaxConnBytes, 32<<20)
	setDefault(&o.MaxTotalBytes, 256<<20)
	setDefault(&o.RecordTimeout, 60*time.Second)
	setDefault(&o.WriteTimeout, 60*time.Second)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

func setDefault[T int | int64 | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// ErrServerClosed is what Serve returns after Shutdown.
var ErrServerClosed = errors.New("rpc server closed")

// Server answers RPC calls on any number of listeners.
type Server struct {
	opt      Options
	programs []Program
	pools    *pools
	local    *side // loopback clients
	others   *side
	requests sync.Pool // *request
	closing  atomic.Bool
	closed   chan struct{} // closed by Shutdown

	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	packets   map[net.PacketConn]struct{}
	conns     map[*conn]struct{}
	shares    map[netip.Addr]*share // by shareKey, of hosts that have connections
	foreign   int                   // how many of conns come from unprivileged ports
	warned    time.Time             // when a connection too many was last told
	work      sync.WaitGroup        // connections, listeners, the sweeper; Add only under mu while not closing
}

// NewServer makes a server for programs. It does nothing before Serve.
func NewServer(opt Options, programs ...Program) *Server {
	opt = opt.withDefaults()
	return &Server{
		opt:       opt,
		programs:  programs,
		pools:     newPools(opt.MaxRecordBytes),
		local:     newSide(&opt, localEighths, opt.MaxConns),
		others:    newSide(&opt, othersEighths, max(1, opt.MaxConns/2)),
		shares:    map[netip.Addr]*share{},
		closed:    make(chan struct{}),
		listeners: map[net.Listener]struct{}{},
		packets:   map[net.PacketConn]struct{}{},
		conns:     map[*conn]struct{}{},
	}
}

// Connections is how many clients are connected.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Serve accepts connections until Shutdown, which closes l; it then returns ErrServerClosed. It
// returns another error when l fails for good.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	if s.closing.Load() {
		s.mu.Unlock()
		return ErrServerClosed
	}
	if len(s.listeners) == 0 {
		s.work.Add(1)
		go s.sweep()
	}
	s.listeners[l] = struct{}{}
	s.work.Add(1)
	s.mu.Unlock()
	defer s.work.Done()

	pause := time.Duration(0)
	for {
		nc, err := l.Accept()
		if s.closing.Load() {
			if err == nil {
				_ = nc.Close()
			}
			return ErrServerClosed
		}
		if err == nil {
			pause = 0
			s.admit(nc)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("accept on %s: %w", l.Addr(), err)
		}
		// Out of file descriptors or memory: this passes. Wait, so that the loop does not burn
		// the processor that would help it pass.
		if pause == 0 {
			s.opt.Log.Warn("cannot accept a connection, trying again; if this repeats, raise the limit of open files",
				"event", "nfs-accept-failed", "address", l.Addr().String(), "error", err)
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		select {
		case <-time.After(pause):
		case <-s.closed:
		}
	}
}

// admit starts serving a connection, or closes it when there are too many.
func (s *Server) admit(nc net.Conn) {
	remote := remoteAddr(nc)
	foreign := s.opt.PrivilegedPorts && remote.Port() >= 1024
	s.mu.Lock()
	if s.closing.Load() {
		s.mu.Unlock()
		_ = nc.Close()
		return
	}
	at, sh, ok := s.enter(remote, foreign)
	if !ok {
		tell := time.Since(s.warned) >= time.Second // who is refused may come at once again
		if tell {
			s.warned = time.Now()
		}
		s.mu.Unlock()
		_ = nc.Close()
		if tell {
			s.opt.Log.Warn("connections closed: too many, in all or of this client", "event", "nfs-crowded", "client", remote.String(), "limit", s.opt.MaxConns)
		}
		return
	}
	tune(nc, remote, s.opt.WriteTimeout)
	ctx, cancel := context.WithCancel(context.Background())
	c := newConn(s, nc, remote, foreign, ctx, cancel)
	c.belong(at, sh)
	s.conns[c] = struct{}{}
	s.work.Add(1)
	s.mu.Unlock()
	go func() {
		defer s.work.Done()
		c.serve()
		s.mu.Lock()
		delete(s.conns, c)
		s.leave(c)
		s.mu.Unlock()
	}()
}

// tune has the kernel end a connection whose peer does not acknowledge anything for so long
// (tcp(7), TCP_USER_TIMEOUT): a host that has gone without a word is noticed by keepalives when the
// connection is idle, but with a reply on its way only after a quarter of an hour. And it has replies to this host's own
// guests leave at once: BBR, the system's congestion control in some places, paces them by a timer.
func tune(nc net.Conn, remote netip.AddrPort, patience time.Duration) {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return // closed already: its reader will see
	}
	_ = raw.Control(func(fd uintptr) {
		// Fails for sockets that are not TCP, which cannot lose their peer.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(patience.Milliseconds()))
		control, _ := unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
		if remote.Addr().IsLoopback() && control == "bbr" {
			_ = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, "reno")
		}
	})
}

// remoteAddr is a peer's address; zero when it has no IP address (a unix socket).
func remoteAddr(nc net.Conn) netip.AddrPort {
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		p := a.AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	}
	return netip.AddrPort{}
}

// wake makes readers that wait for memory look whether they are to stop.
func (s *Server) wake() {
	s.local.budget.wake()
	s.others.budget.wake()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sh := range s.shares {
		sh.budget.wake()
	}
}

// sweepPeriod is how often connections that are not being read are looked at.
const sweepPeriod = time.Second

// sweep closes connections whose clients have left while the server, at its limits, was not
// reading them. Without it a client that reconnects again and again while a volume has no primary
// would leave a full connection behind each time.
func (s *Server) sweep() {
	defer s.work.Done()
	tick := time.NewTicker(sweepPeriod)
	defer tick.Stop()
	for {
		select {
		case <-s.closed:
			return
		case <-tick.C:
		}
		s.mu.Lock()
		var gone []*conn
		for c := range s.conns {
			if c.waiting.Load() && hungUp(c.nc) {
				gone = append(gone, c)
			}
		}
		s.mu.Unlock()
		for _, c := range gone {
			c.close()
		}
	}
}

// hungUp reports whether the peer has closed its end, whatever is still to be read.
func hungUp(nc net.Conn) bool {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(fds, 0)
		gone = err == nil && n > 0
	})
	return gone || err != nil
}

// Shutdown closes the listeners, stops reading, waits until the requests under way have been
// answered and closes the connections. When ctx ends first it closes them at once, ends the
// handlers' contexts, waits for the handlers and returns ctx's error. It may be called twice.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	if s.closing.CompareAndSwap(false, true) {
		close(s.closed)
	}
	for l := range s.listeners {
		_ = l.Close()
	}
	for p := range s.packets {
		_ = p.Close()
	}
	for c := range s.conns {
		c.stopReading()
	}
	s.mu.Unlock()
	s.wake()

	done := make(chan struct{})
	go func() {
		s.work.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	for c := range s.conns {
		c.close()
	}
	s.mu.Unlock()
	<-done
	return fmt.Errorf("rpc server: requests were still under way: %w", ctx.Err())
}
