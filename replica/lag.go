package replica

import (
	"slices"
	"sync/atomic"
)

// A secondary that takes part always lacks what is on its way. It is UpToDate when it has all that was
// committed lagTicks ago and lacks at most lagBytes: else an admin who reads UpToDate would take a
// replica that falls behind for one that could go on alone.
const (
	lagTicks = 5       // heartbeats
	lagBytes = 8 << 20 // of log
)

// commitMarks are the commit indexes that a primary had at its last heartbeats.
type commitMarks struct {
	last [lagTicks]uint64 // baton holder only
	n    int              // the same

	past atomic.Uint64 // what was committed lagTicks ago; when it began, while this primary is younger
}

// begin starts anew with a leadership, which begins with that commit index.
func (m *commitMarks) begin(commit uint64) {
	m.n = 0
	m.past.Store(commit)
}

func (m *commitMarks) note(commit uint64) {
	at := &m.last[m.n%lagTicks]
	if m.n >= lagTicks {
		m.past.Store(*at)
	}
	*at = commit
	m.n++
}

// entered are the members that the last change of the configuration has given a vote.
type entered struct {
	index uint64 // of its entry
	ids   []uint64
}

// noteEntered remembers who has a vote since entry index. Baton holder only.
func (g *group) noteEntered(before map[uint64]struct{}, index uint64) {
	var ids []uint64
	for id := range g.raft.Status().Config.Voters.IDs() {
		if _, had := before[id]; !had {
			ids = append(ids, id)
		}
	}
	if len(ids) > 0 {
		g.entered.Store(&entered{index, ids})
	}
}

// counts reports whether a member has a vote, and the others have heard so by now: they act by what they know to be committed.
// Before, the volume cannot do without another member in its place.
func (g *group) counts(id uint64, learner bool) bool {
	e := g.entered.Load()
	return !learner && (e == nil || e.index <= g.marks.past.Load() || !slices.Contains(e.ids, id))
}

// upToDate reports whether a secondary that has synced up to match is.
func (g *group) upToDate(match, commit uint64) bool {
	if match >= commit {
		return true
	}
	return match >= g.marks.past.Load() && g.store.BytesAfter(match, lagBytes) < lagBytes
}
