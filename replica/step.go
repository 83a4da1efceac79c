package replica

import (
	"math"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"trinas/replica/transport"
	"trinas/replica/wal"
)

// step gives Raft one message, with the lease's rules around it (lease.go).
func (g *group) step(e *event) {
	m := e.msg
	from := m.GetFrom()
	switch m.GetType() {
	case raftpb.MsgVote, raftpb.MsgPreVote:
		if g.outside() {
			return
		}
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
			g.slow[from] = e.slow
		}
	}
	if err := g.raft.Step(m); err != nil {
		g.log.Debug("raft refused a message", "type", m.GetType(), "from", from, "err", err)
	}
}

// outside reports whether this member knows of no configuration: it is new, or was here before and has
// forgotten what it voted for. It has no vote before the leader has told it everything.
func (g *group) outside() bool { return len(g.raft.Status().Config.Voters.IDs()) == 0 }

func (g *group) tick() {
	g.ticks.Add(1)
	now := g.opt.Clock()
	leads := g.leads()
	if leads || !g.lease.promised(now) {
		g.raft.Tick()
		if g.eager = g.eager && g.view.Load().leader == 0; g.eager && g.raft.BasicStatus().RaftState == raft.StateFollower {
			_ = g.raft.Campaign() // refused while a configuration change waits: the next tick again
		}
	}
	if leads {
		g.lease.renew(g.view.Load(), now)
		g.dropFree()
		g.marks.note(g.early.committed)
		g.resendSnapshots(now)
		g.sendCommits()
	}
}

// sendCommits tells the others what is committed, without waiting for entries that would carry it.
// Baton holder only.
func (g *group) sendCommits() {
	for to, m := range g.commits {
		g.enqueue(to, transport.Message{Group: g.id, Raft: m})
	}
	clear(g.commits)
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
	}
	clear(g.batch)
	g.batch = g.batch[:0]
	// Entries that were accepted have their place now; hand them out before another MsgProp, so that
	// the tail of the next Ready's entries is exactly these proposals.
	g.handOut()
}

// handOut takes everything that Raft wants done and gives it to the log, the applier and the
// network. None of them blocks.
func (g *group) handOut() {
	for g.raft.HasReady() {
		rd := g.raft.Ready()
		g.noteView(&rd)
		g.early.noteCommit(&rd)
		var appendMsg *raftpb.Message
		var votes []*raftpb.Message // requests
		for _, m := range rd.Messages {
			switch m.GetTo() {
			case raft.LocalAppendThread:
				appendMsg = m
			case raft.LocalApplyThread:
				es := m.GetEntries()
				g.early.handedOut(es[len(es)-1].GetIndex())
				g.toApplier(m)
			default:
				if m.GetType() == raftpb.MsgVote {
					votes = append(votes, m)
				} else {
					g.send(m)
				}
			}
		}
		if appendMsg != nil { // there is one with votes: the term is new
			// Votes are asked for once the candidate's own is durable. Raft asks at once, and counts its own
			// when it is: elected by others whose disks are swifter, then crashed, this member could be elected a second
			// time in the same term, and make other entries with the same index and term.
			appendMsg.Responses = append(appendMsg.Responses, votes...)
			g.append(appendMsg)
		}
		g.applyEarly()
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
		g.deferAppend(g.appendVote(m))
		return
	}
	a := wal.Append{Group: g.store.Group, Entries: m.GetEntries()}
	if m.Term != nil || m.Vote != nil || m.Commit != nil {
		a.HardState = &raftpb.HardState{Term: m.Term, Vote: m.Vote, Commit: m.Commit}
		a.Sync = m.GetTerm() != g.term || m.GetVote() != g.vote
		g.term, g.vote = m.GetTerm(), m.GetVote()
	}
	a.Sync = a.Sync || len(a.Entries) > 0
	g.early.note(a.Entries, g.leads())
	if n := len(g.accepted); n > 0 && len(a.Entries) >= n {
		g.table.accept(g.accepted, a.Entries[len(a.Entries)-n:])
		clear(g.accepted)
		g.accepted = g.accepted[:0]
	}
	if !raft.IsEmptySnap(m.GetSnapshot()) {
		g.install(m)
		return
	}
	answers, prompt := m.GetResponses(), g.quiet && len(a.Entries) <= 1
	a.Done = func(err error) { g.answer(answers, prompt, err) }
	a.Lend = prompt
	g.lentLog = g.lentLog || a.Lend
	g.wal.Append(a)
}

// answer delivers what Raft wanted said once a log write was durable.
func (g *group) answer(ms []*raftpb.Message, prompt bool, err error) {
	if err != nil {
		g.owner.logFailed(err)
		return
	}
	var own [4]event
	events := own[:0]
	var out []transport.Message // to one node; it leaves together
	for i, m := range ms {
		to := m.GetTo()
		if to == g.self {
			events = append(events, event{msg: m})
			continue
		}
		out = append(out, transport.Message{Group: g.id, Raft: m, Prompt: prompt})
		if i+1 == len(ms) || ms[i+1].GetTo() != to {
			g.net.Send(to, out)
			out = out[:0]
		}
	}
	if len(events) > 0 {
		g.post(events...)
	}
}

// send queues a message for a peer until the end of this round.
func (g *group) send(m *raftpb.Message) {
	to := m.GetTo()
	out := transport.Message{Group: g.id, Raft: m, Prompt: g.quiet}
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
		out.Free, out.Slow = g.owner.freeBytes(), g.owner.slowLog()
	case raftpb.MsgPreVote:
		if g.owner.slowLog() && g.opt.Clock()-g.leaderless < slowYield {
			return // not campaigning: others are better
		}
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
		v.readyAt = math.MaxUint64 // unless the term's first entry is found, nothing is served
		for _, e := range rd.Entries {
			if e.GetTerm() == v.term {
				v.readyAt = e.GetIndex()
				break
			}
		}
		g.lease.lead(g.raft.Status().Config.Voters)
		clear(g.freeBytes) // heartbeats tell it anew
		clear(g.slow)
		clear(g.snapshots)
		g.marks.begin(g.early.committed)
		g.leastFree.Store(math.MaxUint64)
	}
	if v.leader == 0 && old.leader != 0 {
		g.leaderless = g.opt.Clock()
		g.lost = g.lease.heard(old.leader, g.leaderless)
	}
	g.view.Store(v)
	g.gone = 0
	clear(g.held)
	if old.leader == g.self {
		clear(g.commits)
		g.early.stop()
		g.failAccepted()
		g.table.abandon()
		g.reads.abandon()
	}
	old.end()
	if v.leader != 0 && v.leader != old.leader {
		g.count.primaries.Add(1)
		without := time.Duration(0) // how long there was none, as far as this node knows
		if old.leader == 0 {
			without = g.opt.Clock() - g.lost
		}
		g.log.Info("primary changed", "event", "primary", "primary", g.owner.nameOf(v.leader), "term", v.term,
			"took", without.Round(time.Millisecond))
	}
}

func (g *group) failAccepted() {
	for _, p := range g.accepted {
		p.fail(errNotPrimary)
	}
	clear(g.accepted)
	g.accepted = g.accepted[:0]
}
