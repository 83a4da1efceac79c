package transport

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// authority is a cluster's CA for one test.
type authority struct {
	tb        testing.TB
	cluster   ClusterID
	cert, key []byte
}

func newAuthority(tb testing.TB, first byte) *authority {
	tb.Helper()
	a := &authority{tb: tb, cluster: ClusterID{first, 2, 3}}
	var err error
	if a.cert, a.key, err = NewCA(a.cluster, "test cluster"); err != nil {
		tb.Fatal(err)
	}
	return a
}

func (a *authority) identity(node NodeID) Identity {
	a.tb.Helper()
	key, csr, err := NewKey()
	if err != nil {
		a.tb.Fatal(err)
	}
	cert, err := SignNode(a.cert, a.key, csr, node, a.cluster)
	if err != nil {
		a.tb.Fatal(err)
	}
	return Identity{Cluster: a.cluster, Node: node, CA: a.cert, Cert: cert, Key: key}
}

// recorder is a Handler that keeps what it is told, in order.
type recorder struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced when something is added
	raft    []Message
	batches int
	events  []string // "up 2", "down 2 refused"
	logged  bytes.Buffer

	silent bool // keep no messages
	onRaft func([]Message)
	onCall func(ctx context.Context, from NodeID, req, reply []byte) ([]byte, error)
}

// set changes fields.
func (r *recorder) set(f func(r *recorder)) { r.note(func() { f(r) }) }

func (r *recorder) note(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *recorder) Raft(from NodeID, ms []Message) {
	r.mu.Lock()
	silent, onRaft := r.silent, r.onRaft
	r.mu.Unlock()
	if onRaft != nil {
		onRaft(ms)
	}
	if silent {
		return
	}
	r.note(func() {
		r.raft = append(r.raft, ms...)
		r.batches++
	})
}

func (r *recorder) Call(ctx context.Context, from NodeID, req, reply []byte) ([]byte, error) {
	r.mu.Lock()
	onCall := r.onCall
	r.mu.Unlock()
	if onCall != nil {
		return onCall(ctx, from, req, reply)
	}
	return append(reply, req...), nil
}

func (r *recorder) AnswerBytes(req []byte) int { return len(req) }

func (r *recorder) PeerUp(node NodeID) {
	r.note(func() { r.events = append(r.events, fmt.Sprintf("up %d", node)) })
}

func (r *recorder) PeerDown(node NodeID, refused bool) {
	event := fmt.Sprintf("down %d", node)
	if refused {
		event += " refused"
	}
	r.note(func() { r.events = append(r.events, event) })
}

// Write takes log lines.
func (r *recorder) Write(p []byte) (int, error) {
	r.note(func() { r.logged.Write(p) })
	return len(p), nil
}

// await waits until cond, called under the lock, is true.
func (r *recorder) await(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	deadline := time.After(10 * time.Second)
	for {
		r.mu.Lock()
		ok, changed := cond(), r.changed
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			r.mu.Lock()
			defer r.mu.Unlock()
			tb.Fatalf("gave up waiting for %s; events %q; log:\n%s", what, r.events, r.logged.String())
		}
	}
}

func (r *recorder) awaitEvents(tb testing.TB, want ...string) {
	tb.Helper()
	r.await(tb, fmt.Sprintf("events %q", want), func() bool { return fmt.Sprint(r.events) == fmt.Sprint(want) })
}

func (r *recorder) awaitLog(tb testing.TB, text string) {
	tb.Helper()
	r.await(tb, "log line "+text, func() bool { return strings.Contains(r.logged.String(), text) })
}

// node is a transport with its recorder.
type node struct {
	*Transport
	seen *recorder
	id   NodeID
}

func (n *node) addr() string { return n.Addr().String() }

func startNode(tb testing.TB, identity Identity, change ...func(*Options)) *node {
	tb.Helper()
	r := &recorder{changed: make(chan struct{})}
	opt := Options{
		Listen:   "127.0.0.1:0",
		Self:     identity.Node,
		Identity: identity,
		Handler:  r,
		Log:      slog.New(slog.NewTextHandler(r, nil)),
	}
	for _, f := range change {
		f(&opt)
	}
	t, err := Listen(opt)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { t.Close() })
	return &node{Transport: t, seen: r, id: identity.Node}
}

// startPair connects nodes 1 and 2.
func startPair(tb testing.TB) (one, two *node) {
	tb.Helper()
	ca := newAuthority(tb, 1)
	one = startNode(tb, ca.identity(1))
	two = startNode(tb, ca.identity(2))
	one.SetPeers(map[NodeID]string{2: two.addr()})
	two.SetPeers(map[NodeID]string{1: one.addr()})
	one.seen.awaitEvents(tb, "up 2")
	two.seen.awaitEvents(tb, "up 1")
	return one, two
}

// appMessage is a MsgApp with one entry.
func appMessage(index uint64, data []byte) Message {
	return Message{Group: 7, Raft: &raftpb.Message{
		Type: raftpb.MessageType_MsgApp.Enum(), To: new(uint64(2)), From: new(uint64(1)), Term: new(uint64(3)),
		LogTerm: new(uint64(3)), Index: new(index - 1), Commit: new(index - 1),
		Entries: []*raftpb.Entry{{Type: raftpb.EntryType_EntryNormal.Enum(), Term: new(uint64(3)), Index: &index, Data: data}},
	}}
}

func plainMessage(kind raftpb.MessageType, index uint64) Message {
	return Message{Group: 7, Raft: &raftpb.Message{
		Type: &kind, To: new(uint64(1)), From: new(uint64(2)), Term: new(uint64(3)), Index: &index,
	}}
}

// rawTCP dials without TLS.
func rawTCP(tb testing.TB, addr string) net.Conn {
	tb.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}
