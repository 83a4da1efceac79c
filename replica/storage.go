package replica

import (
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"trinas/replica/wal"
)

// storage is Raft's view of the group's log and of the machine behind it.
type storage struct {
	*wal.Group
	sm machine
}

// InitialState gives what was durable at the last stop. The commit index rides with later log
// writes and may lag behind the checkpoint, which holds only committed entries.
func (s *storage) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	hs := s.HardState()
	if hs == nil {
		hs = &raftpb.HardState{}
	}
	index, _ := s.sm.Applied()
	hs = &raftpb.HardState{Term: proto.Uint64(hs.GetTerm()), Vote: proto.Uint64(hs.GetVote()),
		Commit: proto.Uint64(max(hs.GetCommit(), index))}
	cs := &raftpb.ConfState{}
	if err := proto.Unmarshal(s.sm.Conf(), cs); err != nil {
		return nil, nil, fmt.Errorf("decode the saved configuration: %w", err)
	}
	return hs, cs, nil
}

// Snapshot gives the state for a member whose next entry has left the log.
func (s *storage) Snapshot() (*raftpb.Snapshot, error) {
	sn, ok := s.sm.(snapshotter)
	if !ok {
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	data, index, term, conf := sn.Snapshot()
	cs := &raftpb.ConfState{}
	if err := proto.Unmarshal(conf, cs); err != nil {
		return nil, fmt.Errorf("decode the configuration: %w", err)
	}
	return &raftpb.Snapshot{Data: data, Metadata: &raftpb.SnapshotMetadata{
		ConfState: cs, Index: proto.Uint64(index), Term: proto.Uint64(term)}}, nil
}

// install makes a snapshot that came inside a message this member's state: first the machine's
// checkpoint, durably, then the log begins anew behind it. A crash between the two leaves a
// checkpoint that is ahead of the log, which openGroup mends the same way.
func (g *group) install(m *raftpb.Message) {
	snap := m.GetSnapshot()
	index, term := snap.GetMetadata().GetIndex(), snap.GetMetadata().GetTerm()
	conf, err := proto.Marshal(snap.GetMetadata().GetConfState())
	if err == nil {
		err = g.sm.(snapshotter).Restore(snap.GetData(), index, term, conf)
	}
	if err != nil {
		g.fail(fmt.Errorf("install the snapshot at %d of %s: %w", index, g.name, err))
		return
	}
	g.applied.set(index)
	g.lease.lead(g.raft.Status().Config.Voters)
	answers := m.GetResponses()
	g.store.Reset(index, term, nil)
	g.wal.Append(wal.Append{Group: g.store.Group, Entries: m.GetEntries(), Sync: true,
		HardState: &raftpb.HardState{Term: proto.Uint64(g.term), Vote: proto.Uint64(g.vote), Commit: proto.Uint64(index)},
		Done:      func(err error) { g.answer(answers, err) }})
}
