package replica

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"trinas/replica/transport"
	"trinas/replica/volume"
	"trinas/replica/wal"
)

// machine is what a group's committed entries change: a volume, or the cluster's own state.
// Apply is called by one goroutine in index order; its error means that this replica is broken.
type machine interface {
	Apply(index, term uint64, data []byte) (volume.Result, error)
	Applied() (index, term uint64)
	Conf() []byte                                    // the group's raftpb.ConfState as of Applied, marshalled
	ApplyConf(index, term uint64, conf []byte) error // as Apply, of an entry that changed Conf
	Position() (index, term uint64, conf []byte)     // Applied and Conf in one look
	Checkpoint(ctx context.Context) (index uint64, err error)
	Close() error
}

// snapshotter is a machine small enough to travel whole inside a snapshot message.
type snapshotter interface {
	Snapshot() (data []byte, index, term uint64, conf []byte)
	Restore(data []byte, index, term uint64, conf []byte) error
}

// Bounds on what a group keeps in memory and sends ahead.
const (
	maxMsgBytes         = 1 << 20  // entries in one append message (one entry may be larger)
	maxInflightMsgs     = 512      // append messages under way to one replica
	maxInflightBytes    = 16 << 20 // and their bytes
	maxUncommittedBytes = 64 << 20 // Raft refuses proposals beyond it; roomBytes keeps us below
	maxApplyBytes       = 8 << 20  // committed entries handed to the applier at once
	roomBytes           = 32 << 20 // proposals between acceptance and apply
)

// group is this node's member of one Raft group.
//
// Raft's state has one owner at a time: whoever holds the baton (running). post hands in work;
// when nobody holds the baton the caller takes it and works until the inbox is empty, so that an
// operation on an idle group needs no wake-up of another goroutine.
type group struct {
	id    uint64
	name  string // for messages: "volume vmstore", "cluster"
	self  uint64
	opt   Options
	net   Network
	log   *slog.Logger
	sm    machine
	wal   *wal.Log
	store *storage
	vol   *volume.Volume // sm, when the group is a volume's
	owner owner

	mu      sync.Mutex
	inbox   []event
	running bool
	closed  bool

	// Owned by the baton holder.
	raft       *raft.RawNode
	spare      []event
	batch      []*proposal // proposals of this round, to be stepped as one
	accepted   []*proposal // stepped; their entries are in the next Ready
	term       uint64
	vote       uint64
	outbox     map[uint64][]transport.Message
	commits    map[uint64]*raftpb.Message // append messages that only carry a commit index, held back until the next tick or a real one
	lease      leaseKeeper
	reads      readQueue
	installing bool // a snapshot is: what Raft wants appended waits in deferred
	deferred   []*raftpb.Message
	eager      bool   // campaign at every tick until there is a leader
	gone       uint64 // the leader whose process is probably gone, until forget
	freeBytes  map[uint64]uint64
	held       map[uint64]*raftpb.Message // votes that wait for the end of a promise

	view         atomic.Pointer[view]
	table        proposals
	applied      waterline
	queue        applyQueue
	leastFree    atomic.Uint64 // bytes that every in-sync replica can still take
	images       imageSource
	resync       resyncState
	failure      atomic.Pointer[error]
	checkpointed atomic.Uint64   // index of the newest checkpoint made since the start
	ctx          context.Context // ends when the group closes
	end          context.CancelFunc
	stopped      sync.WaitGroup
}

// owner is told what a group cannot bear alone; its methods must not block.
type owner interface {
	logFailed(error)
	replicaFailed(*group)
	freeBytes() uint64 // what this node's disk can still take
}

// event is one piece of work for the baton holder; exactly one field of msg, prop, read, tick
// and call says what it is.
type event struct {
	msg   *raftpb.Message // from a peer, or from the local log or applier
	round int64           // with a heartbeat or its answer: when the leader sent it
	free  uint64          // with a heartbeat's answer
	prop  *proposal
	read  *indexRead
	tick  bool
	call  func()

	closing chan struct{} // with call: closed instead when the group is closed already
}

// openGroup starts the member. The log and the machine have been opened; entries after the
// machine's applied index are replayed as soon as they are known to be committed.
func openGroup(id uint64, name string, self uint64, opt Options, net Network, log *wal.Log,
	sm machine, owner owner) (*group, error) {
	g := &group{
		id: id, name: name, self: self, opt: opt, net: net, sm: sm, wal: log, owner: owner,
		log:       opt.Log.With("group", name),
		outbox:    map[uint64][]transport.Message{},
		commits:   map[uint64]*raftpb.Message{},
		freeBytes: map[uint64]uint64{},
		held:      map[uint64]*raftpb.Message{},
	}
	g.store = &storage{Group: log.Group(id), sm: sm}
	g.table.init()
	g.queue.init()
	g.reads.init()
	g.leastFree.Store(^uint64(0))
	g.ctx, g.end = context.WithCancel(context.Background())
	g.vol, _ = sm.(*volume.Volume)
	index, term := sm.Applied()
	g.applied.set(index)
	if last, err := g.store.LastIndex(); err != nil {
		return nil, fmt.Errorf("read the log of %s: %w", name, err)
	} else if last < index {
		// New, or stopped while a snapshot was being installed.
		reset := make(chan error, 1)
		g.store.Reset(index, term, func(err error) { reset <- err })
		if err := <-reset; err != nil {
			return nil, fmt.Errorf("begin the log of %s at %d: %w", name, index, err)
		}
	}
	// A restart forgets what this node promised to a leader just before: wait it out.
	g.lease.init(opt, opt.Clock)

	ticks := int((opt.Election - opt.Lease) / opt.Heartbeat)
	rn, err := raft.NewRawNode(&raft.Config{
		ID:                        self,
		ElectionTick:              max(ticks, 2),
		HeartbeatTick:             1,
		Storage:                   g.store,
		Applied:                   index,
		AsyncStorageWrites:        true,
		MaxSizePerMsg:             maxMsgBytes,
		MaxCommittedSizePerReady:  maxApplyBytes,
		MaxUncommittedEntriesSize: maxUncommittedBytes,
		MaxInflightMsgs:           maxInflightMsgs,
		MaxInflightBytes:          maxInflightBytes,
		CheckQuorum:               true,
		PreVote:                   true,
		DisableProposalForwarding: true, // the primary stamps time: Node.Do sends operations on itself
		StepDownOnRemoval:         true,
		Logger:                    raftLogger{g.log},
	})
	if err != nil {
		return nil, fmt.Errorf("start raft of %s: %w", name, err)
	}
	g.raft = rn
	hs := g.store.HardState()
	g.term, g.vote = hs.GetTerm(), hs.GetVote()
	g.view.Store(newView(0, g.term))
	g.stopped.Go(g.applyLoop)
	g.post(event{call: func() {}}) // replay what is committed already
	return g, nil
}

// close stops the member: whoever waits on it gets errNotPrimary, the applier ends, the machine
// is closed. What was durable stays so. May be called twice.
func (g *group) close() error {
	last := make(chan struct{})
	g.post(event{call: func() {
		g.mu.Lock()
		g.closed = true
		g.mu.Unlock()
		old := g.view.Swap(newView(0, 0))
		g.failAccepted()
		g.table.abandon()
		g.reads.abandon()
		old.end()
		g.view.Load().end()
		g.end()
		close(last)
	}, closing: last})
	<-last
	g.queue.close()
	g.stopped.Wait()
	return g.sm.Close()
}

// post hands events to the baton holder, or becomes it. Never blocks on disk or network.
func (g *group) post(es ...event) {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		for _, e := range es {
			e.refuse()
		}
		return
	}
	g.inbox = append(g.inbox, es...)
	if g.running {
		g.mu.Unlock()
		return
	}
	g.running = true
	g.mu.Unlock()
	g.run()
}

// refuse answers whoever waits on an event that will not be worked on.
func (e event) refuse() {
	switch {
	case e.prop != nil:
		e.prop.fail(errNotPrimary)
	case e.read != nil:
		e.read.resolve(0, errNotPrimary)
	case e.closing != nil:
		close(e.closing)
	}
}

// run works until the inbox is empty. The caller has set running.
func (g *group) run() {
	for {
		g.mu.Lock()
		if len(g.inbox) == 0 {
			g.running = false
			g.mu.Unlock()
			return
		}
		work := g.inbox
		g.inbox = g.spare[:0]
		closed := g.closed
		g.mu.Unlock()
		if closed {
			for _, e := range work {
				e.refuse()
			}
			g.spare = nil
			continue
		}
		for i := range work {
			g.handle(&work[i])
			work[i] = event{}
		}
		g.spare = work
		g.propose()
		g.askReads()
		g.handOut()
	}
}

func (g *group) handle(e *event) {
	switch {
	case e.msg != nil:
		g.step(e)
	case e.prop != nil:
		g.batch = append(g.batch, e.prop)
	case e.read != nil:
		g.reads.waiting = append(g.reads.waiting, e.read)
	case e.tick:
		g.tick()
	default:
		e.call()
	}
}

// step gives Raft one message, with the lease's rules around it (lease.go).
func (g *group) step(e *event) {
	m := e.msg
	from := m.GetFrom()
	switch m.GetType() {
	case raftpb.MsgVote, raftpb.MsgPreVote:
		if g.gone != 0 || g.lease.forbidsVote(m, g.opt.Clock()) {
			g.held[from] = m // bounded by the number of nodes
			return
		}
	case raftpb.MsgHeartbeat:
		if m.GetTerm() >= g.term {
			g.lease.promise(from, m.GetTerm(), e.round, g.opt.Clock())
		}
	case raftpb.MsgHeartbeatResp:
		if v := g.view.Load(); v.leader == g.self && m.GetTerm() == v.term {
			now := g.opt.Clock()
			g.lease.answered(from, e.round, now)
			g.lease.renew(v, now)
			g.noteFree(from, e.free)
		}
	}
	if err := g.raft.Step(m); err != nil {
		g.log.Debug("raft refused a message", "type", m.GetType(), "from", from, "err", err)
	}
}

func (g *group) tick() {
	now := g.opt.Clock()
	leads := g.leads()
	if leads || !g.lease.promised(now) {
		g.raft.Tick()
		if g.eager = g.eager && g.view.Load().leader == 0; g.eager {
			_ = g.raft.Campaign() // refused while a configuration change waits: the next tick again
		}
	}
	if leads {
		g.lease.renew(g.view.Load(), now)
		g.dropFree()
		for to, m := range g.commits {
			g.enqueue(to, transport.Message{Group: g.id, Raft: m})
		}
		clear(g.commits)
	}
}

// propose steps everything proposed in this round as one message: one append, one broadcast.
func (g *group) propose() {
	if len(g.batch) == 0 {
		return
	}
	ents := make([]*raftpb.Entry, len(g.batch))
	for i, p := range g.batch {
		ents[i] = &raftpb.Entry{Data: p.data, Type: p.kind.Enum()}
	}
	err := raft.ErrProposalDropped
	if g.leads() {
		err = g.raft.Step(&raftpb.Message{Type: raftpb.MsgProp.Enum(), From: proto.Uint64(g.self), Entries: ents})
	}
	if err != nil {
		for _, p := range g.batch {
			p.fail(errNotPrimary)
		}
	} else {
		g.accepted = append(g.accepted, g.batch...)
		// The entries have their place now; hand them out before another MsgProp, so that
		// the tail of the next Ready's entries is exactly these proposals.
		g.handOut()
	}
	clear(g.batch)
	g.batch = g.batch[:0]
}

// handOut takes everything that Raft wants done and gives it to the log, the applier and the
// network. None of them blocks.
func (g *group) handOut() {
	for g.raft.HasReady() {
		rd := g.raft.Ready()
		g.noteView(&rd)
		var appendMsg *raftpb.Message
		for _, m := range rd.Messages {
			switch m.GetTo() {
			case raft.LocalAppendThread:
				appendMsg = m
			case raft.LocalApplyThread:
				g.queue.put(m)
			default:
				g.send(m)
			}
		}
		if appendMsg != nil {
			g.append(appendMsg)
		}
		for _, rs := range rd.ReadStates {
			g.reads.answer(rs)
		}
	}
	for to, ms := range g.outbox {
		if len(ms) > 0 {
			if g.net.Send(to, ms) {
				g.raft.ReportUnreachable(to)
				g.raft.ReportSnapshot(to, raft.SnapshotFailure)
			}
			clear(ms)
			g.outbox[to] = ms[:0]
		}
	}
}

// append queues entries and hard state to the node's log. Raft's answers go out once they are
// durable: to peers straight from the log's goroutine, to ourselves as events.
func (g *group) append(m *raftpb.Message) {
	if g.installing {
		g.deferred = append(g.deferred, m)
		return
	}
	a := wal.Append{Group: g.store.Group, Entries: m.GetEntries()}
	if m.Term != nil || m.Vote != nil || m.Commit != nil {
		a.HardState = &raftpb.HardState{Term: m.Term, Vote: m.Vote, Commit: m.Commit}
		a.Sync = m.GetTerm() != g.term || m.GetVote() != g.vote
		g.term, g.vote = m.GetTerm(), m.GetVote()
	}
	a.Sync = a.Sync || len(a.Entries) > 0
	if n := len(g.accepted); n > 0 && len(a.Entries) >= n {
		g.table.accept(g.accepted, a.Entries[len(a.Entries)-n:])
		clear(g.accepted)
		g.accepted = g.accepted[:0]
	}
	if !raft.IsEmptySnap(m.GetSnapshot()) {
		g.install(m)
		return
	}
	answers := m.GetResponses()
	a.Done = func(err error) { g.answer(answers, err) }
	g.wal.Append(a)
}

// answer delivers what Raft wanted said once a log write was durable.
func (g *group) answer(ms []*raftpb.Message, err error) {
	if err != nil {
		g.owner.logFailed(err)
		return
	}
	var own [4]event
	events := own[:0]
	var one [1]transport.Message
	for _, m := range ms {
		if m.GetTo() == g.self {
			events = append(events, event{msg: m})
			continue
		}
		one[0] = transport.Message{Group: g.id, Raft: m}
		g.net.Send(m.GetTo(), one[:])
	}
	if len(events) > 0 {
		g.post(events...)
	}
}

// send queues a message for a peer until the end of this round.
func (g *group) send(m *raftpb.Message) {
	to := m.GetTo()
	out := transport.Message{Group: g.id, Raft: m}
	switch m.GetType() {
	case raftpb.MsgApp:
		if len(m.GetEntries()) == 0 {
			g.commits[to] = m // the next entries tell the commit index as well; else the tick does
			return
		}
		delete(g.commits, to)
	case raftpb.MsgHeartbeat:
		out.Round = int64(g.opt.Clock())
	case raftpb.MsgHeartbeatResp:
		out.Round = g.lease.echo(to, m.GetTerm())
		out.Free = g.owner.freeBytes()
	}
	g.enqueue(to, out)
}

func (g *group) enqueue(to uint64, m transport.Message) { g.outbox[to] = append(g.outbox[to], m) }

// leads reports whether this member is the leader. Baton holder only.
func (g *group) leads() bool { return g.view.Load().leader == g.self }

// noteView publishes a change of leader or term, and fails what was proposed to a leadership
// that has ended.
func (g *group) noteView(rd *raft.Ready) {
	old := g.view.Load()
	leader, term := old.leader, old.term
	if rd.SoftState != nil {
		leader = rd.SoftState.Lead
	}
	if !raft.IsEmptyHardState(rd.HardState) {
		term = rd.HardState.GetTerm()
	}
	if leader == old.leader && term == old.term {
		return
	}
	v := newView(leader, term)
	if v.leader == g.self {
		for _, e := range rd.Entries {
			if e.GetTerm() == v.term {
				v.readyAt = e.GetIndex()
				break
			}
		}
		g.lease.lead(g.raft.Status().Config.Voters)
		clear(g.freeBytes) // heartbeats tell it anew
		g.leastFree.Store(math.MaxUint64)
	}
	g.view.Store(v)
	g.gone = 0
	clear(g.held)
	if old.leader == g.self {
		clear(g.commits)
		g.failAccepted()
		g.table.abandon()
		g.reads.abandon()
	}
	old.end()
	if v.leader != 0 && v.leader != old.leader {
		g.log.Info("primary changed", "event", "primary", "primary", v.leader, "term", v.term, "self", g.self)
	}
}

func (g *group) failAccepted() {
	for _, p := range g.accepted {
		p.fail(errNotPrimary)
	}
	clear(g.accepted)
	g.accepted = g.accepted[:0]
}

// leaderGone is told that leader's process is probably gone. When the promise to it is over the
// member forgets it and campaigns, long before the election time-out. The promise is never cut
// short: a firewall that rejects looks the same.
func (g *group) leaderGone(leader uint64) {
	g.post(event{call: func() {
		if v := g.view.Load(); v.leader != leader || leader == g.self {
			return
		}
		g.gone = leader
		wait := g.lease.left(g.opt.Clock())
		time.AfterFunc(wait, func() { g.post(event{call: func() { g.forget(leader) }}) })
	}})
}

func (g *group) forget(leader uint64) {
	if g.gone != leader {
		return // another leader meanwhile
	}
	g.gone = 0
	if g.lease.promised(g.opt.Clock()) {
		return // it has been heard from again
	}
	if err := g.raft.ForgetLeader(); err != nil {
		return
	}
	for from, m := range g.held {
		delete(g.held, from)
		_ = g.raft.Step(m)
	}
	g.eager = g.firstWithout(leader)
	if g.eager {
		_ = g.raft.Campaign()
	}
}

// firstWithout reports whether this node has the lowest id of the voters without leader: one of
// them campaigns first, so that they do not split the vote.
func (g *group) firstWithout(leader uint64) bool {
	for id := range g.raft.Status().Config.Voters.IDs() {
		if id != leader && id < g.self {
			return false
		}
	}
	return true
}

// found makes this member campaign for a group that has just been made, rather than wait for an
// election time-out.
func (g *group) found() { g.post(event{call: func() { g.eager = true }}) }

// handOver gives leadership to another member and returns once somebody else leads, or ctx ends.
// The lease is given up first, for the rest of the term: from then on the receiver may win at any
// moment. to 0 chooses the member that is furthest along.
func (g *group) handOver(ctx context.Context, to uint64) error {
	v := g.view.Load()
	if v.leader != g.self {
		return nil
	}
	started := make(chan error, 1)
	g.post(event{call: func() {
		if !g.leads() {
			started <- nil
			return
		}
		target := to
		if target == 0 {
			target = g.furthest()
		}
		if target == 0 {
			started <- fmt.Errorf("hand over %s: no other replica is in sync; wait until one is UpToDate", g.name)
			return
		}
		g.lease.giveUp(g.view.Load())
		g.raft.TransferLeader(target)
		started <- nil
	}})
	select {
	case err := <-started:
		if err != nil {
			return err
		}
	case <-v.ended():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		select {
		case <-v.ended():
			if v = g.view.Load(); v.leader != g.self {
				return nil
			}
		case <-ctx.Done():
			return fmt.Errorf("hand over %s to node %d: %w", g.name, to, ctx.Err())
		}
	}
}
