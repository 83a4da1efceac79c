package rpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"
)

const testProgram = 300000

// Procedures of the test program.
const (
	procEcho    = 1 // answers its arguments
	procBlock   = 2 // waits for release or ctx
	procPanic   = 3
	procGarbage = 4
	procBig     = 5 // answers as many bytes as its first argument says
	procRoom    = 6 // answers what Room gives for its opaque argument
)

type testService struct {
	mu       sync.Mutex
	running  int
	peak     int
	ended    int // procBlock calls that ended because of ctx
	release  chan struct{}
	entered  chan struct{} // one value per procBlock call
	finished chan struct{} // one value per procBlock call
}

func newTestService() *testService {
	return &testService{release: make(chan struct{}), entered: make(chan struct{}, 10000), finished: make(chan struct{}, 10000)}
}

func (s *testService) counts() (peak, ended int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peak, s.ended
}

func (s *testService) program() Program {
	return Program{Number: testProgram, Low: 2, High: 3, Handle: s.handle, ReplyBytes: func(c *Call) int {
		if c.Proc == procBig {
			d := NewDecoder(c.Args)
			return int(min(d.Uint32(), 1<<20))
		}
		return 0
	}}
}

func (s *testService) handle(ctx context.Context, call *Call, reply *Reply) AcceptStat {
	switch call.Proc {
	case procEcho:
		reply.Reserve(len(call.Args))
		reply.Body = append(reply.Body, call.Args...)
	case procBlock:
		s.mu.Lock()
		s.running++
		s.peak = max(s.peak, s.running)
		s.mu.Unlock()
		s.entered <- struct{}{}
		select {
		case <-s.release:
		case <-ctx.Done():
			s.mu.Lock()
			s.ended++
			s.mu.Unlock()
		}
		s.mu.Lock()
		s.running--
		s.mu.Unlock()
		s.finished <- struct{}{}
		reply.Body = append(reply.Body, call.Args...)
	case procPanic:
		panic("boom")
	case procGarbage:
		reply.Body = append(reply.Body, "not to be sent!!"...)
		return GarbageArgs
	case procBig:
		d := NewDecoder(call.Args)
		n := int(min(d.Uint32(), 1<<20))
		reply.Reserve(n)
		reply.Body = reply.Body[:n]
	case procRoom:
		d := NewDecoder(call.Args)
		data := d.Opaque(1 << 20)
		room := call.Room(data)
		if len(data) > 0 && len(room) < Headroom+len(data) {
			return SystemErr
		}
		for i := range room[:len(room)-len(data)] {
			room[i] = 0xee
		}
		reply.Body = AppendOpaque(reply.Body, data)
	default:
		return ProcUnavail
	}
	return Success
}

// startServer serves program on loopback until the test ends.
func startServer(t testing.TB, opt Options, programs ...Program) (*Server, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(opt, programs...)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		_ = s.Shutdown(ctx)
		if err := <-served; !errors.Is(err, ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
	return s, l.Addr().String()
}

func dial(t testing.TB, addr string) *Client {
	t.Helper()
	c, err := Dial(context.Background(), "tcp", addr, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func dialRaw(t testing.TB, addr string) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	return nc
}

// record frames b as one fragment.
func record(b []byte) []byte {
	return append(AppendUint32(nil, lastFragment|uint32(len(b))), b...)
}

func words(vs ...uint32) (b []byte) {
	for _, v := range vs {
		b = AppendUint32(b, v)
	}
	return b
}

// TestServer_Replies sends calls and compares whole replies with RFC 5531 §9, byte by byte.
func TestServer_Replies(t *testing.T) {
	s := newTestService()
	_, addr := startServer(t, Options{}, s.program())
	sys := func(machine string, gids ...uint32) []byte {
		body := AppendOpaque(words(7), machine)
		body = append(body, words(append([]uint32{10, 20, uint32(len(gids))}, gids...)...)...)
		return append(words(AuthSys, uint32(len(body))), body...)
	}
	none := words(0, 0)
	call := func(prog, vers, proc uint32, cred, verf []byte, args ...uint32) []byte {
		b := append(words(99, msgCall, 2, prog, vers, proc), cred...)
		return append(append(b, verf...), words(args...)...)
	}
	accepted := func(stat AcceptStat, results ...uint32) []byte {
		return append(words(99, 1, 0, 0, 0, uint32(stat)), words(results...)...)
	}
	long := make([]byte, 404)
	for _, tc := range []struct {
		name       string
		call, want []byte
	}{
		{"null", call(testProgram, 3, 0, none, none), accepted(Success)},
		{"null of the lower version", call(testProgram, 2, 0, none, none), accepted(Success)},
		{"echo", call(testProgram, 3, procEcho, none, none, 5, 6), accepted(Success, 5, 6)},
		{"auth sys", call(testProgram, 3, procEcho, sys("host"), none, 5), accepted(Success, 5)},
		{"16 groups", call(testProgram, 3, procEcho, sys("h", make([]uint32, 16)...), none, 5), accepted(Success, 5)},
		{"program", call(1, 3, 0, none, none), accepted(ProgUnavail)},
		{"version above", call(testProgram, 4, 1, none, none), accepted(ProgMismatch, 2, 3)},
		{"version below", call(testProgram, 1, 0, none, none), accepted(ProgMismatch, 2, 3)},
		{"procedure", call(testProgram, 3, 77, none, none), accepted(ProcUnavail)},
		{"garbage arguments", call(testProgram, 3, procGarbage, none, none), accepted(GarbageArgs)},
		{"panic", call(testProgram, 3, procPanic, none, none), accepted(SystemErr)},
		{"rpc version", words(99, msgCall, 3, testProgram, 3, 0, 0, 0, 0, 0), words(99, 1, 1, 0, 2, 2)},
		{"17 groups", call(testProgram, 3, 1, sys("h", make([]uint32, 17)...), none), words(99, 1, 1, 1, 1)},
		{"long machine name", call(testProgram, 3, 1, sys(string(long[:256])), none), words(99, 1, 1, 1, 1)},
		{"cut credential", call(testProgram, 3, 1, words(AuthSys, 4, 0), none), words(99, 1, 1, 1, 1)},
		{"unknown flavor", call(testProgram, 3, 1, words(6, 0), none), words(99, 1, 1, 1, 1)},
		{"short flavor", call(testProgram, 3, 1, words(AuthShort, 0), none), words(99, 1, 1, 1, 2)},
		{"long credential", call(testProgram, 3, 1, append(words(0, 404), long...), none), words(99, 1, 1, 1, 1)},
		{"long verifier", call(testProgram, 3, 1, none, append(words(0, 404), long...)), words(99, 1, 1, 1, 3)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			nc := dialRaw(t, addr)
			if _, err := nc.Write(record(tc.call)); err != nil {
				t.Fatal(err)
			}
			got, err := readReply(nc)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, tc.want) {
				t.Errorf("reply\n%x, want\n%x", got, tc.want)
			}
		})
	}
}

// TestServer_Garbage sends what is no call: the connection closes, others go on.
func TestServer_Garbage(t *testing.T) {
	s := newTestService()
	_, addr := startServer(t, Options{}, s.program())
	for name, b := range map[string][]byte{
		"http":         []byte("GET / HTTP/1.1\r\n\r\n"),
		"empty record": record(nil),
		"reply":        record(words(1, msgReply, 0, 0, 0, 0)),
		"cut header":   record(words(1, 0, 2, testProgram)),
		"cut cred":     record(words(1, 0, 2, testProgram, 3, 0, 0, 100, 0)),
		"no verifier":  record(words(1, 0, 2, testProgram, 3, 0, 0, 0)),
	} {
		nc := dialRaw(t, addr)
		if _, err := nc.Write(b); err != nil {
			t.Fatal(err)
		}
		if n, err := nc.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("%s: answered", name)
		}
	}
	if _, err := dial(t, addr).Call(context.Background(), testProgram, 3, 0, nil, nil); err != nil {
		t.Error(err)
	}
}

// TestServer_Fragments sends a call in fragments of one byte, and one with empty fragments
// (RFC 5531 §11).
func TestServer_Fragments(t *testing.T) {
	s := newTestService()
	_, addr := startServer(t, Options{}, s.program())
	payload := bytes.Repeat([]byte("abcd"), 700)
	call := append(appendCall(nil, 5, testProgram, 3, procEcho, nil), payload...)
	var ones []byte
	for i, c := range call {
		mark := uint32(1)
		if i == len(call)-1 {
			mark |= lastFragment
		}
		ones = append(AppendUint32(ones, mark), c)
	}
	empties := append(words(0, 0, uint32(len(call))), call...)
	empties = append(empties, words(0, lastFragment)...)
	for name, b := range map[string][]byte{"ones": ones, "empties": empties} {
		nc := dialRaw(t, addr)
		if _, err := nc.Write(b); err != nil {
			t.Fatal(err)
		}
		got, err := readReply(nc)
		if err != nil || !bytes.Equal(got[24:], payload) {
			t.Fatalf("%s: %d bytes, %v", name, len(got), err)
		}
		_, _ = nc.Write(record(appendCall(nil, 6, testProgram, 3, 0, nil)))
		if got, err = readReply(nc); err != nil || binary.BigEndian.Uint32(got) != 6 {
			t.Fatalf("%s: the next call: %x, %v", name, got, err)
		}
	}
}

// logLines is a slog output that counts lines.
type logLines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logLines) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.b.Bytes(), []byte(part))
}

// TestServer_TooLong: a record above the limit, in one fragment or in sum, closes the connection
// with one log line; one at the limit is answered.
func TestServer_TooLong(t *testing.T) {
	s := newTestService()
	lines := &logLines{}
	_, addr := startServer(t, Options{MaxRecordBytes: 4096, Log: slog.New(slog.NewTextHandler(lines, nil))}, s.program())
	head := appendCall(nil, 1, testProgram, 3, procEcho, nil)
	fits := append(head, make([]byte, 4096-len(head))...)
	nc := dialRaw(t, addr)
	_, _ = nc.Write(record(fits))
	if _, err := readReply(nc); err != nil {
		t.Fatal(err)
	}
	for i, b := range [][]byte{
		words(lastFragment | 4097),
		words(0x7fffffff),
		append(append(words(4000), fits[:4000]...), words(lastFragment|97)...),
	} {
		nc := dialRaw(t, addr)
		_, _ = nc.Write(b)
		if _, err := nc.Read(make([]byte, 1)); err == nil {
			t.Errorf("record %d was answered", i)
		}
	}
	waitFor(t, "three log lines", func() bool { return lines.count("record too long") == 3 })
}

// waitFor polls a condition that other goroutines bring about.
func waitFor(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// TestServer_Concurrent: calls of one connection run at the same time, at most MaxRequests, and
// a later one may be answered first, with its own xid.
func TestServer_Concurrent(t *testing.T) {
	s := newTestService()
	_, addr := startServer(t, Options{MaxRequests: 4}, s.program())
	c := dial(t, addr)
	const calls = 20
	results := make(chan error, calls)
	for i := range calls {
		go func() {
			b, err := c.Call(context.Background(), testProgram, 3, procBlock, nil, func(b []byte) []byte {
				return AppendUint32(b, uint32(i))
			})
			if err == nil && binary.BigEndian.Uint32(b) != uint32(i) {
				err = errors.New("another call's reply")
			}
			results <- err
		}()
		if i == 2 {
			for range 3 {
				<-s.entered
			}
			// Three are stuck; the fourth place still answers.
			if _, err := c.Call(context.Background(), testProgram, 3, procEcho, nil, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	<-s.entered
	close(s.release)
	for range calls {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if peak, _ := s.counts(); peak != 4 {
		t.Errorf("%d calls ran at the same time, limit 4", peak)
	}
}

// TestServer_Order: a call that is stuck does not hold up a later one.
func TestServer_Order(t *testing.T) {
	s := newTestService()
	_, addr := startServer(t, Options{}, s.program())
	nc := dialRaw(t, addr)
	_, _ = nc.Write(record(appendCall(nil, 1, testProgram, 3, procBlock, nil)))
	<-s.entered
	_, _ = nc.Write(record(appendCall(nil, 2, testProgram, 3, procEcho, nil)))
	for _, want := range []uint32{2, 1} {
		got, err := readReply(nc)
		if err != nil || binary.BigEndian.Uint32(got) != want {
			t.Fatalf("%x, %v; want xid %d", got, err, want)
		}
		if want == 2 {
			close(s.release)
		}
	}
}

// TestServer_Bytes: requests whose replies would exceed the connection's memory are not started,
// and all are answered in the end; a connection that takes nothing off its hands is closed.
func TestServer_Bytes(t *testing.T) {
	s := newTestService()
	srv, addr := startServer(t, Options{MaxConnBytes: 4 << 20, MaxTotalBytes: 16 << 20, WriteTimeout: 300 * time.Millisecond}, s.program())
	var wg sync.WaitGroup
	for range 3 {
		c := dial(t, addr)
		for range 12 {
			wg.Go(func() {
				b, err := c.Call(context.Background(), testProgram, 3, procBig, nil, func(b []byte) []byte { return AppendUint32(b, 1<<20) })
				if err != nil || len(b) != 1<<20 {
					t.Errorf("%d bytes, %v", len(b), err)
				}
			})
		}
	}
	wg.Wait()

	slow := dialRaw(t, addr)
	_ = slow.(*net.TCPConn).SetReadBuffer(4096)
	go func() {
		for i := range uint32(200) {
			call := append(appendCall(nil, i, testProgram, 3, procBig, nil), words(1<<20)...)
			if _, err := slow.Write(record(call)); err != nil {
				return
			}
		}
	}()
	held := func() (conns int, bytes int64) {
		srv.mu.Lock()
		defer srv.mu.Unlock()
		srv.local.budget.mu.Lock()
		defer srv.local.budget.mu.Unlock()
		return len(srv.conns), srv.local.budget.heldBytes
	}
	waitFor(t, "the slow reader holds memory", func() bool {
		_, b := held()
		return b > 2<<20
	})
	if _, b := held(); b > 6<<20 {
		t.Errorf("%d bytes held, limit 6 MiB", b)
	}
	waitFor(t, "the slow reader is closed, its memory free", func() bool {
		n, b := held()
		return n == 3 && b == 0
	})
}

// TestServer_Progress: when records alone fill the budget, they are still answered, one by one.
func TestServer_Progress(t *testing.T) {
	s := newTestService()
	_, addr := startServer(t, Options{MaxTotalBytes: 1 << 10, MaxConnBytes: 1 << 10}, s.program())
	var wg sync.WaitGroup
	for range 8 {
		c := dial(t, addr)
		for range 8 {
			wg.Go(func() {
				if _, err := c.Call(context.Background(), testProgram, 3, procBig, nil, func(b []byte) []byte { return AppendUint32(b, 100_000) }); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
}

// TestServer_Conns: connections above the limit are closed, and there is room again when one
// leaves.
func TestServer_Conns(t *testing.T) {
	s := newTestService()
	_, addr := startServer(t, Options{MaxConns: 300}, s.program())
	null := record(appendCall(nil, 1, testProgram, 3, 0, nil))
	var conns []net.Conn
	for range 300 {
		nc := dialRaw(t, addr)
		_, _ = nc.Write(null)
		conns = append(conns, nc)
	}
	for _, nc := range conns {
		if _, err := readReply(nc); err != nil {
			t.Fatal(err)
		}
	}
	extra := dialRaw(t, addr)
	if _, err := extra.Read(make([]byte, 1)); err == nil {
		t.Error("one connection too many is served")
	}
	_ = conns[0].Close()
	waitFor(t, "room for another", func() bool {
		nc := dialRaw(t, addr)
		defer func() { _ = nc.Close() }()
		_, _ = nc.Write(null)
		_, err := readReply(nc)
		return err == nil
	})
}

// TestServer_Gone: a handler's context ends when its client leaves, also when the server, at its
// limits, does not read the connection.
func TestServer_Gone(t *testing.T) {
	s := newTestService()
	_, addr := startServer(t, Options{MaxRequests: 2}, s.program())
	for _, calls := range []int{1, 5} {
		nc := dialRaw(t, addr)
		for i := range calls {
			_, _ = nc.Write(record(appendCall(nil, uint32(i), testProgram, 3, procBlock, nil)))
		}
		for range min(calls, 2) {
			<-s.entered
		}
		_ = nc.Close()
		for range min(calls, 2) {
			<-s.finished
		}
	}
	if _, ended := s.counts(); ended != 3 {
		t.Errorf("%d contexts ended, want 3", ended)
	}
}

// TestServer_Shutdown: what is under way is answered, then the connection closes; when the time
// is up contexts end instead.
func TestServer_Shutdown(t *testing.T) {
	for _, patient := range []bool{true, false} {
		s := newTestService()
		srv, addr := startServer(t, Options{}, s.program())
		idle, busy := dialRaw(t, addr), dialRaw(t, addr)
		_, _ = busy.Write(record(appendCall(nil, 9, testProgram, 3, procBlock, nil)))
		<-s.entered
		ctx, cancel := context.WithCancel(context.Background())
		down := make(chan error, 1)
		go func() { down <- srv.Shutdown(ctx) }()
		if _, err := idle.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("idle connection: %v", err)
		}
		if patient {
			close(s.release)
			if got, err := readReply(busy); err != nil || binary.BigEndian.Uint32(got) != 9 {
				t.Errorf("reply during shutdown: %x, %v", got, err)
			}
			if err := <-down; err != nil {
				t.Error(err)
			}
		} else {
			cancel()
			if err := <-down; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			if _, ended := s.counts(); ended != 1 {
				t.Error("the handler's context did not end")
			}
		}
		cancel()
		if _, err := net.Dial("tcp", addr); err == nil {
			t.Error("the listener is open")
		}
	}
}

// TestServer_Privileged: with PrivilegedPorts other clients get NULL and nothing else.
func TestServer_Privileged(t *testing.T) {
	s := newTestService()
	_, addr := startServer(t, Options{PrivilegedPorts: true}, s.program())
	c := dial(t, addr)
	if _, err := c.Call(context.Background(), testProgram, 3, 0, nil, nil); err != nil {
		t.Error(err)
	}
	_, err := c.Call(context.Background(), testProgram, 3, procEcho, nil, nil)
	if e, ok := errors.AsType[*ReplyError](err); !ok || !e.Denied || e.Auth != AuthTooWeak {
		t.Errorf("from a high port: %v", err)
	}
	root, err := Dial(context.Background(), "tcp", addr, true)
	if err != nil {
		t.Skip("no privileged port to be had: ", err)
	}
	defer func() { _ = root.Close() }()
	if _, err := root.Call(context.Background(), testProgram, 3, procEcho, nil, nil); err != nil {
		t.Error(err)
	}
}

// TestCall_Room: the memory before a payload can be overwritten, for records of every buffer size.
func TestCall_Room(t *testing.T) {
	s := newTestService()
	_, addr := startServer(t, Options{}, s.program())
	c := dial(t, addr)
	for _, n := range []int{0, 1, 100, 4096, 65536, 1 << 20} {
		data := bytes.Repeat([]byte{7}, n)
		got, err := c.Call(context.Background(), testProgram, 3, procRoom, nil, func(b []byte) []byte { return AppendOpaque(b, data) })
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		d := NewDecoder(got)
		if !bytes.Equal(d.Opaque(1<<20), data) || d.End() != nil {
			t.Errorf("%d bytes came back changed", n)
		}
	}
}

// TestServer_HalfRecord: a record that begins and does not end is given up.
func TestServer_HalfRecord(t *testing.T) {
	s := newTestService()
	_, addr := startServer(t, Options{RecordTimeout: 30 * time.Millisecond}, s.program())
	for _, b := range [][]byte{{0x80}, words(lastFragment | 1000), append(words(8), words(1, 0)...)} {
		nc := dialRaw(t, addr)
		_, _ = nc.Write(b)
		if _, err := nc.Read(make([]byte, 1)); err == nil {
			t.Error("answered")
		}
	}
}

func BenchmarkServer_Null(b *testing.B) {
	s := newTestService()
	_, addr := startServer(b, Options{}, s.program())
	nc := dialRaw(b, addr)
	_ = nc.SetDeadline(time.Time{})
	call := record(appendCall(nil, 1, testProgram, 3, procEcho, nil))
	reply := make([]byte, 28)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := nc.Write(call); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(nc, reply); err != nil {
			b.Fatal(err)
		}
	}
}
