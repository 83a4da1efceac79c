// Package relay stands between NFS clients and a gateway and loses replies on demand: the call was
// carried out, and its client never hears of it and sends it again over a new connection.
//
// The gateway sees each client by the relay's own address and the client's source port, the same
// again after every reconnection, as it would see a client of its own: that, with the xid, is what a
// server knows a retransmission by. So all clients of a relay must be on one host.
//
// It must never change, delay or reorder anything but what it was told to lose.
//
// Floor 6: imports nfsgw/nfs3 and nfsgw/rpc.
package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/willscott/go-nfs"
)

// dialInterval is how often the gateway is tried while it is away. The client is not refused
// meanwhile: neither does a node whose systemd holds the NFS socket.
const dialInterval = 20 * time.Millisecond

// Loss is a reply that was lost, and what became of its call.
type Loss struct {
	Call     string        // Drop's name
	First    nfs.NFSStatus // what the lost reply said
	Again    int           // how often the client has sent the call again
	Answered bool          // it has got a reply to that
	Last     nfs.NFSStatus // what this one said

	port int    // the client's source port
	xid  uint32 // with port: which call
	lost bool   // the reply has come, and was swallowed
	free bool   // Resend was called: replies pass
}

// Relay passes records on, both ways. Its methods may be called by one goroutine, beside Close.
type Relay struct {
	listener net.Listener
	dial     func(clientPort int) (net.Conn, error)
	work     sync.WaitGroup
	closed   chan struct{}

	mu      sync.Mutex
	armed   []string
	losses  []*Loss // since the last Drop
	pairs   map[*pair]struct{}
	err     error         // the first thing that went wrong
	changed chan struct{} // closed, and made anew, whenever a loss or err changes
}

// Open starts a relay for the clients that l accepts, which it then owns. dial connects to the
// gateway, from the client's source port and always the same address.
func Open(l net.Listener, dial func(clientPort int) (net.Conn, error)) *Relay {
	r := &Relay{
		listener: l, dial: dial, closed: make(chan struct{}),
		pairs: map[*pair]struct{}{}, changed: make(chan struct{}),
	}
	r.work.Go(r.accept)
	return r
}

// Close ends all connections. May be called once.
func (r *Relay) Close() error {
	close(r.closed)
	err := r.listener.Close()
	r.mu.Lock()
	for p := range r.pairs {
		p.reset()
	}
	r.mu.Unlock()
	r.work.Wait()
	return err
}

func (r *Relay) accept() {
	for {
		nc, err := r.listener.Accept()
		if err != nil {
			return // closed
		}
		p := &pair{relay: r, client: nc, port: nc.RemoteAddr().(*net.TCPAddr).Port}
		r.mu.Lock()
		r.pairs[p] = struct{}{}
		select {
		case <-r.closed: // Close may have looked at the pairs before
			p.reset()
		default:
		}
		r.mu.Unlock()
		r.work.Go(p.run)
	}
}

// Drop makes the relay swallow the reply to the next call of each of these names (nameOf). Losses
// of before are forgotten; they must have been answered.
func (r *Relay) Drop(names ...string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return r.err
	}
	if open := r.waiting(func(l *Loss) bool { return l.Answered }); open != "" {
		return fmt.Errorf("calls are still under way: %s", open)
	}
	r.armed, r.losses = slices.Clone(names), nil
	return nil
}

// Dropped waits until the reply to every call that Drop named has come and was swallowed.
func (r *Relay) Dropped(ctx context.Context) ([]Loss, error) {
	return r.await(ctx, "a reply to lose", func(l *Loss) bool { return l.lost })
}

// Resend resets the connections of the clients that wait for a lost reply, so that they send their
// calls again, and waits until every call has got its reply.
func (r *Relay) Resend(ctx context.Context) ([]Loss, error) {
	r.mu.Lock()
	for _, l := range r.losses {
		l.free = true
		for p := range r.pairs {
			if p.port == l.port {
				p.reset()
			}
		}
	}
	r.mu.Unlock()
	return r.await(ctx, "a reply to the call sent again", func(l *Loss) bool { return l.Answered })
}

// await waits until all calls that were armed have come and done holds for each.
func (r *Relay) await(ctx context.Context, what string, done func(*Loss) bool) ([]Loss, error) {
	for {
		r.mu.Lock()
		open, err, changed := r.waiting(done), r.err, r.changed
		var all []Loss
		for _, l := range r.losses {
			all = append(all, *l)
		}
		r.mu.Unlock()
		switch {
		case err != nil:
			return all, err
		case open == "":
			return all, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return all, fmt.Errorf("waiting for %s: %w: %s", what, ctx.Err(), open)
		}
	}
}

// waiting names the calls that have not come, or for which done does not hold.
func (r *Relay) waiting(done func(*Loss) bool) string {
	open := slices.Clone(r.armed)
	for _, l := range r.losses {
		if !done(l) {
			open = append(open, l.Call)
		}
	}
	return strings.Join(open, " ")
}

// change tells those who wait to look again.
func (r *Relay) change() {
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *Relay) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = errors.Join(r.err, err)
	r.change()
}

// called takes note of a call on its way to the gateway.
func (r *Relay) called(port int, c call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.find(port, c.xid); l != nil && l.Call == c.name {
		l.Again++
		return
	}
	if i := slices.Index(r.armed, c.name); i >= 0 {
		r.armed = slices.Delete(r.armed, i, i+1)
		r.losses = append(r.losses, &Loss{Call: c.name, port: port, xid: c.xid})
	}
}

// replied reports whether a reply is to be passed on to its client.
func (r *Relay) replied(port int, message []byte) bool {
	xid, status, err := decodeReply(message)
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.find(port, xid)
	if l == nil {
		return true
	}
	if err != nil {
		r.err = errors.Join(r.err, fmt.Errorf("%s, from port %d: %w", l.Call, port, err))
	}
	switch {
	case !l.lost:
		l.lost, l.First = true, status
	case l.free:
		l.Answered, l.Last = true, status
	}
	r.change()
	return l.Answered
}

func (r *Relay) find(port int, xid uint32) *Loss {
	for _, l := range r.losses {
		if l.port == port && l.xid == xid {
			return l
		}
	}
	return nil
}

// held reports whether a client is to wait for a reply that was lost.
func (r *Relay) held(port int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.losses, func(l *Loss) bool { return l.port == port && !l.free })
}
