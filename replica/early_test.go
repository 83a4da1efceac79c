package replica

import (
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"trinas/replica/volume"
)

// Goal: a primary applies ahead of its own log what is committed and a write, in order, each once, and within the
// bound; what Raft has handed out is not given again; nothing is after the leadership.
func TestEarly(t *testing.T) {
	entry := func(index uint64, kind volume.Kind) *raftpb.Entry {
		op := volume.Op{Kind: kind, File: 7, Gen: 1, Data: make([]byte, 1000)}
		if kind == volume.Remove {
			op.Name, op.Data = "a", nil
		}
		data, err := op.Encode(nil)
		if err != nil {
			t.Fatal(err)
		}
		return &raftpb.Entry{Index: &index, Data: data}
	}
	conf := raftpb.EntryConfChangeV2
	change := uint64(8)
	a := early{handed: 2}
	a.note([]*raftpb.Entry{entry(1, volume.Write)}, false) // as a secondary
	a.note([]*raftpb.Entry{entry(3, volume.Write), entry(4, volume.Write), entry(5, volume.Write), entry(6, volume.Remove),
		entry(7, volume.Write), {Index: &change, Type: &conf}, entry(9, volume.Write)}, true)
	take := func(limit int64, want ...uint64) {
		t.Helper()
		es := a.take(limit)
		for i, e := range es {
			if i >= len(want) || e.GetIndex() != want[i] {
				t.Errorf("entry %d is given, want %d", e.GetIndex(), want)
			}
		}
		if len(es) != len(want) {
			t.Errorf("%d entries are given, want %d", len(es), want)
		}
	}
	const all = 1 << 20
	take(all) // nothing is committed
	a.committed = 4
	take(all, 3, 4)
	take(all)
	a.committed = 9
	take(2500) // two of them are ahead of the log already
	take(all, 5)
	take(all) // the removal waits for the log
	a.handedOut(4)
	take(all)
	a.handedOut(6) // it is in the log
	take(all, 7)
	take(all) // and so does the change of the configuration
	a.handedOut(8)
	take(all, 9)
	a.handedOut(9)
	if a.bytes != 0 || len(a.entries) != 0 {
		t.Errorf("%d bytes and %d entries are left", a.bytes, len(a.entries))
	}
	a.note([]*raftpb.Entry{entry(10, volume.Write)}, true)
	a.committed = 10
	a.stop()
	take(all)
}
