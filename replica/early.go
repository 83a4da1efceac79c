package replica

import (
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"trinas/replica/volume"
)

// A primary need not have an entry on its own disk to know that it is committed: when a majority of the others
// have it, it is (Raft thesis §10.2.1). Raft's library hands it out for apply only when it is stable here as
// well, so that each write would wait for the primary's log: a disk a hundred times as slow as the others
// would make all writes as slow. The primary therefore applies what is committed from memory, ahead of its own log.
//
// A crash loses nothing by that: what is applied early is on a majority's disks, and a checkpoint that is ahead of this
// node's log is met by openGroup, which begins the log anew behind it. Raft hands the same entries out once more
// when they are stable; the applier passes over what is applied.
//
// Only writes are applied early. What takes bytes away, a removal or a truncation, waits for the own log: a node that
// is alone after a crash (trinas rescue) then has newer bytes than its table says at most, and lacks none.

// earlyShare bounds how far apply may be ahead of the own log: to this part of Options.UnderWayBytes. Then writes wait
// for it, or the log's queue would grow without end.
const earlyShare = 2

// early is what a primary may apply ahead of its own log. Baton holder only.
type early struct {
	entries   []*raftpb.Entry // given to the log in this leadership, not handed out by Raft yet; without gaps
	committed uint64          // index, as Raft knows it
	handed    uint64          // index of the last entry that the applier was given
	bytes     int64           // of those of entries that the applier was given
}

// note takes what Raft wants written to the log; leads: by the primary.
func (a *early) note(entries []*raftpb.Entry, leads bool) {
	if leads {
		a.entries = append(a.entries, entries...)
	}
}

// stop forgets what is not handed out: another member may lead, and Raft decides alone.
func (a *early) stop() { a.entries, a.bytes = nil, 0 }

// handedOut notes that Raft has handed out entries up to index: they are stable.
func (a *early) handedOut(index uint64) {
	n := 0
	for n < len(a.entries) && a.entries[n].GetIndex() <= index {
		if a.entries[n].GetIndex() <= a.handed {
			a.bytes -= int64(len(a.entries[n].GetData()))
		}
		a.entries[n] = nil
		n++
	}
	if a.entries = a.entries[n:]; len(a.entries) == 0 {
		a.entries = nil
	}
	a.handed = max(a.handed, index)
}

// take gives the committed writes that come next and may be applied within limit bytes. Anything else is left to
// Raft, and so is all that follows it.
func (a *early) take(limit int64) []*raftpb.Entry {
	if a.committed <= a.handed || len(a.entries) == 0 || a.entries[0].GetIndex() > a.handed+1 {
		return nil
	}
	from := int(a.handed + 1 - a.entries[0].GetIndex())
	to := from
	for to < len(a.entries) && a.entries[to].GetIndex() <= a.committed {
		e := a.entries[to]
		size := int64(len(e.GetData()))
		if e.GetType() != raftpb.EntryNormal || volume.PeekKind(e.GetData()) != volume.Write || a.bytes > 0 && a.bytes+size > limit {
			break
		}
		a.bytes += size
		to++
	}
	if to == from {
		return nil
	}
	a.handed = a.entries[to-1].GetIndex()
	return slices.Clone(a.entries[from:to]) // the applier's own: handedOut clears
}

// applyEarly hands out what is committed and Raft holds back.
func (g *group) applyEarly() {
	if g.vol == nil || !g.leads() {
		return
	}
	if es := g.early.take(g.opt.UnderWayBytes / earlyShare); es != nil {
		g.toApplier(&raftpb.Message{Entries: es})
	}
}

// toApplier gives a message with committed entries to the applier.
func (g *group) toApplier(m *raftpb.Message) {
	j := applyJob{msg: m}
	if g.quiet && j.prompt() {
		g.queue.putQuietly(j)
		g.lentApply = true
	} else {
		g.queue.put(j)
	}
}

// noteCommit keeps what Raft says of the commit index.
func (a *early) noteCommit(rd *raft.Ready) {
	if !raft.IsEmptyHardState(rd.HardState) {
		a.committed = rd.HardState.GetCommit()
	}
}
