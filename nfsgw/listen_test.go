package nfsgw

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"trinas/nfsgw/nfs3"
)

// logText is a log that a test can look at while it grows.
type logText struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logText) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.b.Bytes(), []byte(part))
}

func (g *gateway) answersAt(addr string) bool {
	c, err := nfs3.Dial(context.Background(), addr, "test", false)
	if err != nil {
		return false
	}
	defer func() { _ = c.Close() }()
	return c.Null(context.Background()) == nil
}

// Goal: a further address that cannot be had holds up neither the start nor the others, is warned
// of once, and is served as soon as it can be; one that no interface has yet is listened on at once.
func TestListen_Further(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := taken.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	log := &logText{}
	begun := time.Now()
	g := startGateway(t, Options{Further: []string{addr, "127.0.0.3:" + port, "192.0.2.77:" + port}, Log: slog.New(slog.NewTextHandler(log, nil))})
	if d := time.Since(begun); d > 5*time.Second {
		t.Errorf("the start took %v", d)
	}
	await := func(what string, cond func() bool) {
		t.Helper()
		for end := time.Now().Add(15 * time.Second); !cond(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("never: %s; log: %s", what, log.b.String())
			}
		}
	}
	await("the free address is served", func() bool { return g.answersAt("127.0.0.3:" + port) })
	await("the address that is not up is listened on", func() bool { return len(g.server.Addrs()) == 3 })
	if !g.answersAt(g.addr) {
		t.Error("the own address does not answer")
	}
	await("the warning", func() bool { return log.count("cannot listen for other hosts") == 1 })
	time.Sleep(2 * furtherRetry) // more tries, no more warnings
	_ = taken.Close()
	await("the address that became free is served", func() bool { return g.answersAt(addr) })
	if n, m := log.count("cannot listen for other hosts"), log.count("no interface of this host"); n != 1 || m != 1 {
		t.Errorf("%d and %d warnings, want one each: %s", n, m, log.b.String())
	}
}
