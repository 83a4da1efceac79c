package replica

import (
	"testing"
	"time"

	"go.etcd.io/raft/v3/quorum"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

func threeVoters() quorum.JointConfig {
	return quorum.JointConfig{quorum.MajorityConfig{1: {}, 2: {}, 3: {}}}
}

func newKeeper(now time.Duration) *leaseKeeper {
	l := &leaseKeeper{}
	l.init(Options{Lease: 300 * time.Millisecond}, func() time.Duration { return now })
	l.lead(threeVoters())
	return l
}

// Goal: the lease counts from the sending of the round that a majority answered, not from the
// answer, and only while the clock has not reached its end.
func TestLease_CountsFromSending(t *testing.T) {
	const sent = 10 * time.Second
	l, v := newKeeper(sent), newView(1, 5)
	l.renew(v, sent)
	if v.leased(sent) {
		t.Fatal("a lease without any answer")
	}
	l.answered(2, int64(sent), sent+200*time.Millisecond)
	l.renew(v, sent+200*time.Millisecond)
	if end := sent + 288*time.Millisecond; !v.leased(end-1) || v.leased(end) {
		t.Errorf("the lease must end at %s, ends at %s", end, time.Duration(v.leaseUntil.Load()))
	}
}

// Goal: a round from the future (another boot's clock) extends nothing.
func TestLease_FutureRound(t *testing.T) {
	l, v := newKeeper(time.Second), newView(1, 5)
	l.answered(2, int64(time.Hour), time.Second)
	l.renew(v, time.Second)
	if v.leased(time.Second) {
		t.Error("a round from the future gave a lease")
	}
}

// Goal: a lease that was given up for a transfer does not come back in its term.
func TestLease_GivenUp(t *testing.T) {
	l, v := newKeeper(time.Second), newView(1, 5)
	l.answered(2, int64(time.Second), time.Second)
	l.renew(v, time.Second)
	l.giveUp(v)
	l.answered(3, int64(time.Second), time.Second)
	l.renew(v, time.Second)
	if v.leased(time.Second) {
		t.Error("the lease came back")
	}
}

// Goal: an echo never carries a round of another term or leader: the leader may have rebooted.
func TestLease_EchoBelongsToTerm(t *testing.T) {
	l := newKeeper(0)
	l.promise(1, 5, 1000, 0)
	if got := l.echo(1, 5); got != 1000 {
		t.Errorf("echo %d, want 1000", got)
	}
	l.promise(1, 6, 7, 0)
	if got := l.echo(1, 6); got != 7 {
		t.Errorf("echo %d, want 7: rounds of term 5 count no more", got)
	}
	if got := l.echo(1, 5); got != 0 {
		t.Errorf("echo of term 5 is %d, want 0", got)
	}
}

// Goal: a promise forbids votes for others until it is over, also right after a start; a transfer
// that the leader asked for is let through.
func TestLease_Promise(t *testing.T) {
	vote := func(from uint64, ctx string) *raftpb.Message {
		return &raftpb.Message{Type: raftpb.MsgVote.Enum(), From: proto.Uint64(from), Context: []byte(ctx)}
	}
	l := newKeeper(time.Second)
	if !l.forbidsVote(vote(2, ""), time.Second+299*time.Millisecond) || l.forbidsVote(vote(2, ""), time.Second+300*time.Millisecond) {
		t.Error("a start must wait out one lease, no more")
	}
	l.promise(1, 5, 1, 2*time.Second)
	at := 2*time.Second + 100*time.Millisecond
	if !l.forbidsVote(vote(3, ""), at) {
		t.Error("voted for another during the promise")
	}
	if l.forbidsVote(vote(1, ""), at) || l.forbidsVote(vote(3, campaignTransfer), at) {
		t.Error("the leader itself and its transfer must pass")
	}
}
