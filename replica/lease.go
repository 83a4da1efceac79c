package replica

import (
	"math"
	"time"

	"go.etcd.io/raft/v3/quorum"
	"go.etcd.io/raft/v3/raftpb"
)

// leaseKeeper holds both sides of the leader lease; the baton holder owns it.
//
// Leader: every heartbeat carries the moment of its sending (round) by the leader's clock, and
// the answer echoes it. Once a majority has answered rounds sent at or after T, no other leader
// can be elected before T + lease, because whoever answered promised on its own clock, started
// later, not to vote for or become another leader for a whole lease. The leader uses a little less
// (driftMargin), which covers clocks that differ in speed by up to 2 %.
//
// Promise: ends lease after the heartbeat was received. It also holds for one lease after a
// start, since a restart forgets it. It is waived for a campaign that the leader itself asked for
// (leadership transfer): that leader has given its lease up before, for the rest of its term.
type leaseKeeper struct {
	lease  time.Duration
	voters quorum.JointConfig
	rounds map[uint64]int64 // as leader: by node, the newest round answered in this term
	gaveUp bool

	promiseUntil  time.Duration
	promiseLeader uint64
	promiseTerm   uint64
	lastRound     int64 // the newest round heard from promiseLeader in promiseTerm
}

// driftMargin is the share of a lease that the leader does not use: two clocks that each drift
// by 1 % differ by 2 %, and as much again for safety.
const driftMargin = 25 // one 25th, 4 %

func (l *leaseKeeper) init(opt Options, clock Clock) {
	l.lease = opt.Lease
	l.promiseUntil = clock() + opt.Lease
	l.rounds = map[uint64]int64{}
}

// lead starts a leadership without lease.
func (l *leaseKeeper) lead(voters quorum.JointConfig) {
	l.voters = voters
	clear(l.rounds)
	l.gaveUp = false
}

// answered notes that node has answered the heartbeat sent at round. A round in the future cannot be ours and is dropped.
func (l *leaseKeeper) answered(node uint64, round int64, now time.Duration) {
	if round <= int64(now) {
		l.rounds[node] = max(l.rounds[node], round)
	}
}

// AckedIndex makes rounds countable by Raft's own quorum arithmetic, which knows joint
// configurations (quorum.AckedIndexer).
func (l *leaseKeeper) AckedIndex(node uint64) (quorum.Index, bool) {
	r, ok := l.rounds[node]
	return quorum.Index(r), ok
}

// renew writes the moment until which v's leader may read alone.
func (l *leaseKeeper) renew(v *view, now time.Duration) {
	if l.gaveUp {
		return
	}
	l.rounds[v.leader] = int64(now)
	start := l.voters.CommittedIndex(l)
	if start == 0 || start == math.MaxUint64 {
		return
	}
	v.leaseUntil.Store(int64(start) + int64(l.lease-l.lease/driftMargin))
}

// giveUp ends the lease for the rest of the term.
func (l *leaseKeeper) giveUp(v *view) {
	l.gaveUp = true
	v.leaseUntil.Store(0)
}

// promise binds this node to leader for a lease from now. A round belongs to one term: a leader
// that rebooted counts from zero again, in a later term.
func (l *leaseKeeper) promise(leader, term uint64, round int64, now time.Duration) {
	if leader != l.promiseLeader || term != l.promiseTerm {
		l.lastRound = 0
	}
	l.promiseLeader, l.promiseTerm = leader, term
	l.promiseUntil = now + l.lease
	l.lastRound = max(l.lastRound, round)
}

// echo is the round to put into the answer to a heartbeat of leader in term.
func (l *leaseKeeper) echo(leader, term uint64) int64 {
	if leader != l.promiseLeader || term != l.promiseTerm {
		return 0
	}
	return l.lastRound
}

func (l *leaseKeeper) promised(now time.Duration) bool { return now < l.promiseUntil }

func (l *leaseKeeper) left(now time.Duration) time.Duration { return max(0, l.promiseUntil-now) }

// heard is when leader, which is none any more, was last heard from. One whose promise still holds has
// handed over: until now.
func (l *leaseKeeper) heard(leader uint64, now time.Duration) time.Duration {
	if leader != l.promiseLeader || l.promised(now) {
		return now
	}
	return l.promiseUntil - l.lease
}

// campaignTransfer marks the votes of a campaign that the leader asked for. The text is raft's
// (its constant is not exported as a value that can be compared: raft.go, campaignTransfer).
const campaignTransfer = "CampaignTransfer"

// forbidsVote reports whether a promise keeps this node from hearing a vote request.
func (l *leaseKeeper) forbidsVote(m *raftpb.Message, now time.Duration) bool {
	return l.promised(now) && m.GetFrom() != l.promiseLeader &&
		string(m.GetContext()) != campaignTransfer
}
