package replica

import (
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

// Goal: what was committed some heartbeats ago is told as such; of a younger primary, what was when it began.
func TestCommitMarks(t *testing.T) {
	var m commitMarks
	for range 2 {
		m.begin(7)
		for commit := uint64(1); commit <= 20; commit++ {
			want := uint64(7)
			if commit > lagTicks {
				want = commit - lagTicks
			}
			if m.note(commit); m.past.Load() != want {
				t.Errorf("at %d: %d was committed before, want %d", commit, m.past.Load(), want)
			}
		}
	}
}

// Goal: what waits for a snapshot to be installed does not grow with time, and keeps what counts. Method: what Raft
// says again and again to heartbeats, entries that replace others, another snapshot.
func TestGroup_DeferAppend(t *testing.T) {
	entries := func(first uint64, n int) *raftpb.Message {
		m := &raftpb.Message{}
		for i := range uint64(n) {
			m.Entries = append(m.Entries, &raftpb.Entry{Index: new(first + i)})
		}
		return m
	}
	answer := func(index uint64) *raftpb.Message {
		return &raftpb.Message{Responses: []*raftpb.Message{{Index: &index}}}
	}
	var g group
	for range 100 {
		g.deferAppend(entries(11, 3))
		for index := range uint64(100) {
			g.deferAppend(answer(index))
		}
	}
	g.deferAppend(entries(14, 1))
	if n := len(g.deferred); n > 3 {
		t.Errorf("%d messages wait", n)
	}
	var got []uint64
	for _, m := range g.deferred {
		for _, e := range m.GetEntries() {
			got = append(got, e.GetIndex())
		}
	}
	if len(got) != 4 || got[0] != 11 || got[3] != 14 {
		t.Errorf("entries %d wait, want 11 to 14", got)
	}
	g.deferAppend(&raftpb.Message{Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: new(uint64(20))}}})
	if len(g.deferred) != 1 {
		t.Errorf("%d messages wait behind another snapshot, want that alone", len(g.deferred))
	}
}
