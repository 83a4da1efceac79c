package replica

import (
	"fmt"

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

// Snapshot names the state for a member whose next entry has left the log. The cluster's state
// travels in it; a volume's is fetched (resync.go).
func (s *storage) Snapshot() (*raftpb.Snapshot, error) {
	var data []byte
	index, term, conf := s.sm.Position()
	if sn, ok := s.sm.(snapshotter); ok {
		data, index, term, conf = sn.Snapshot()
	}
	cs := &raftpb.ConfState{}
	if err := proto.Unmarshal(conf, cs); err != nil {
		return nil, fmt.Errorf("decode the configuration: %w", err)
	}
	return &raftpb.Snapshot{Data: data, Metadata: &raftpb.SnapshotMetadata{
		ConfState: cs, Index: proto.Uint64(index), Term: proto.Uint64(term)}}, nil
}
