package rpc

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
)

// maxReplyBytes bounds the replies that a Client takes.
const maxReplyBytes = 4 << 20

// ReplyError is a reply that is not Success.
type ReplyError struct {
	Denied bool       // the call was denied: Auth says why; 0 means another RPC version
	Auth   AuthStat   // when denied
	Accept AcceptStat // when accepted
}

func (e *ReplyError) Error() string {
	switch {
	case e.Denied && e.Auth != 0:
		return fmt.Sprintf("rpc call denied, auth_stat %d", e.Auth)
	case e.Denied:
		return "rpc call denied: RPC version mismatch"
	}
	return fmt.Sprintf("rpc call failed, accept_stat %d", e.Accept)
}

// Client makes calls over one connection. Any number of goroutines may call at the same time.
type Client struct {
	nc   net.Conn
	done chan struct{} // closed when the receiver has ended

	writeMu sync.Mutex // one record at a time
	out     []byte

	mu      sync.Mutex
	xid     uint32
	pending map[uint32]chan []byte
	err     error // why no further call is possible
}

// Dial connects to an RPC server. With privileged the source port is below 1024, which takes
// CAP_NET_BIND_SERVICE. network is "tcp" or "unix".
func Dial(ctx context.Context, network, address string, privileged bool) (*Client, error) {
	var d net.Dialer
	if !privileged || network == "unix" {
		nc, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return NewClient(nc), nil
	}
	var err error
	for port := 1023; port >= 512; port-- {
		d.LocalAddr = &net.TCPAddr{Port: port}
		var nc net.Conn
		if nc, err = d.DialContext(ctx, network, address); err == nil {
			return NewClient(nc), nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) && !errors.Is(err, syscall.EADDRNOTAVAIL) {
			break
		}
	}
	return nil, err
}

// NewClient makes calls over nc, which it then owns.
func NewClient(nc net.Conn) *Client {
	c := &Client{nc: nc, pending: map[uint32]chan []byte{}, done: make(chan struct{})}
	go c.receive()
	return c
}

// Close ends the connection and fails the calls under way.
func (c *Client) Close() error {
	err := c.nc.Close()
	<-c.done
	return err
}

// Call makes one call and returns its results, which are the caller's. args appends the
// arguments, XDR. cred nil is AUTH_NONE. The error is a *ReplyError when the server answered
// with one.
func (c *Client) Call(ctx context.Context, prog, vers, proc uint32, cred *Cred,
	args func([]byte) []byte) ([]byte, error) {
	answer := make(chan []byte, 1)
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return nil, c.err
	}
	c.xid++
	xid := c.xid
	c.pending[xid] = answer
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.pending, xid)
		c.mu.Unlock()
	}()

	c.writeMu.Lock()
	b := appendCall(append(c.out[:0], 0, 0, 0, 0), xid, prog, vers, proc, cred)
	if args != nil {
		b = args(b)
	}
	binary.BigEndian.PutUint32(b, lastFragment|uint32(len(b)-markBytes))
	c.out = b
	_, err := c.nc.Write(b)
	c.writeMu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("send rpc call: %w", err)
	}
	select {
	case record, ok := <-answer:
		if !ok {
			c.mu.Lock()
			defer c.mu.Unlock()
			return nil, c.err
		}
		return decodeReply(record)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// receive gives replies to whoever waits for them; a reply that nobody waits for is dropped.
func (c *Client) receive() {
	defer close(c.done)
	in := bufio.NewReaderSize(c.nc, 64<<10)
	var err error
	for err == nil {
		var record []byte
		if record, err = readReply(in); err != nil || len(record) < 4 {
			continue
		}
		xid := binary.BigEndian.Uint32(record)
		c.mu.Lock()
		if answer := c.pending[xid]; answer != nil {
			delete(c.pending, xid)
			answer <- record
		}
		c.mu.Unlock()
	}
	_ = c.nc.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = fmt.Errorf("rpc connection to %s lost: %w", c.nc.RemoteAddr(), err)
	for xid, answer := range c.pending {
		delete(c.pending, xid)
		close(answer)
	}
}

// readReply reads one record of any number of fragments.
func readReply(in io.Reader) ([]byte, error) {
	var record []byte
	for {
		var mark [markBytes]byte
		if _, err := io.ReadFull(in, mark[:]); err != nil {
			return nil, err
		}
		v := binary.BigEndian.Uint32(mark[:])
		n := int(v &^ lastFragment)
		if n > maxReplyBytes-len(record) {
			return nil, ErrRecordTooLong
		}
		at := len(record)
		record = append(record, make([]byte, n)...)
		if _, err := io.ReadFull(in, record[at:]); err != nil {
			return nil, err
		}
		if v&lastFragment != 0 {
			return record, nil
		}
	}
}

// decodeReply checks a reply's header and returns the results.
func decodeReply(record []byte) ([]byte, error) {
	d := NewDecoder(record)
	d.Uint32() // xid
	if d.Uint32() != msgReply {
		return nil, fmt.Errorf("rpc reply: %w", ErrXDR)
	}
	if d.Uint32() == replyDenied {
		e := &ReplyError{Denied: true}
		if d.Uint32() == authError {
			e.Auth = AuthStat(d.Uint32())
		}
		return nil, e
	}
	d.Uint32()
	d.Opaque(maxAuthBytes)
	stat := AcceptStat(d.Uint32())
	if err := d.Err(); err != nil {
		return nil, fmt.Errorf("rpc reply: %w", err)
	}
	if stat != Success {
		return nil, &ReplyError{Accept: stat}
	}
	return d.Rest(), nil
}
