package transport

import (
	"bytes"
	"context"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// Goal: messages of a lane arrive whole and in order, of every size, and in batches. Method: the
// receiver is held up at its first message, so that the others are buffered when it goes on.
func TestTransport_Order(t *testing.T) { testOrder(t, func(uint64) bool { return false }) }

// Goal: messages that the sender writes itself keep their place among the others, also when the socket
// takes only a part of one; Send does not wait for it. Method: the same with prompt messages, all of them
// and every third.
func TestTransport_Prompt(t *testing.T) {
	t.Run("all", func(t *testing.T) { testOrder(t, func(uint64) bool { return true }) })
	t.Run("some", func(t *testing.T) { testOrder(t, func(i uint64) bool { return i%3 == 0 }) })

	one, two := startPair(t)
	for i := range uint64(50) {
		m := appMessage(i+1, make([]byte, 4096))
		m.Prompt = true
		one.Send(2, []Message{m})
		q := one.peer(2).queues[bulkLane-1]
		q.mu.Lock()
		if len(q.waiting) > 0 || q.writing || q.bytes != 0 {
			t.Fatalf("message %d waits on an idle connection", i)
		}
		q.mu.Unlock()
		two.seen.await(t, "the message", func() bool { return len(two.seen.raft) == int(i)+1 })
	}
}

// Goal: what the socket did not take of a prompt message follows without another Send. Method: the
// receiver is held up until one is cut.
func TestTransport_PromptCut(t *testing.T) {
	one, two := startPair(t)
	release := make(chan struct{})
	two.seen.set(func(r *recorder) { r.onRaft = func([]Message) { <-release } })
	q := one.peer(2).queues[bulkLane-1]
	sent := 0
	for cut := false; !cut; sent++ {
		m := appMessage(uint64(sent+1), make([]byte, 20_000))
		m.Prompt = true
		if one.Send(2, []Message{m}) {
			t.Fatal("dropped before the socket was full")
		}
		q.mu.Lock()
		cut = q.rest || q.writing // its goroutine is at it already
		q.mu.Unlock()
	}
	close(release)
	two.seen.await(t, "all messages", func() bool { return len(two.seen.raft) == sent })
}

func testOrder(t *testing.T, prompt func(i uint64) bool) {
	one, two := startPair(t)
	release := make(chan struct{})
	var first sync.Once
	two.seen.set(func(r *recorder) { r.onRaft = func([]Message) { first.Do(func() { <-release }) } })

	const count = 700 // some 20 MiB: less than may be queued
	sizes := []int{0, 1, 100, 4096, 20_000, directBytes - 1, directBytes, 70_000, 300_000}
	payload := bytes.Repeat([]byte("0123456789abcdef"), 20_000)
	for i := range uint64(count) {
		m := appMessage(i+1, payload[i%16:][:sizes[int(i/11)%len(sizes)]/int(1+i%3)])
		m.Prompt = prompt(i)
		if one.Send(2, []Message{m}) {
			t.Fatalf("message %d was dropped", i)
		}
	}
	close(release)
	two.seen.await(t, "all messages", func() bool { return len(two.seen.raft) == count })
	for i, m := range two.seen.raft {
		i := uint64(i)
		e := m.Raft.Entries[0]
		want := payload[i%16:][:sizes[int(i/11)%len(sizes)]/int(1+i%3)]
		if e.GetIndex() != i+1 || m.Group != 7 || !bytes.Equal(e.Data, want) {
			t.Fatalf("message %d: entry %d with %d bytes, want %d", i, e.GetIndex(), len(e.Data), len(want))
		}
	}
	if two.seen.batches >= count {
		t.Errorf("%d messages came in %d batches: none was batched", count, two.seen.batches)
	}
}

// Goal: every type of message travels, those with a snapshot too, and local ones do not.
func TestTransport_Types(t *testing.T) {
	one, two := startPair(t)
	for i, m := range sampleMessages() {
		if one.Send(2, []Message{m}) {
			t.Fatalf("message %d dropped", i)
		}
		two.seen.await(t, "the message", func() bool { return len(two.seen.raft) == i+1 })
		if !sameMessage(m, two.seen.raft[i]) {
			t.Errorf("sent %v, got %v", m, two.seen.raft[i])
		}
	}
	if !one.Send(2, []Message{plainMessage(raftpb.MessageType_MsgStorageAppend, 1)}) {
		t.Error("a local message was sent")
	}
	one.seen.awaitLog(t, "local Raft message")
}

// Goal: Send never blocks and keeps its bound; heartbeats pass a bulk lane that is stuck.
func TestTransport_Bounds(t *testing.T) {
	one, two := startPair(t)
	release := make(chan struct{})
	two.seen.set(func(r *recorder) {
		r.onRaft = func(ms []Message) {
			if ms[0].Raft.GetType() == raftpb.MessageType_MsgApp {
				<-release
			}
		}
	})
	data := make([]byte, 1<<20)
	sent := 0
	for !one.Send(2, []Message{appMessage(1, data)}) {
		if sent++; sent > 200 {
			t.Fatal("200 MiB are queued and nothing was dropped")
		}
	}
	q := one.peer(2).queues[bulkLane-1]
	q.mu.Lock()
	if q.bytes > one.opt.QueueBytes || q.bytes < one.opt.QueueBytes/2 {
		t.Errorf("%d bytes are queued, the bound is %d", q.bytes, one.opt.QueueBytes)
	}
	q.mu.Unlock()
	beat := plainMessage(raftpb.MessageType_MsgHeartbeat, 0)
	if one.Send(2, []Message{beat}) {
		t.Error("heartbeat dropped")
	}
	two.seen.await(t, "the heartbeat", func() bool {
		return slices.ContainsFunc(two.seen.raft, func(m Message) bool {
			return m.Raft.GetType() == raftpb.MessageType_MsgHeartbeat
		})
	})
	close(release)
	two.seen.await(t, "the rest", func() bool { return len(two.seen.raft) == sent+1 })
	if one.Send(2, []Message{appMessage(1, data)}) {
		t.Error("dropped though all was delivered")
	}
	if !one.Send(2, []Message{appMessage(1, make([]byte, MaxFrameBytes))}) {
		t.Error("a message larger than a frame was sent")
	}
	if !one.Send(9, []Message{beat}) {
		t.Error("sent to a node that is none")
	}
}

// Goal: a node that goes and comes back is seen going (refused, as its process is gone) and
// coming, and gets messages again.
func TestTransport_Restart(t *testing.T) {
	ca := newAuthority(t, 1)
	one := startNode(t, ca.identity(1))
	identity := ca.identity(2)
	two := startNode(t, identity)
	addr := two.addr()
	peers := map[NodeID]string{1: one.addr(), 2: addr}
	one.SetPeers(peers)
	two.SetPeers(peers)
	one.seen.awaitEvents(t, "up 2")
	two.seen.awaitEvents(t, "up 1")
	if !one.Connected(2) || one.Connected(1) {
		t.Errorf("Connected(2) = %v, Connected(1) = %v", one.Connected(2), one.Connected(1))
	}
	if err := two.Close(); err != nil {
		t.Fatal(err)
	}
	one.seen.awaitEvents(t, "up 2", "down 2 refused")
	if one.Connected(2) {
		t.Error("connected to a node that is closed")
	}
	two = startNode(t, identity, func(o *Options) { o.Listen = addr })
	two.SetPeers(peers)
	one.seen.awaitEvents(t, "up 2", "down 2 refused", "up 2")
	if one.Send(2, []Message{appMessage(5, []byte("again"))}) {
		t.Error("dropped")
	}
	two.seen.await(t, "the message", func() bool { return len(two.seen.raft) == 1 })
	if err := two.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

// Goal: a lost connection to a process that lives is no refusal, is reported once, and mended.
func TestTransport_ConnectionLost(t *testing.T) {
	one, two := startPair(t)
	two.mu.Lock()
	two.incoming[incomingKey{1, bulkLane}].wire.Conn.Close()
	two.mu.Unlock()
	one.seen.awaitEvents(t, "up 2", "down 2", "up 2")
	if one.Send(2, []Message{appMessage(5, nil)}) {
		t.Error("dropped")
	}
	two.seen.await(t, "the message", func() bool { return len(two.seen.raft) == 1 })
	if slices.Contains(two.seen.events, "down 1") {
		t.Error("the other direction was lost too")
	}
}

// Goal: SetPeers keeps what stays, drops what goes, and refuses who is no member.
func TestTransport_SetPeers(t *testing.T) {
	ca := newAuthority(t, 1)
	one, two, three := startNode(t, ca.identity(1)), startNode(t, ca.identity(2)), startNode(t, ca.identity(3))
	all := map[NodeID]string{1: one.addr(), 2: two.addr(), 3: three.addr()}
	for _, n := range []*node{one, two, three} {
		n.SetPeers(all)
	}
	one.seen.await(t, "both", func() bool { return len(one.seen.events) == 2 })
	three.seen.await(t, "both", func() bool { return len(three.seen.events) == 2 })

	one.SetPeers(map[NodeID]string{1: one.addr(), 2: two.addr()})
	one.seen.await(t, "the loss", func() bool { return one.seen.events[len(one.seen.events)-1] == "down 3" })
	three.seen.await(t, "the loss", func() bool { return slices.Contains(three.seen.events, "down 1") })
	one.seen.awaitLog(t, "node 3 has a certificate of this cluster but is not a member")
	three.seen.awaitLog(t, "does not count node 3 as a member")
	if !one.Connected(2) || slices.Contains(one.seen.events, "down 2") {
		t.Error("node 2 was dropped too")
	}
	one.SetPeers(all)
	three.seen.await(t, "node 1 again", func() bool {
		return three.seen.events[len(three.seen.events)-1] == "up 1"
	})
	one.SetPeers(nil)
	one.Close()
	one.SetPeers(all) // changes nothing any more
}

// Goal: a node that gets a new address is dialled there, by the same calls in order.
func TestTransport_NewAddress(t *testing.T) {
	ca := newAuthority(t, 1)
	one := startNode(t, ca.identity(1))
	identity := ca.identity(2)
	old, moved := startNode(t, identity), startNode(t, identity)
	peers := map[NodeID]string{1: one.addr()}
	old.SetPeers(peers)
	one.SetPeers(map[NodeID]string{2: old.addr()})
	one.seen.awaitEvents(t, "up 2")
	old.Close()
	one.seen.awaitEvents(t, "up 2", "down 2 refused")
	moved.SetPeers(peers)
	one.SetPeers(map[NodeID]string{2: moved.addr()})
	one.seen.awaitEvents(t, "up 2", "down 2 refused", "up 2")
}

// Goal: Close returns while the other end is silent in the middle of a handshake, and a dial
// that nobody answers does not hold it up either.
func TestTransport_CloseWhileDialling(t *testing.T) {
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	ca := newAuthority(t, 1)
	one := startNode(t, ca.identity(1))
	one.SetPeers(map[NodeID]string{2: mute.Addr().String()})
	raw, err := mute.Accept() // the handshake has begun
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	stranger := rawTCP(t, one.addr()) // and one the other way round
	began := time.Now()
	one.Close()
	if took := time.Since(began); took > greetTimeout/2 {
		t.Errorf("Close took %v", took)
	}
	if _, err := stranger.Read(make([]byte, 1)); err == nil {
		t.Error("the stranger got bytes")
	}
}

// Goal: no address in Options, another node's identity and no handler are errors, not panics.
func TestListen_Refused(t *testing.T) {
	ca := newAuthority(t, 1)
	r := &recorder{changed: make(chan struct{})}
	for name, opt := range map[string]Options{
		"address":  {Listen: "nowhere", Self: 1, Identity: ca.identity(1), Handler: r},
		"identity": {Listen: "127.0.0.1:0", Self: 1, Identity: ca.identity(2), Handler: r},
		"empty":    {Listen: "127.0.0.1:0", Self: 1, Identity: Identity{Node: 1}, Handler: r},
		"handler":  {Listen: "127.0.0.1:0", Self: 1, Identity: ca.identity(1)},
	} {
		if tr, err := Listen(opt); err == nil {
			tr.Close()
			t.Errorf("%s: no error", name)
		}
	}
}

// Goal: the hooks replace the network; a peer dialled over them works as over TCP.
func TestTransport_Hooks(t *testing.T) {
	ca := newAuthority(t, 1)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	two := startNode(t, ca.identity(2), func(o *Options) { o.Listener = listener })
	one := startNode(t, ca.identity(1), func(o *Options) {
		o.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			c, err := dialTCP(ctx, listener.Addr().String())
			return struct{ net.Conn }{c}, err // no TCP options on this one
		}
	})
	two.SetPeers(map[NodeID]string{1: one.addr()})
	one.SetPeers(map[NodeID]string{2: "two"})
	one.seen.awaitEvents(t, "up 2")
}
