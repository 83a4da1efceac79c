package transport

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
)

// accept takes in connections until the transport is closed.
func (t *Transport) accept() {
	config := t.trust.listenConfig()
	full := false
	for {
		raw, err := t.listener.Accept()
		if t.isClosed() {
			if err == nil {
				raw.Close()
			}
			return
		}
		if err != nil { // out of descriptors, most likely: it may pass
			t.log.Error("cannot accept a connection from another node; trying on", "event", "accept-failed", "err", err)
			select {
			case <-time.After(minBackoff):
			case <-t.ctx.Done():
			}
			continue
		}
		select {
		case t.greeting <- struct{}{}:
			full = false
			t.running.Go(func() { t.accepted(raw, config) })
		default:
			raw.Close()
			if !full {
				t.log.Warn("too many connections at once; closing new ones",
					"event", "connections-crowded", "remote", raw.RemoteAddr().String(), "most", maxHandshakes)
			}
			full = true
		}
	}
}

// accepted greets a connection and then serves it until it is gone.
func (t *Transport) accepted(raw net.Conn, config *tls.Config) {
	c := newConn(raw, readAheadBytes)
	defer c.failWith(t.ctx)()
	defer close(c.done)
	h, request, err := t.welcome(c, config)
	<-t.greeting
	if request != nil {
		c.fail(t.serveJoin(c, request))
		return
	}
	if err == nil {
		err = t.register(c)
	}
	if err == nil {
		defer t.unregister(c)
		err = c.answerHello(t.hello(h.lane, welcome))
	}
	if err == nil {
		if p := t.peer(c.node); p != nil {
			p.kick()
		}
		if c.lane == callLane {
			err = t.serveCalls(c)
		} else {
			err = t.receive(c)
		}
		if !errors.Is(err, errGarbage) {
			c.fail(err)
			t.log.Debug("connection ended", "peer", c.node, "lane", c.lane.String(), "err", c.reason())
			return
		}
	}
	c.fail(err)
	if t.ctx.Err() == nil && err != errQuietly {
		t.log.Warn("closed a connection", "event", "connection-refused", "remote", raw.RemoteAddr().String(), "peer", c.node, "err", err)
	}
}

// errQuietly closes a connection about which the log says enough.
var errQuietly = errors.New("not a member")

// welcome does the TLS handshake and reads the hello of a member, or the request of a node that
// wants to become one (then request is not nil).
func (t *Transport) welcome(c *conn, config *tls.Config) (h hello, request []byte, err error) {
	if err := tune(c.wire.Conn); err != nil {
		return h, nil, err
	}
	c.wire.SetDeadline(time.Now().Add(greetTimeout))
	c.tls = tls.Server(c.wire, config)
	if err := c.tls.Handshake(); err != nil {
		return h, nil, fmt.Errorf("TLS handshake: %w", err)
	}
	state := c.tls.ConnectionState()
	c.in = bufio.NewReaderSize(c.tls, readAheadBytes)
	if state.NegotiatedProtocol == joinALPN {
		request, err = readJoin(c.in)
		return h, request, err
	}
	_, c.node, err = parseNodeURI(state.PeerCertificates[0]) // verified by the handshake
	if err != nil {
		return h, nil, err
	}
	if h, err = c.readHello(); err != nil {
		// Tell it what this node speaks, so that its log can say the same.
		return h, nil, errors.Join(err, c.answerHello(t.hello(beatLane, welcome)))
	}
	c.lane = h.lane
	return h, nil, t.checkHello(h, c.node)
}

func (c *conn) answerHello(h hello) error {
	if _, err := c.tls.Write(h.append(nil)); err != nil {
		return fmt.Errorf("send hello: %w", err)
	}
	c.wire.SetDeadline(time.Time{})
	return nil
}

// register makes c the only connection of its node and lane: the one before is closed, and has
// delivered its last message when register returns, so that messages stay in order.
func (t *Transport) register(c *conn) error {
	key := incomingKey{c.node, c.lane}
	t.mu.Lock()
	if t.peers[c.node] == nil {
		known := t.strange[c.node]
		t.strange[c.node] = true
		t.mu.Unlock()
		c.answerHello(t.hello(c.lane, notMember))
		if known {
			return errQuietly
		}
		return fmt.Errorf("node %d has a certificate of this cluster but is not a member (yet)", c.node)
	}
	old := t.incoming[key]
	t.incoming[key] = c
	t.mu.Unlock()
	if old != nil {
		old.fail(errors.New("the node connected again"))
		<-old.done
	}
	return nil
}

func (t *Transport) unregister(c *conn) {
	key := incomingKey{c.node, c.lane}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.incoming[key] == c {
		delete(t.incoming, key)
	}
}

// receive delivers a Raft lane's messages until the connection is gone.
func (t *Transport) receive(c *conn) error {
	var batch []Message
	for {
		m, size, err := readRaft(c.in)
		if err != nil {
			return err
		}
		batch = append(batch, m)
		for err == nil && len(batch) < maxBatch && size < maxBatchBytes && c.frameReady() {
			var n int
			if m, n, err = readRaft(c.in); err == nil {
				batch = append(batch, m)
				size += n
			}
		}
		t.opt.Handler.Raft(c.node, batch)
		clear(batch)
		batch = batch[:0]
		if err != nil {
			return err
		}
	}
}

// serveJoin answers the request of a node that is no member.
func (t *Transport) serveJoin(c *conn, request []byte) error {
	ctx, cancel := context.WithTimeout(t.ctx, joinTimeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	c.wire.SetDeadline(deadline)
	body, err := t.join(ctx, c, request)
	if err != nil {
		t.log.Warn("a join failed", "event", "join-failed", "remote", c.wire.RemoteAddr().String(), "err", err)
	}
	if err := writeJoinAnswer(c.tls, body, err); err != nil {
		return err
	}
	return c.tls.Close()
}

func (t *Transport) join(ctx context.Context, c *conn, request []byte) ([]byte, error) {
	select {
	case t.joins <- struct{}{}:
		defer func() { <-t.joins }()
	default:
		return nil, errors.New("other nodes are joining right now: try again in a few seconds")
	}
	if t.opt.Join == nil {
		return nil, errors.New("this node takes no joins: ask another node of the cluster")
	}
	return t.opt.Join(ctx, c.wire.RemoteAddr(), request)
}
