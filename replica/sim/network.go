// Package sim runs whole clusters in one process, in virtual time (testing/synctest), over disks
// in memory that can crash and a network that delays, loses and partitions. Tests only: nothing of
// the product imports it, and it fakes nothing but disk, network and clock.
//
// Floor 3.
package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"go.etcd.io/raft/v3/raftpb"

	"trinas/replica"
	"trinas/replica/transport"
)

// Network connects the nodes of a Cluster. Messages between two nodes keep their order and are
// delayed by 0.1 to 1 ms, unless their way is cut or the weather is bad.
type Network struct {
	mu      sync.Mutex
	rand    *rand.Rand
	ends    map[uint64]*endpoint
	join    map[string]replica.JoinHandler // by address
	cut     map[[2]uint64]bool             // from, to
	hung    map[uint64]bool
	older   map[uint64]bool // SetOlder
	weather Weather
	paused  map[uint64]chan struct{} // by node; closed when it goes on
}

// Weather is how bad the whole network is: probabilities, for each sending of messages or call.
type Weather struct {
	Lose      float64       // a call that is lost fails at once, as when its connection breaks
	Duplicate float64       // messages only: they come twice
	Delay     float64       // they come up to MaxDelay later, and others pass them
	MaxDelay  time.Duration // of those
}

// SetWeather changes the weather; the zero Weather is fine.
func (n *Network) SetWeather(w Weather) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.weather = w
}

// Pause holds up what a node sends and receives until Resume: nothing of it is lost.
func (n *Network) Pause(node uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.paused[node] == nil {
		n.paused[node] = make(chan struct{})
	}
}

// Resume undoes Pause.
func (n *Network) Resume(node uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.paused[node] != nil {
		close(n.paused[node])
		delete(n.paused, node)
	}
}

// awaitResumed returns when none of the nodes is paused, or ctx ends.
func (n *Network) awaitResumed(ctx context.Context, nodes ...uint64) {
	for _, id := range nodes {
		n.mu.Lock()
		paused := n.paused[id]
		n.mu.Unlock()
		if paused != nil {
			select {
			case <-paused:
			case <-ctx.Done():
			}
		}
	}
}

// fate decides what becomes of something sent: how often it comes, 0 when it is lost, and by how much
// it is late.
func (n *Network) fate() (copies int, late time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	w := n.weather
	if w == (Weather{}) {
		return 1, 0
	}
	if n.rand.Float64() < w.Lose {
		return 0, 0
	}
	copies = 1
	if n.rand.Float64() < w.Duplicate {
		copies = 2
	}
	if n.rand.Float64() < w.Delay {
		late = time.Duration(n.rand.Int64N(int64(w.MaxDelay)))
	}
	return copies, late
}

func newNetwork(seed uint64) *Network {
	return &Network{
		rand: rand.New(rand.NewPCG(seed, 1)),
		ends: map[uint64]*endpoint{}, join: map[string]replica.JoinHandler{}, cut: map[[2]uint64]bool{}, hung: map[uint64]bool{},
		older:  map[uint64]bool{},
		paused: map[uint64]chan struct{}{},
	}
}

// endpoint is one running node's Network.
type endpoint struct {
	net     *Network
	self    uint64
	address string
	handler transport.Handler
	ctx     context.Context // ends when the node stops
	stop    context.CancelFunc
	running sync.WaitGroup

	mu    sync.Mutex
	links map[uint64]chan delivery
}

type delivery struct {
	at time.Time
	ms []transport.Message
}

// linkQueue bounds what is under way between two nodes; beyond it messages are lost.
const linkQueue = 4096

func (n *Network) attach(address string) func(uint64, transport.Handler, replica.JoinHandler) (replica.Network, error) {
	return func(self uint64, h transport.Handler, admit replica.JoinHandler) (replica.Network, error) {
		e := &endpoint{net: n, self: self, address: address, handler: h, links: map[uint64]chan delivery{}}
		e.ctx, e.stop = context.WithCancel(context.Background())
		n.mu.Lock()
		n.ends[self] = e
		n.join[address] = admit
		others := n.others(self)
		n.mu.Unlock()
		for _, o := range others {
			o.running.Go(func() { o.handler.PeerUp(self) })
		}
		return e, nil
	}
}

func (n *Network) others(self uint64) (out []*endpoint) {
	for id, e := range n.ends {
		if id != self {
			out = append(out, e)
		}
	}
	return out
}

// Cut stops everything that from sends to to; Heal lets it pass again.
func (n *Network) Cut(from, to uint64) { n.set(from, to, true) }

// Heal undoes Cut.
func (n *Network) Heal(from, to uint64) { n.set(from, to, false) }

// Isolate cuts a node off from all others, both ways; Rejoin undoes it.
func (n *Network) Isolate(node uint64) { n.isolate(node, true) }

// Refuse makes the others believe that node's process is gone, as a firewall that rejects does.
func (n *Network) Refuse(node uint64) {
	n.mu.Lock()
	others := n.others(node)
	n.mu.Unlock()
	for _, o := range others {
		o.running.Go(func() { o.handler.PeerDown(node, true) })
	}
}

// Hang makes a node's process stand still, as SIGSTOP does, for all that the others can see: connections stay, and
// nothing comes over them.
func (n *Network) Hang(node uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hung[node] = true
}

// WakeUp undoes Hang. What was sent meanwhile is lost.
func (n *Network) WakeUp(node uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.hung, node)
}

// silent reports whether one of two nodes hangs.
func (n *Network) silent(a, b uint64) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.hung[a] || n.hung[b]
}

// Rejoin undoes Isolate.
func (n *Network) Rejoin(node uint64) { n.isolate(node, false) }

func (n *Network) isolate(node uint64, cut bool) {
	for id := uint64(1); id <= 16; id++ {
		if id != node {
			n.set(node, id, cut)
			n.set(id, node, cut)
		}
	}
}

func (n *Network) set(from, to uint64, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[[2]uint64{from, to}] = cut
}

// target is the node that a message gets to, nil when it does not, and its delay.
func (n *Network) target(from, to uint64) (*endpoint, time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cut[[2]uint64{from, to}] {
		return nil, 0
	}
	return n.ends[to], 100*time.Microsecond + time.Duration(n.rand.IntN(900))*time.Microsecond
}

func (e *endpoint) SetPeers(map[uint64]string) {}

// Free: the garbage collector does it.
func (e *endpoint) Free([]byte) {}

func (e *endpoint) Connected(to uint64) bool {
	out, _ := e.net.target(e.self, to)
	back, _ := e.net.target(to, e.self)
	return out != nil && back != nil
}

// Send queues copies.
func (e *endpoint) Send(to uint64, ms []transport.Message) (dropped bool) {
	target, delay := e.net.target(e.self, to)
	if target == nil {
		return true
	}
	copies, late := e.net.fate()
	if copies == 0 {
		return false // lost on the way: nobody is told
	}
	d := delivery{at: time.Now().Add(delay), ms: cloned(ms)}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx.Err() != nil {
		return true
	}
	link := e.links[to]
	if link == nil {
		link = make(chan delivery, linkQueue)
		e.links[to] = link
		e.running.Go(func() { e.carry(to, link) })
	}
	if copies == 2 {
		again := delivery{at: d.at.Add(late), ms: cloned(ms)}
		e.running.Go(func() { e.deliver(to, again) })
	} else if late > 0 {
		d.at = d.at.Add(late)
		e.running.Go(func() { e.deliver(to, d) })
		return false
	}
	select {
	case link <- d:
		return false
	default:
		return true
	}
}

// cloned are copies of messages, as a real network would make them.
func cloned(ms []transport.Message) []transport.Message {
	out := make([]transport.Message, len(ms))
	for i, m := range ms {
		m.Raft = proto.Clone(m.Raft).(*raftpb.Message)
		out[i] = m
	}
	return out
}

// deliver delivers what e has sent when its time has come.
func (e *endpoint) deliver(to uint64, d delivery) {
	select {
	case <-time.After(time.Until(d.at)):
	case <-e.ctx.Done():
		return
	}
	e.net.awaitResumed(e.ctx, e.self, to)
	if target, _ := e.net.target(e.self, to); target != nil && !e.net.silent(e.self, to) && target.ctx.Err() == nil && e.ctx.Err() == nil {
		taken := make(chan struct{}) // which waits for the target's disk now and then
		target.running.Go(func() {
			defer close(taken)
			target.handler.Raft(e.self, d.ms)
		})
		select {
		case <-taken:
		case <-e.ctx.Done():
		}
	}
}

// carry delivers what e sends to one other node, in order.
func (e *endpoint) carry(to uint64, link chan delivery) {
	for {
		select {
		case d := <-link:
			e.deliver(to, d)
		case <-e.ctx.Done():
			return
		}
	}
}

var errUnreachable = errors.New("unreachable")

func (e *endpoint) Call(ctx context.Context, to uint64, parts ...[]byte) ([]byte, error) {
	target, delay := e.net.target(e.self, to)
	if target == nil || e.ctx.Err() != nil {
		return nil, transport.ErrNotConnected
	}
	var req []byte
	for _, p := range parts {
		req = append(req, p...)
	}
	type answer struct {
		b   []byte
		err error
	}
	got := make(chan answer, 1)
	arrives, late := e.net.fate()
	if arrives == 0 {
		time.Sleep(delay)
		return nil, errUnreachable
	}
	target.running.Go(func() {
		time.Sleep(delay + late)
		if e.net.silent(e.self, to) {
			return
		}
		e.net.awaitResumed(target.ctx, e.self, to)
		callCtx, cancel := context.WithCancel(target.ctx)
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		b, err := []byte(nil), errOlder
		if !e.net.isOlder(to) && !e.net.isOlder(e.self) || req[0] < firstNewCall {
			b, err = target.handler.Call(callCtx, e.self, req, nil)
		}
		if err != nil {
			err = &transport.RemoteError{Node: to, Text: err.Error()}
		}
		back, delay := e.net.target(to, e.self)
		if back == nil || e.net.silent(e.self, to) || target.ctx.Err() != nil {
			return // the answer is lost
		}
		time.Sleep(delay)
		if comes, _ := e.net.fate(); comes == 0 {
			b, err = nil, errUnreachable // it was carried out, and the connection breaks
		}
		e.net.awaitResumed(target.ctx, e.self, to)
		got <- answer{b, err}
	})
	// A lost answer shows when the connection breaks.
	lost := time.NewTimer(5 * time.Second)
	defer lost.Stop()
	select {
	case a := <-got:
		return a.b, a.err
	case <-target.ctx.Done():
		return nil, errUnreachable
	case <-e.ctx.Done():
		return nil, errUnreachable
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-lost.C:
		return nil, errUnreachable
	}
}

// A node of an older version does not know calls from firstNewCall on (callVerify of replica/do.go), and says so. It makes
// none either: so it verifies nothing when it becomes primary.
const firstNewCall = 10

var errOlder = errors.New("unknown call: the sender runs a newer version; upgrade this node")

// SetOlder makes a node call and answer as an older version does, or not any more.
func (n *Network) SetOlder(node uint64, older bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.older[node] = older
}

func (n *Network) isOlder(node uint64) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.older[node]
}

// unplug ends all deliveries to and from a node that is about to be closed.
func (n *Network) unplug(node uint64) {
	n.mu.Lock()
	e := n.ends[node]
	n.mu.Unlock()
	if e != nil {
		e.mu.Lock()
		e.stop()
		e.mu.Unlock()
	}
}

// Close takes the node off the network. The others see its connections refused.
func (e *endpoint) Close() error {
	e.net.mu.Lock()
	if e.net.ends[e.self] == e {
		delete(e.net.ends, e.self)
		delete(e.net.join, e.address)
	}
	others := e.net.others(e.self)
	e.net.mu.Unlock()
	e.mu.Lock()
	e.stop()
	e.mu.Unlock()
	for _, o := range others {
		o.running.Go(func() { o.handler.PeerDown(e.self, true) })
	}
	e.running.Wait()
	return nil
}

func (n *Network) requestJoin(ctx context.Context, addr, _ string, request transport.JoinRequest) ([]byte, error) {
	n.mu.Lock()
	admit := n.join[addr]
	n.mu.Unlock()
	if admit == nil {
		return nil, fmt.Errorf("dial %s: %w", addr, errUnreachable)
	}
	return admit(ctx, &net.TCPAddr{}, request.Body)
}
