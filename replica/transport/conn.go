package transport

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// conn is one connection of one lane.
type conn struct {
	node NodeID
	lane lane
	wire *wire
	tls  *tls.Conn
	in   *bufio.Reader

	once sync.Once
	err  error         // why it is gone; read it after gone is closed
	gone chan struct{} // closed by fail
	done chan struct{} // closed once nothing is delivered from it any more (accepted ones)
}

const (
	readAheadBytes = 64 << 10 // of a connection that frames come in on
	idleReadBytes  = 4 << 10  // of one that only shows when it ends
)

func newConn(raw net.Conn, readBytes int) *conn {
	return &conn{
		wire: newWire(raw, readBytes),
		gone: make(chan struct{}),
		done: make(chan struct{}),
	}
}

// fail closes the connection for the reason err; the first reason is kept. It sends no TLS alert:
// that could wait for a peer that no longer reads.
func (c *conn) fail(err error) {
	c.once.Do(func() {
		c.err = err
		close(c.gone)
		c.wire.Conn.Close()
	})
}

// failWith closes the connection when ctx ends. Call the result when it ended otherwise.
func (c *conn) failWith(ctx context.Context) (forget func() bool) {
	return context.AfterFunc(ctx, func() { c.fail(context.Cause(ctx)) })
}

// reason is the first cause of the end: a reader that fails since the connection was closed on
// purpose says only that it was closed.
func (c *conn) reason() error {
	<-c.gone
	return c.err
}

// dial opens one lane to a node and exchanges hellos.
func (t *Transport) dial(ctx context.Context, node NodeID, addr string, l lane, config *tls.Config) (*conn, error) {
	dialing, cancel := context.WithTimeout(ctx, dialTimeout)
	raw, err := t.opt.Dial(dialing, addr)
	cancel()
	if err != nil {
		return nil, err
	}
	readBytes := idleReadBytes
	if l == callLane {
		readBytes = readAheadBytes
	}
	c := newConn(raw, readBytes)
	c.node, c.lane = node, l
	if err := t.greet(ctx, c, config); err != nil {
		c.fail(err)
		return nil, c.reason()
	}
	return c, nil
}

func (t *Transport) greet(ctx context.Context, c *conn, config *tls.Config) error {
	defer c.failWith(ctx)()
	if err := tune(c.wire.Conn); err != nil {
		return err
	}
	c.wire.SetDeadline(time.Now().Add(greetTimeout))
	c.tls = tls.Client(c.wire, config)
	if err := c.tls.Handshake(); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	c.in = bufio.NewReaderSize(c.tls, len(c.wire.in))
	if _, err := c.tls.Write(t.hello(c.lane, welcome).append(nil)); err != nil {
		return fmt.Errorf("send hello: %w", err)
	}
	h, err := c.readHello()
	if err != nil {
		return err
	}
	if h.status == notMember {
		return fmt.Errorf("it does not count node %d as a member (yet)", t.opt.Self)
	}
	if err := t.checkHello(h, c.node); err != nil {
		return err
	}
	if h.status != welcome || h.lane != c.lane {
		return fmt.Errorf("answered hello for the %s lane with %s, status %d", c.lane, h.lane, h.status)
	}
	c.wire.SetDeadline(time.Time{})
	return ctx.Err()
}

func (t *Transport) hello(l lane, s status) hello {
	return hello{
		min: minVersion, max: maxVersion,
		lane: l, status: s, cluster: t.trust.cluster, node: t.opt.Self,
	}
}

func (t *Transport) checkHello(h hello, node NodeID) error {
	if h.cluster != t.trust.cluster {
		return fmt.Errorf("it is of cluster %s, this is cluster %s", h.cluster, t.trust.cluster)
	}
	if h.node != node {
		return fmt.Errorf("its certificate is node %d's but it says that it is node %d", node, h.node)
	}
	return nil
}

func (c *conn) readHello() (hello, error) {
	var b [helloBytes]byte
	if _, err := io.ReadFull(c.in, b[:]); err != nil {
		return hello{}, fmt.Errorf("read hello: %w", err)
	}
	return parseHello(b[:])
}

// frameReady reports whether a whole frame can be read without waiting for the network. A frame
// larger than the read buffer never counts as ready.
func (c *conn) frameReady() bool {
	for {
		buffered := c.in.Buffered()
		if buffered >= lengthBytes {
			head, _ := c.in.Peek(lengthBytes)
			total := int64(binary.LittleEndian.Uint32(head)) + lengthBytes
			if total <= int64(buffered) || total > int64(c.in.Size()) {
				return total <= int64(buffered)
			}
		}
		if !c.wire.ready() {
			return false
		}
		if _, err := c.in.Peek(buffered + 1); err != nil {
			return false // the next read says why
		}
	}
}

// watch waits for the end of a connection on which the other side says nothing.
func (c *conn) watch() error {
	_, err := c.in.ReadByte()
	if err == nil {
		return errors.New("it sent bytes on a lane that goes the other way")
	}
	return err
}
