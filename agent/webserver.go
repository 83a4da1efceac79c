package main

import (
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// webServer is an HTTP server beside the agent's work: it may fail without the agent, and is closed at
// once at the end.
type webServer struct {
	http  *http.Server
	ended chan struct{}
}

// maxWebConns is how many connections a webServer has at once; more are closed.
const maxWebConns = 32

// serveWeb answers on l, which it closes. failed is told why it ended by itself.
func serveWeb(l net.Listener, handler http.Handler, failed func(error)) *webServer {
	s := &webServer{http: &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 30 * time.Second,
		MaxHeaderBytes: 16 << 10}, ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		if err := s.http.Serve(&boundedListener{Listener: l, slots: make(chan struct{}, maxWebConns)}); !errors.Is(err, http.ErrServerClosed) {
			failed(err)
		}
	}()
	return s
}

// stop closes all connections. s may be nil.
func (s *webServer) stop() error {
	if s == nil {
		return nil
	}
	err := s.http.Close()
	<-s.ended
	return err
}

// boundedListener closes connections beyond its slots as soon as they are there.
type boundedListener struct {
	net.Listener
	slots chan struct{}
}

// Accept is net.Listener's.
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.slots <- struct{}{}:
			return &boundedConn{Conn: conn, free: sync.OnceFunc(func() { <-l.slots })}, nil
		default:
			conn.Close() // the client is told by a broken connection, and asks again
		}
	}
}

type boundedConn struct {
	net.Conn
	free func()
}

func (c *boundedConn) Close() error {
	defer c.free()
	return c.Conn.Close()
}
