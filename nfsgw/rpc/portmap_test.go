package rpc

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

func portmapService(addrs ...string) Service {
	s := Service{Programs: []ProgramVersion{{100003, 3}, {100005, 3}}}
	for _, a := range append([]string{"127.0.0.1:2049"}, addrs...) {
		s.Addrs = append(s.Addrs, netip.MustParseAddrPort(a))
	}
	return s
}

// fakeRPCBind takes registrations as rpcbind does and remembers the calls.
type fakeRPCBind struct {
	mu     sync.Mutex
	calls  []uint32 // procedures
	last   []byte   // arguments
	refuse bool
}

func (f *fakeRPCBind) program() Program {
	return Program{Number: portmapProgram, Low: 2, High: 4,
		Handle: func(_ context.Context, c *Call, r *Reply) AcceptStat {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.calls = append(f.calls, c.Proc)
			f.last = append([]byte(nil), c.Args...)
			r.Body = AppendBool(r.Body, c.Proc == procSet && !f.refuse)
			return Success
		}}
}

// TestPortmap_Register: UNSET and SET for both programs at the start, UNSET at the end, over
// rpcbind's socket with universal addresses (RFC 1833 §2.1).
func TestPortmap_Register(t *testing.T) {
	f := &fakeRPCBind{}
	path := filepath.Join(t.TempDir(), "rpcbind.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(Options{}, f.program())
	go func() { _ = s.Serve(l) }()
	defer func() { _ = s.Shutdown(context.Background()) }()

	p := startPortmap(slog.New(slog.DiscardHandler), portmapService(), path, "127.0.0.1:1")
	<-p.started
	d := NewDecoder(f.last)
	if d.Uint32() != 100005 || d.Uint32() != 3 || d.String(99) != "tcp" || d.String(99) != "127.0.0.1.8.1" || d.String(99) == "" || d.End() != nil {
		t.Errorf("registered with %q", f.last)
	}
	p.Close()
	p.Close()
	want := []uint32{procUnset, procUnset, procSet, procSet, procUnset, procUnset}
	if len(f.calls) != len(want) {
		t.Fatalf("calls %v, want %v", f.calls, want)
	}
	for i := range want {
		if f.calls[i] != want[i] {
			t.Errorf("calls %v, want %v", f.calls, want)
		}
	}
}

// TestPortmap_Refused: an rpcbind that says no is reported once; nothing is served in its place.
func TestPortmap_Refused(t *testing.T) {
	f := &fakeRPCBind{refuse: true}
	_, addr := startServer(t, Options{}, f.program())
	lines := &logLines{}
	p := startPortmap(slog.New(slog.NewTextHandler(lines, nil)), portmapService(), filepath.Join(t.TempDir(), "none"), addr)
	<-p.started
	p.Close()
	if n := lines.count("level=WARN"); n != 1 || p.server != nil {
		t.Errorf("%d warnings, want 1: %s", n, lines.b.String())
	}
}

// TestPortmap_Serve: with no rpcbind GETPORT and DUMP are answered over TCP and UDP, and nobody
// can register anything.
func TestPortmap_Serve(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	_ = free.Close()
	p := startPortmap(slog.New(slog.DiscardHandler), portmapService(), filepath.Join(t.TempDir(), "none"), addr)
	defer p.Close()
	<-p.started
	if p.server == nil {
		t.Fatal("does not serve")
	}
	c := dial(t, addr)
	udp, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = udp.Close() }()
	_ = udp.SetDeadline(time.Now().Add(10 * time.Second))
	overUDP := func(vers, proc uint32, args []byte) ([]byte, error) {
		if _, err := udp.Write(append(appendCall(nil, 7, portmapProgram, vers, proc, nil), args...)); err != nil {
			return nil, err
		}
		b := make([]byte, 9000)
		n, err := udp.Read(b)
		if err != nil {
			return nil, err
		}
		return decodeReply(b[:n])
	}
	overTCP := func(vers, proc uint32, args []byte) ([]byte, error) {
		return c.Call(context.Background(), portmapProgram, vers, proc, nil, func(b []byte) []byte { return append(b, args...) })
	}
	for name, ask := range map[string]func(uint32, uint32, []byte) ([]byte, error){"tcp": overTCP, "udp": overUDP} {
		for _, tc := range []struct{ prog, vers, proto, port uint32 }{
			{100003, 3, protoTCP, 2049}, {100005, 3, protoTCP, 2049}, {100003, 3, protoUDP, 0},
			{100003, 4, protoTCP, 0}, {100021, 4, protoTCP, 0}, {portmapProgram, 2, protoUDP, 111},
		} {
			b, err := ask(2, procGetPort, appendMapping(nil, tc.prog, tc.vers, tc.proto, 0))
			if err != nil || len(b) != 4 || binary.BigEndian.Uint32(b) != tc.port {
				t.Errorf("%s: GETPORT %v: %x, %v", name, tc, b, err)
			}
		}
		if b, err := ask(2, procDump, nil); err != nil || len(b) != 4*20+4 {
			t.Errorf("%s: DUMP: %d bytes, %v", name, len(b), err)
		}
		if b, err := ask(2, procSet, appendMapping(nil, 1, 1, protoTCP, 1)); err != nil || len(b) != 4 || b[3] != 0 {
			t.Errorf("%s: SET: %x, %v", name, b, err)
		}
		if _, err := ask(2, procGetPort, words(1)); err == nil {
			t.Errorf("%s: cut GETPORT was answered", name)
		}
		if _, err := ask(4, procGetPort, nil); err == nil {
			t.Errorf("%s: version 4 was answered", name)
		}
	}
	_, _ = udp.Write([]byte("garbage"))
	if b, err := overUDP(2, 0, nil); err != nil || len(b) != 0 {
		t.Errorf("NULL after garbage: %x, %v", b, err)
	}
}

// TestPortmap_Taken: a port that somebody else has is logged once, and is not fatal.
func TestPortmap_Taken(t *testing.T) {
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	lines := &logLines{}
	p := startPortmap(slog.New(slog.NewTextHandler(lines, nil)), portmapService(), filepath.Join(t.TempDir(), "none"), l.LocalAddr().String())
	<-p.started
	p.Close()
	if n := lines.count("cannot serve the port mapper"); n != 1 {
		t.Errorf("%d warnings, want 1", n)
	}
}

// Goal: rpcbind is told one address where there is one, and to answer with the one that was asked
// where there are several; each family by itself. Our own port mapper answers at each.
func TestService_Addresses(t *testing.T) {
	for _, tc := range []struct {
		addrs  []string
		v4, v6 string
		hosts  string
	}{
		{nil, "127.0.0.1:2049", "invalid AddrPort", "[127.0.0.1]"},
		{[]string{"192.0.2.1:2049"}, "0.0.0.0:2049", "invalid AddrPort", "[127.0.0.1 192.0.2.1]"},
		{[]string{"[2001:db8::1]:2049"}, "127.0.0.1:2049", "[2001:db8::1]:2049", "[127.0.0.1 2001:db8::1]"},
		{[]string{"[::1]:2049", "[2001:db8::1]:2049"}, "127.0.0.1:2049", "[::]:2049", "[127.0.0.1 ::1 2001:db8::1]"},
		{[]string{"0.0.0.0:2049"}, "0.0.0.0:2049", "invalid AddrPort", "[0.0.0.0]"},
	} {
		s := portmapService(tc.addrs...)
		if v4, v6, hosts := s.universal(false).String(), s.universal(true).String(), fmt.Sprint(s.hosts()); v4 != tc.v4 || v6 != tc.v6 || hosts != tc.hosts {
			t.Errorf("%v: %s, %s, %s", tc.addrs, v4, v6, hosts)
		}
	}
}

// Goal: without rpcbind the port mapper answers at further addresses too; one that is taken does
// not keep it from the others.
func TestPortmap_Further(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.3:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	lines := &logLines{}
	p := startPortmap(slog.New(slog.NewTextHandler(lines, nil)), portmapService("127.0.0.2:2049", "127.0.0.3:2049", "127.0.0.4:2049"),
		filepath.Join(t.TempDir(), "none"), net.JoinHostPort("127.0.0.1", port))
	defer p.Close()
	<-p.started
	for _, host := range []string{"127.0.0.1", "127.0.0.2", "127.0.0.4"} {
		b, err := dial(t, net.JoinHostPort(host, port)).Call(context.Background(), portmapProgram, 2, procGetPort, nil,
			func(b []byte) []byte { return appendMapping(b, 100005, 3, protoTCP, 0) })
		if err != nil || binary.BigEndian.Uint32(b) != 2049 {
			t.Errorf("GETPORT at %s: %x, %v", host, b, err)
		}
	}
	if n := lines.count("cannot serve the port mapper"); n != 1 {
		t.Errorf("%d warnings, want 1", n)
	}
}
