package relay

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// pair is a client's connection and the one to the gateway that stands for it.
type pair struct {
	relay  *Relay
	client net.Conn
	port   int // the client's source port

	mu      sync.Mutex
	gateway net.Conn // nil while there is none
	over    bool     // reset was called
}

// run passes records until one side ends, and then ends the other.
func (p *pair) run() {
	r := p.relay
	defer func() {
		p.reset()
		r.mu.Lock()
		delete(r.pairs, p)
		r.mu.Unlock()
	}()
	gateway := p.connect()
	if gateway == nil {
		return
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.passReplies(gateway)
		// The gateway has gone. Who waits for a lost reply does not notice before Resend.
		if !r.held(p.port) {
			p.reset()
		}
	}()
	p.passCalls(gateway)
	p.reset()
	<-ended
}

// connect tries until the gateway takes the connection or the client is reset; nil then.
func (p *pair) connect() net.Conn {
	for {
		nc, err := p.relay.dial(p.port)
		p.mu.Lock()
		over := p.over
		if err == nil && !over {
			p.gateway = nc
		}
		p.mu.Unlock()
		switch {
		case over:
			if err == nil {
				reset(nc)
			}
			return nil
		case err == nil:
			return nc
		}
		select {
		case <-p.relay.closed:
			return nil
		case <-time.After(dialInterval):
		}
	}
}

func (p *pair) passCalls(gateway net.Conn) {
	in := bufio.NewReader(p.client)
	for {
		raw, message, err := readRecord(in)
		if err != nil {
			return
		}
		c, err := decodeCall(message)
		if err != nil {
			p.relay.fail(fmt.Errorf("relay, port %d: %w", p.port, err))
			return
		}
		p.relay.called(p.port, c)
		if _, err := gateway.Write(raw); err != nil && !p.relay.held(p.port) {
			return
		}
	}
}

func (p *pair) passReplies(gateway net.Conn) {
	in := bufio.NewReader(gateway)
	for {
		raw, message, err := readRecord(in)
		if err != nil {
			return
		}
		if !p.relay.replied(p.port, message) {
			continue
		}
		if _, err := p.client.Write(raw); err != nil {
			return
		}
	}
}

// reset ends both connections at once, as when a host dies and comes back: without TIME_WAIT, so
// that the same ports can be used again, and the gateway's first, since the client will hurry to.
func (p *pair) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	if p.gateway != nil {
		reset(p.gateway)
	}
	reset(p.client)
}

// reset closes a connection by RST; nothing happens when it is closed.
func reset(nc net.Conn) {
	if tcp, ok := nc.(*net.TCPConn); ok {
		if err := tcp.SetLinger(0); errors.Is(err, net.ErrClosed) {
			return
		}
	}
	_ = nc.Close()
}
