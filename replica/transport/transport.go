// Package transport carries Raft messages and calls between the nodes of a cluster, over mutual
// TLS and nothing else. It holds the connections, the frames on them, and the certificates that
// say who is who. It must never hand over bytes from a peer whose certificate it has not checked,
// never block a sender of Raft messages, and never queue without a bound.
//
// Raft messages may be lost (Raft sends again) but arrive in order and whole. A call is answered,
// or fails with an error that says whether the other node can have seen it.
//
// Floor 1: imports nothing of trinas.
package transport

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// NodeID names a node of the cluster; the same number is its Raft id in every group. 0 is no node.
type NodeID = uint64

// Message is one Raft message of one group, with the lease fields that ride on heartbeats.
type Message struct {
	Group uint64
	Raft  *raftpb.Message
	Round int64  // MsgHeartbeat: when the leader sent it, by its own clock; MsgHeartbeatResp: echoed
	Free  uint64 // MsgHeartbeatResp: bytes the sender's disk can still take
	Slow  bool   // MsgHeartbeatResp: the sender's log is slow, and it should not lead

	// Prompt: nothing else is about to be sent. Send then writes it itself, if the connection is idle
	// and takes it at once; it does not travel.
	Prompt bool
}

// Handler is what the transport delivers to. Its methods are called from goroutines of the
// transport and must not call Transport.Close.
type Handler interface {
	// Raft gets messages in the order in which they were sent on their lane; the lanes of one
	// peer call it concurrently. All messages found buffered come in one call. The slice is used
	// again after return; the messages, and the entries' data, belong to the handler.
	Raft(from NodeID, ms []Message)
	// Call answers one request by appending to reply, in a goroutine of its own. req may be used until
	// it returns; reply goes back to the transport with the answer. An error travels as text and
	// comes out of Transport.Call at the other end as *RemoteError. ctx ends when the caller gives
	// up or its connection is gone; Call must return soon after.
	Call(ctx context.Context, from NodeID, req []byte, reply []byte) ([]byte, error)
	// AnswerBytes is about the most that Call will append to answer req, however long that is: memory for
	// it is set aside before Call is called, and reply has the room.
	AnswerBytes(req []byte) int
	// PeerUp says that all lanes to node are connected.
	PeerUp(node NodeID)
	// PeerDown says that a connection to node was lost, once per PeerUp. refused: connecting
	// again was refused, so the process is probably gone (a firewall that rejects looks the same).
	PeerDown(node NodeID, refused bool)
}

// Options configure Listen. Identity and Handler are required.
type Options struct {
	Listen   string // TCP address "host:port"; not used when Listener is set
	Self     NodeID
	Identity Identity
	Handler  Handler
	Log      *slog.Logger // nil: nothing is logged
	// Join answers the request of a node that is not a member yet and has no certificate: nothing
	// is known about who asks. Its error travels as text. nil: joins are refused.
	Join func(ctx context.Context, remote net.Addr, request []byte) ([]byte, error)

	// What is kept in memory, at most: messages queued for one other node (default 32 MiB), and the
	// requests of all other nodes that are being answered, with their answers (default 64 MiB; each node
	// has an equal part). One message, and one request of each node, may be larger.
	QueueBytes, AnsweringBytes int

	// Dial and Listener replace the TCP network, for tests and for sockets made by others. Dial's
	// error matches syscall.ECONNREFUSED when nobody listens.
	Dial     func(ctx context.Context, addr string) (net.Conn, error)
	Listener net.Listener
}

// Limits of the protocol and of what is kept in memory.
const (
	MaxFrameBytes = 16 << 20 // one frame: a Raft message, a request or an answer, with its header
	MaxJoinBytes  = 64 << 10 // a join's request

	MaxJoinAnswerBytes = 1 << 20

	beatQueueBytes  = 1 << 20  // the same for its beat lane
	maxCalls        = 1024     // unanswered calls to one peer; more wait
	maxCallBytes    = 64 << 20 // bytes of their requests
	maxServing      = 256      // goroutines that answer one connection's calls
	maxHandshakes   = 128      // accepted connections that have not said who they are
	maxJoins        = 4        // joins answered at once
	maxBatch        = 256      // messages in one Handler.Raft
	maxBatchBytes   = 4 << 20  // bytes of frames in one Handler.Raft, but for the last
	flushBytes      = 256 << 10
	dialTimeout     = time.Second
	greetTimeout    = 3 * time.Second // TLS handshake and hello
	joinTimeout     = 10 * time.Second
	hintTimeout     = 250 * time.Millisecond // after a loss: how long PeerDown waits for a refusal
	minBackoff      = 50 * time.Millisecond
	maxBackoff      = time.Second
	steadyAfter     = time.Second // a connection that lived so long is redialled without delay
	quickRedials    = 3           // short-lived connections in a row that are redialled without delay
	unackedTimeout  = 5 * time.Second
	keepAliveIdle   = 2 * time.Second
	maxFailureBytes = 4 << 10 // of an error's text
)

var (
	// ErrNotConnected: there is no connection to the node. It has seen nothing of the call.
	ErrNotConnected = errors.New("not connected")
	// ErrBroken: the connection was lost after the request was sent. Whether the node has carried
	// it out is unknown.
	ErrBroken = errors.New("connection lost before the answer came")
	// ErrTooLarge: a request or an answer exceeds MaxFrameBytes.
	ErrTooLarge = errors.New("larger than a frame")
)

// RemoteError is the error that the other node's handler returned.
type RemoteError struct {
	Node NodeID // 0: the answer to a join
	Text string
}

func (e *RemoteError) Error() string {
	if e.Node == 0 {
		return e.Text
	}
	return fmt.Sprintf("node %d: %s", e.Node, e.Text)
}

// Transport is one node's end of all connections of its cluster. Its methods may be called
// concurrently.
type Transport struct {
	opt      Options
	log      *slog.Logger
	trust    *trust
	listener net.Listener
	pool     pool
	ctx      context.Context // ends at Close
	stop     context.CancelFunc
	running  sync.WaitGroup
	greeting chan struct{} // a slot per accepted connection that has not said who it is
	joins    chan struct{} // a slot per join being answered

	mu       sync.RWMutex
	closed   bool
	peers    map[NodeID]*peer
	retired  map[NodeID]<-chan struct{} // closed when the node's last dropped peer has ended
	incoming map[incomingKey]*conn
	strange  map[NodeID]bool // nodes without membership that were logged since the last SetPeers
}

type incomingKey struct {
	node NodeID
	lane lane
}

// Listen opens the node's end. It answers from now on; it dials once SetPeers has named peers.
func Listen(opt Options) (*Transport, error) {
	if opt.Handler == nil {
		return nil, errors.New("transport: no handler")
	}
	if opt.Self == 0 || opt.Self != opt.Identity.Node {
		return nil, fmt.Errorf("transport: this is node %d but its identity is node %d's: "+
			"use the data directory of this node", opt.Self, opt.Identity.Node)
	}
	trust, err := newTrust(opt.Identity)
	if err != nil {
		return nil, fmt.Errorf("transport: %w", err)
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	opt.QueueBytes = cmp.Or(opt.QueueBytes, 32<<20)
	opt.AnsweringBytes = cmp.Or(opt.AnsweringBytes, 64<<20)
	if opt.Dial == nil {
		opt.Dial = dialTCP
	}
	listener := opt.Listener
	if listener == nil {
		if listener, err = net.Listen("tcp", opt.Listen); err != nil {
			return nil, fmt.Errorf("listen for other nodes on %s: %w", opt.Listen, err)
		}
	}
	t := &Transport{
		opt:      opt,
		log:      opt.Log,
		trust:    trust,
		listener: listener,
		greeting: make(chan struct{}, maxHandshakes),
		joins:    make(chan struct{}, maxJoins),
		peers:    make(map[NodeID]*peer),
		retired:  make(map[NodeID]<-chan struct{}),
		incoming: make(map[incomingKey]*conn),
		strange:  make(map[NodeID]bool),
	}
	t.ctx, t.stop = context.WithCancel(context.Background())
	t.running.Go(t.accept)
	return t, nil
}

// Addr is the address that the transport listens on.
func (t *Transport) Addr() net.Addr { return t.listener.Addr() }

// SetPeers names all other nodes and their addresses "host:port". Connections to nodes that keep
// their address stay; those of nodes that are gone are dropped, and such nodes are refused from
// now on. An entry for the node itself is ignored.
func (t *Transport) SetPeers(addrs map[NodeID]string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	clear(t.strange)
	for id, p := range t.peers {
		if addrs[id] == p.addr {
			continue
		}
		delete(t.peers, id)
		t.retired[id] = p.ended
		p.stop()
	}
	for key, c := range t.incoming {
		if _, ok := addrs[key.node]; !ok {
			c.fail(errors.New("the node was removed from the cluster"))
		}
	}
	for id, addr := range addrs {
		if t.peers[id] != nil || id == t.opt.Self || id == 0 {
			continue
		}
		t.peers[id] = t.startPeer(id, addr, t.retired[id])
		delete(t.retired, id)
	}
}

// Send queues Raft messages for a node and never blocks. It reports whether any was dropped, as
// the node is not connected or its queue is full; messages that were queued may be lost all the
// same. The messages and what they point to must not change any more.
func (t *Transport) Send(to NodeID, ms []Message) (dropped bool) {
	p := t.peer(to)
	if p == nil {
		return len(ms) > 0
	}
	return p.send(ms)
}

// Call sends parts, joined, as one request and returns the answer, which belongs to the caller, who may
// give it to Free.
// The parts' memory is the caller's again on return. It waits while too many calls to the node
// are unanswered. Errors: ErrNotConnected (nothing was sent), ErrBroken (outcome unknown),
// ctx.Err() (outcome unknown), ErrTooLarge, or the other node's *RemoteError.
func (t *Transport) Call(ctx context.Context, to NodeID, parts ...[]byte) ([]byte, error) {
	p := t.peer(to)
	if p == nil {
		return nil, fmt.Errorf("call node %d: %w", to, ErrNotConnected)
	}
	return p.calls.call(ctx, parts)
}

// Free takes the memory of an answer back, for another one; nobody may use it any more. An answer that is
// never given to it is left to the garbage collector.
func (t *Transport) Free(answer []byte) { t.pool.put(&buffer{b: answer}) }

// Connected reports whether all lanes to the node are connected.
func (t *Transport) Connected(node NodeID) bool {
	p := t.peer(node)
	return p != nil && p.connected()
}

// Close drops all connections and returns once the handler is no longer called. It may be called
// twice.
func (t *Transport) Close() error {
	t.mu.Lock()
	first := !t.closed
	t.closed = true
	t.mu.Unlock()
	var err error
	if first {
		err = t.listener.Close() // before the connections, so that who dials again is refused
		t.stop()
	}
	t.running.Wait()
	return err
}

// answeringShare is what one node's requests may take while they are being answered.
func (t *Transport) answeringShare() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.opt.AnsweringBytes / max(1, len(t.peers))
}

func (t *Transport) isClosed() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.closed
}

func (t *Transport) peer(id NodeID) *peer {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.peers[id]
}
