package transport

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// silentListener accepts nothing.
type silentListener struct {
	once   sync.Once
	closed chan struct{}
}

func (l *silentListener) Accept() (net.Conn, error) {
	<-l.closed
	return nil, net.ErrClosed
}

func (l *silentListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *silentListener) Addr() net.Addr { return &net.TCPAddr{} }

// Goal: dials are spaced from 50 ms to 1 s, a kick makes the next one come at once, and the log
// gets one line however often they fail. Method: virtual time and a network that is down.
func TestPeer_Backoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var dials []time.Duration
		began := time.Now()
		count := func() int {
			mu.Lock()
			defer mu.Unlock()
			return len(dials)
		}
		one := startNode(t, newAuthority(t, 1).identity(1), func(o *Options) {
			o.Listener = &silentListener{closed: make(chan struct{})}
			o.Dial = func(context.Context, string) (net.Conn, error) {
				mu.Lock()
				defer mu.Unlock()
				dials = append(dials, time.Since(began))
				return nil, errors.New("network is down")
			}
		})
		one.SetPeers(map[NodeID]string{2: "two:1"})
		time.Sleep(10 * time.Second)
		synctest.Wait()
		var want []time.Duration
		for at, delay := time.Duration(0), minBackoff; at < 10*time.Second; delay = min(2*delay, maxBackoff) {
			want = append(want, at, at, at) // the lanes
			at += delay
		}
		mu.Lock()
		if !slices.Equal(dials, want) {
			t.Errorf("dials at %v, want %v", dials, want)
		}
		mu.Unlock()
		before := count()
		one.peer(2).kick()
		synctest.Wait()
		if count() != before+lanes {
			t.Errorf("a kick made %d dials", count()-before)
		}
		if n := strings.Count(one.seen.logged.String(), "\n"); n != 1 {
			t.Errorf("%d log lines:\n%s", n, one.seen.logged.String())
		}
		one.Close()
	})
}

// Goal: a node's new connection delivers nothing before the old one has delivered its last
// message, or a lane's order would break.
func TestRegister_WaitsForOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fresh := func() *conn {
			a, _ := net.Pipe()
			c := newConn(a, idleReadBytes)
			c.node, c.lane = 2, bulkLane
			return c
		}
		tr := &Transport{
			peers:    map[NodeID]*peer{2: {}},
			incoming: map[incomingKey]*conn{},
		}
		old, next := fresh(), fresh()
		if err := tr.register(old); err != nil {
			t.Fatal(err)
		}
		registered := make(chan error, 1)
		go func() { registered <- tr.register(next) }()
		synctest.Wait()
		select {
		case <-old.gone:
		default:
			t.Error("the old connection stays open")
		}
		if len(registered) > 0 {
			t.Fatal("the new connection did not wait for the old one")
		}
		close(old.done)
		if err := <-registered; err != nil {
			t.Fatal(err)
		}
		tr.unregister(old) // late: it must not take the new one's place away
		if tr.incoming[incomingKey{2, bulkLane}] != next {
			t.Error("the new connection is not registered")
		}
	})
}
