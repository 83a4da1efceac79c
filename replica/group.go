package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

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
	maxMsgBytes     = 1 << 20 // entries in one append message (one entry may be larger)
	maxInflightMsgs = 512     // append messages under way to one replica; their bytes: half of Options.UnderWayBytes
	maxApplyBytes   = 8 << 20 // committed entries handed to the applier at once; a quarter of Options.UnderWayBytes where that is less
)

// calmRounds is after how many rounds with a single event a group counts as used by one operation at a
// time. Where more come together it pays to wake others and let work gather meanwhile.
const calmRounds = 16

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
	round      []event     // what is worked on; a zero event is done
	batch      []*proposal // proposals of this round, to be stepped as one
	calm       int         // rounds in a row with one thing to do
	quiet      bool        // this is one of many such rounds, and its caller may wait for the disk
	lentLog    bool        // the log has something from a quiet round, and was not woken
	lentApply  bool        // the same of the applier
	accepted   []*proposal // stepped; their entries are in the next Ready
	term       uint64
	vote       uint64
	outbox     map[uint64][]transport.Message
	commits    map[uint64]*raftpb.Message // append messages that only carry a commit index, held back until the next tick or a real one
	lease      leaseKeeper
	early      early
	marks      commitMarks
	reads      readQueue
	installing bool // a snapshot is: what Raft wants appended waits in deferred
	deferred   []*raftpb.Message
	eager      bool   // campaign without waiting for a time-out, until there is a leader
	gone       uint64 // the leader whose process is probably gone, until forget
	freeBytes  map[uint64]uint64
	slow       map[uint64]bool            // as leader: whether their log is slow, by members that have told
	leaderless time.Duration              // while there is no leader: since when, by the group's clock
	lost       time.Duration              // while there is no leader: when the last one was heard from
	snapshots  map[uint64]time.Duration   // as leader: since when members have been waited for that were sent a snapshot
	held       map[uint64]*raftpb.Message // votes that wait for the end of a promise

	applyPlace applyPlace // the node's tick only

	view         atomic.Pointer[view]
	entered      atomic.Pointer[entered]
	ticks        atomic.Uint64 // handled (Vital)
	election     time.Duration // Options.Election
	table        proposals
	applied      waterline
	queue        applyQueue
	leastFree    atomic.Uint64 // bytes that every in-sync replica can still take
	images       imageSource
	resync       resyncState
	verify       verifying
	failure      atomic.Pointer[error]
	count        groupCounters
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
	slowLog() bool     // this node's log is slow: it should not lead
	inTouch() []uint16 // the nodes whose guests count as alive
	nameOf(node uint64) string
	burden(node uint64) int // how little it should lead
}

// event is one piece of work for the baton holder; exactly one field of msg, prop, read, tick
// and call says what it is.
type event struct {
	msg   *raftpb.Message // from a peer, or from the local log or applier
	round int64           // with a heartbeat or its answer: when the leader sent it
	free  uint64          // with a heartbeat's answer
	slow  bool            // the same
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
		slow:      map[uint64]bool{},
		held:      map[uint64]*raftpb.Message{},
		snapshots: map[uint64]time.Duration{},
	}
	g.store = &storage{Group: log.Group(id), sm: sm}
	g.table.init(int(opt.UnderWayBytes))
	g.queue.init()
	g.reads.init()
	g.leastFree.Store(^uint64(0))
	g.ctx, g.end = context.WithCancel(context.Background())
	if g.vol, _ = sm.(*volume.Volume); g.vol != nil {
		g.log = opt.Log.With("volume", name)
	}
	index, term := sm.Applied()
	g.applied.set(index)
	first, err := g.store.FirstIndex()
	last, err2 := g.store.LastIndex()
	if err := errors.Join(err, err2); err != nil {
		return nil, fmt.Errorf("read the log of %s: %w", name, err)
	}
	if index > 0 && first > index+1 {
		return nil, fmt.Errorf("%w: the log of %s begins at entry %d, and its checkpoint is at %d: what is between is missing",
			volume.ErrDamaged, name, first, index)
	}
	at := term
	if first <= index+1 && index <= last {
		at, err = g.store.Term(index)
		if err != nil {
			return nil, fmt.Errorf("read the log of %s: %w", name, err)
		}
	}
	if last < index || at != term || index == 0 && last > 0 {
		// New, or stopped while a snapshot was being installed, or here once and removed. What the checkpoint
		// holds is committed; entries from there on that do not go with it never will be.
		reset := make(chan error, 1)
		g.store.Reset(index, term, func(err error) { reset <- err })
		if err := <-reset; err != nil {
			return nil, fmt.Errorf("begin the log of %s at %d: %w", name, index, err)
		}
	}
	// A restart forgets what this node promised to a leader just before: wait it out.
	g.lease.init(opt, opt.Clock)

	g.election = opt.Election
	ticks := int((opt.Election - opt.Lease) / opt.Heartbeat)
	rn, err := raft.NewRawNode(&raft.Config{
		ID:                        self,
		ElectionTick:              max(ticks, 2),
		HeartbeatTick:             1,
		Storage:                   g.store,
		Applied:                   index,
		AsyncStorageWrites:        true,
		MaxSizePerMsg:             maxMsgBytes,
		MaxCommittedSizePerReady:  min(maxApplyBytes, uint64(opt.UnderWayBytes)/4), // one entry at least
		MaxUncommittedEntriesSize: 2 * uint64(opt.UnderWayBytes),                   // Raft refuses what is beyond it; proposals.reserve keeps us below
		MaxInflightMsgs:           maxInflightMsgs,
		MaxInflightBytes:          max(uint64(opt.UnderWayBytes)/2, maxMsgBytes), // Raft wants at least MaxSizePerMsg
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
	g.early.handed = index
	g.view.Store(newView(0, g.term))
	g.leaderless = opt.Clock()
	g.lost = g.leaderless
	g.stopped.Go(g.applyLoop)
	if g.vol != nil {
		g.stopped.Go(g.settle)
	}
	g.post(event{call: func() {}}) // replay what is committed already
	return g, nil
}

// close stops the member: whoever waits on it gets errNotPrimary, the applier ends, the machine
// is closed. What was durable stays so. May be called twice.
func (g *group) close() error {
	last := make(chan struct{})
	g.post(event{call: func() {
		g.shut()
		close(last)
	}, closing: last})
	<-last
	g.queue.close()
	g.stopped.Wait()
	return g.sm.Close()
}

// resign has this member take no more part: whoever waits on it gets errNotPrimary. close follows.
func (g *group) resign() { g.post(event{call: g.shut}) }

// post hands events to the baton holder, or becomes it. Never blocks on disk or network.
func (g *group) post(es ...event) {
	if g.push(es) {
		g.run(false)
	}
}

// work is post for a goroutine that has nothing better to do than to wait for the disk: on an idle group
// it writes the log and applies what is committed itself, without waking anybody.
func (g *group) work(es ...event) {
	if !g.push(es) {
		return
	}
	appended, committed := g.run(true)
	if appended {
		g.wal.Lend()
	}
	if committed {
		g.applyNow()
	}
}

// push puts events into the inbox; true: the caller has the baton now and must run.
func (g *group) push(es []event) bool {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		for _, e := range es {
			e.refuse()
		}
		return false
	}
	g.inbox = append(g.inbox, es...)
	baton := !g.running
	g.running = true
	g.mu.Unlock()
	return baton
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

// run works until the inbox is empty; the caller has the baton. With lend the caller looks after what
// the last round has given to the log (appended) or the applier (committed) without waking them.
func (g *group) run(lend bool) (appended, committed bool) {
	defer g.endUnread()
	for {
		g.mu.Lock()
		if len(g.inbox) == 0 {
			appended, committed = g.lentLog, g.lentApply
			g.lentLog, g.lentApply = false, false
			g.running = false
			g.mu.Unlock()
			return appended, committed
		}
		g.inbox, g.round = g.round[:0], g.inbox
		work := g.round
		closed := g.closed
		g.mu.Unlock()
		g.rouse()
		if closed {
			for _, e := range work {
				e.refuse()
			}
			g.round = nil
			continue
		}
		if g.calm++; len(work) > 1 || g.table.underWay() > 1 || len(work[0].msg.GetEntries()) > 1 {
			g.calm = 0
		}
		g.quiet = lend && g.calm > calmRounds
		for i := range work {
			g.handle(&work[i])
			work[i] = event{}
		}
		g.propose()
		g.askReads()
		g.handOut()
	}
}

// rouse wakes who was to be spared: there is more to do. Baton holder only.
func (g *group) rouse() {
	if g.lentLog {
		g.wal.Wake()
	}
	if g.lentApply {
		g.queue.wake()
	}
	g.lentLog, g.lentApply = false, false
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
