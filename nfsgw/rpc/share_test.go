package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// elsewhere is a listener whose clients seem to come from addr.
type elsewhere struct {
	net.Listener
	addr string
}

type movedConn struct {
	*net.TCPConn
	remote net.Addr
}

func (c movedConn) RemoteAddr() net.Addr { return c.remote }

func (l elsewhere) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	port := nc.RemoteAddr().(*net.TCPAddr).Port
	return movedConn{nc.(*net.TCPConn), &net.TCPAddr{IP: net.ParseIP(l.addr), Port: port}}, nil
}

// from serves clients that seem to come from addr and returns where they connect to.
func from(t *testing.T, s *Server, addr string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Serve(elsewhere{l, addr}) }()
	return l.Addr().String()
}

func (s *Server) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// announce opens a connection and begins a record of n bytes that never comes.
func announce(t *testing.T, addr string, n int) net.Conn {
	t.Helper()
	nc := dialRaw(t, addr)
	if _, err := nc.Write(append(words(lastFragment|uint32(n)), 1, 2, 3)); err != nil {
		t.Fatal(err)
	}
	return nc
}

// Goal: a host that begins large requests on many connections and ends none uses up its own share of
// the memory: another host's and the loopback clients' large requests are answered meanwhile. When
// it leaves, all is given back.
func TestShare_Memory(t *testing.T) {
	svc := newTestService()
	s, local := startServer(t, Options{MaxTotalBytes: 64 << 20}, svc.program()) // others 8 MiB, one of them 4
	bad, good := from(t, s, "192.0.2.7"), from(t, s, "192.0.2.8")
	var slow []net.Conn
	for range 40 {
		slow = append(slow, announce(t, bad, 1<<20))
	}
	held := func() int64 {
		s.mu.Lock()
		sh := s.shares[netip.MustParseAddr("192.0.2.7")]
		s.mu.Unlock()
		if sh == nil {
			return 0
		}
		sh.budget.mu.Lock()
		defer sh.budget.mu.Unlock()
		return sh.budget.heldBytes
	}
	waitFor(t, "40 connections, their share in use", func() bool { return s.connections() == 40 && held() > 3<<20 })
	for name, addr := range map[string]string{"another host": good, "loopback": local} {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		for range 3 {
			if _, err := dial(t, addr).Call(ctx, testProgram, 3, procEcho, nil, func(b []byte) []byte { return append(b, make([]byte, 1<<20)...) }); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		cancel()
	}
	if n := held(); n > 4<<20+2<<20 {
		t.Errorf("one host holds %d bytes, its share is 4 MiB", n)
	}
	for _, nc := range slow {
		_ = nc.Close()
	}
	waitFor(t, "the share is given back", func() bool { return held() == 0 })
	for _, b := range []*budget{s.local.budget, s.others.budget} {
		b := b
		waitFor(t, "nothing is held", func() bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.heldBytes == 0 && b.running == 0
		})
	}
}

// Goal: one host gets an eighth of the connections, all other hosts a half, loopback clients the
// rest; a host's share ends with its last connection. IPv6 hosts are told apart by /64.
func TestShare_Connections(t *testing.T) {
	svc := newTestService()
	s, local := startServer(t, Options{MaxConns: 64}, svc.program())
	open := func(addr string, want int) {
		t.Helper()
		before := s.connections()
		for range want + 5 {
			dialRaw(t, addr)
		}
		waitFor(t, fmt.Sprint(want, " connections more"), func() bool { return s.connections() == before+want })
	}
	open(from(t, s, "192.0.2.7"), 8)
	open(from(t, s, "2001:db8::1"), 8)
	extra := dialRaw(t, from(t, s, "2001:db8::ffff"))
	if _, err := extra.Read(make([]byte, 1)); err == nil {
		t.Error("another address of the same /64 has a share of its own")
	}
	open(from(t, s, "2001:db8:0:1::1"), 8)
	open(from(t, s, "192.0.2.8"), 8)
	open(from(t, s, "192.0.2.9"), 0)
	open(local, 32)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.shares) != 4 {
		t.Errorf("%d shares, want 4", len(s.shares))
	}
}

// Goal: calls on hold leave their connection's limits, which are then free for others; as many as
// may be, and no more; droppable ones half as many; their memory is bounded over all connections,
// and all is given back when they are answered.
func TestHold(t *testing.T) {
	const procHold, procHoldLater = 1, 2
	release, results := make(chan struct{}), make(chan bool, 1000)
	program := Program{Number: testProgram, Low: 3, High: 3, Handle: func(ctx context.Context, c *Call, r *Reply) AcceptStat {
		switch c.Proc {
		case procHold, procHoldLater:
			ok := c.Hold(c.Proc == procHoldLater)
			results <- ok && c.Hold(true) // again changes nothing
			select {
			case <-release:
			case <-ctx.Done():
			}
		}
		return Success
	}}
	s, addr := startServer(t, Options{MaxRequests: 16, MaxConnBytes: 1 << 20, MaxTotalBytes: 64 << 20}, program)
	var answered []chan error
	var conns []*Client
	call := func(c *Client, proc uint32, n int) {
		done := make(chan error, 1)
		answered = append(answered, done)
		go func() {
			_, err := c.Call(context.Background(), testProgram, 3, proc, nil, func(b []byte) []byte { return append(b, make([]byte, n)...) })
			done <- err
		}()
	}
	connect := func() *Client {
		c := dial(t, addr)
		conns = append(conns, c)
		return c
	}
	expect := func(what string, held, not int) {
		t.Helper()
		for range held + not {
			if <-results {
				held--
			} else {
				not--
			}
		}
		if held != 0 || not != 0 {
			t.Errorf("%s: %d more held and %d more not than there were", what, held, not)
		}
	}
	c := connect()
	for range 10 {
		call(c, procHoldLater, 0)
	}
	expect("droppable calls", 8, 2)
	for range 10 {
		call(c, procHold, 0)
	}
	expect("calls that cannot be dropped", 8, 2)
	for range 12 { // four of the 16 are under way and not on hold
		call(c, procHold, 0)
	}
	expect("with nothing more to be held", 0, 12)
	blocked := make(chan error, 1)
	go func() {
		_, err := c.Call(context.Background(), testProgram, 3, 9, nil, nil)
		blocked <- err
	}()

	// Another connection: its memory is free again although it waits with more than it may have.
	big := connect()
	for range 8 {
		call(big, procHold, 900<<10)
		expect("a large call", 1, 0)
	}
	if _, err := big.Call(context.Background(), testProgram, 3, 9, nil, nil); err != nil {
		t.Errorf("a call beside large ones on hold: %v", err)
	}
	onHold := func() int64 {
		s.local.mu.Lock()
		defer s.local.mu.Unlock()
		return s.local.heldBytes
	}
	if n := onHold(); n < 8*900<<10 || n > s.local.maxHeldBytes {
		t.Errorf("%d bytes on hold", n)
	}
	// 24 MiB may be on hold, of droppable calls 12.
	third := connect()
	for range 3 {
		call(third, procHoldLater, 1<<20)
		expect("a large droppable call", 1, 0)
	}
	call(connect(), procHoldLater, 1<<20)
	expect("one above half of what may be held", 0, 1)

	close(release)
	for _, done := range append(answered, blocked) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	waitFor(t, "all is given back", func() bool {
		s.local.budget.mu.Lock()
		defer s.local.budget.mu.Unlock()
		return s.local.budget.heldBytes == 0 && s.local.budget.running == 0 && onHold() == 0
	})
	if (&Call{}).Hold(false) {
		t.Error("a call without a connection is on hold")
	}
}

// Goal: a connection whose client has gone silently, with a reply on its way, ends in a minute, not
// in a quarter of an hour. Looked at is the socket's option.
func TestServer_UserTimeout(t *testing.T) {
	svc := newTestService()
	s, addr := startServer(t, Options{}, svc.program())
	dialRaw(t, addr)
	waitFor(t, "the connection", func() bool { return s.connections() == 1 })
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		raw, err := c.nc.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var ms int
		var got error
		err = raw.Control(func(fd uintptr) { ms, got = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT) })
		if err := errors.Join(err, got); err != nil || ms != 60_000 {
			t.Errorf("TCP_USER_TIMEOUT is %d ms, %v", ms, err)
		}
	}
}
