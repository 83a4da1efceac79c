package wal

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"trinas/replica/disk"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// Goal: the log answers as raft's own MemoryStorage does, from the cache, from the disk, and from
// both at once, before and after a restart.
func TestGroup_Storage(t *testing.T) {
	mem := disk.NewMem(1)
	l := open(t, mem.FS(), Options{SegmentBytes: small, CacheBytes: 8 << 10})
	g, model := l.Group(7), raft.NewMemoryStorage()
	rng := rand.New(rand.NewPCG(1, 1))
	index, term := uint64(0), uint64(1)
	for range 80 {
		if rng.IntN(6) == 0 && index > 30 { // a conflicting suffix
			index -= rng.Uint64N(8)
			term++
		}
		var es []*raftpb.Entry
		for range 1 + rng.IntN(5) {
			index++
			e := entry(index, term, nil)
			switch rng.IntN(4) {
			case 0:
				e.Data = []byte{}
				e.Type = raftpb.EntryType_EntryConfChangeV2.Enum()
			case 1:
				e.Type = raftpb.EntryType_EntryNormal.Enum()
			default:
				e.Data = bytes.Repeat([]byte{byte(rng.Uint32())}, rng.IntN(2000))
			}
			es = append(es, e)
		}
		must(t, do(l, Append{Group: g, Entries: es}))
		must(t, model.Append(es))
	}
	g.Compact(20)
	must(t, model.Compact(20))

	compare := func(g *Group) {
		t.Helper()
		for i := range index + 3 {
			gotTerm, gotErr := g.Term(i)
			wantTerm, wantErr := model.Term(i)
			if gotTerm != wantTerm || gotErr != wantErr {
				t.Fatalf("term of %d: %d %v, want %d %v", i, gotTerm, gotErr, wantTerm, wantErr)
			}
		}
		for range 300 {
			lo := 1 + rng.Uint64N(index)
			hi := lo + 1 + rng.Uint64N(index+1-lo)
			size := rng.Uint64N(20000)
			got, gotErr := g.Entries(lo, hi, size)
			want, wantErr := model.Entries(lo, hi, size)
			if gotErr != wantErr || len(got) != len(want) {
				t.Fatalf("entries [%d, %d) up to %d: %d %v, want %d %v", lo, hi, size, len(got), gotErr, len(want), wantErr)
			}
			for i := range got {
				if !proto.Equal(got[i], want[i]) || proto.Size(got[i]) != proto.Size(want[i]) {
					t.Fatalf("entry %d differs: %v, want %v", lo+uint64(i), got[i], want[i])
				}
			}
		}
		if got := bounds(g); got != fmt.Sprintf("21-%d", index) {
			t.Fatal(got)
		}
		_, err := g.Entries(index, index+2, 1)
		want(t, err, raft.ErrUnavailable)
	}
	compare(g)
	if n := l.cached.Load(); n == 0 || n > 8<<10 {
		t.Fatalf("%d bytes cached", n)
	}
	must(t, l.Close())
	l = open(t, mem.FS(), Options{SegmentBytes: small})
	compare(l.Group(7))
	if !slices.Equal(l.Groups(), []uint64{7}) {
		t.Fatal(l.Groups())
	}
}

func TestGroup_HardState(t *testing.T) {
	mem := disk.NewMem(1)
	l := open(t, mem.FS(), Options{SegmentBytes: small})
	g := l.Group(1)
	if g.HardState() != nil {
		t.Fatal("a new group has a hard state")
	}
	writes := countWrites(mem)
	set := func(l *Log, term, vote, commit uint64, sync bool) {
		t.Helper()
		must(t, do(l, Append{Group: l.Group(1), HardState: hardState{term, vote, commit}.proto(), Sync: sync}))
		if h := l.Group(1).HardState(); h.GetTerm() != term || h.GetVote() != vote || h.GetCommit() != commit {
			t.Fatal(h)
		}
	}
	must(t, do(l, Append{Group: g, Entries: entries(1, 9, 1, 10)}))
	before := writes.Load()
	set(l, 1, 0, 5, true)
	set(l, 1, 3, 5, false) // a vote is synced whatever the caller says
	set(l, 2, 0, 5, false) // and so is a term
	if n := writes.Load() - before; n != 3 {
		t.Fatalf("%d writes for three hard states to sync", n)
	}
	set(l, 2, 0, 6, false)
	if n := writes.Load() - before; n != 3 {
		t.Fatal("the commit index alone was written")
	}
	mem.Crash()
	l.Close()
	l = open(t, mem.FS(), Options{SegmentBytes: small})
	if h := l.Group(1).HardState(); h.GetTerm() != 2 || h.GetCommit() != 5 {
		t.Fatal(h)
	}
	set(l, 2, 0, 7, false)
	must(t, l.Close()) // writes what waits
	l = open(t, mem.FS(), Options{SegmentBytes: small})
	if h := l.Group(1).HardState(); h.GetCommit() != 7 {
		t.Fatal(h)
	}
}

func TestGroup_ResetAndRemove(t *testing.T) {
	mem := disk.NewMem(1)
	l := open(t, mem.FS(), Options{SegmentBytes: small})
	g := l.Group(1)
	must(t, do(l, Append{Group: g, Entries: entries(1, 9, 1, 100), HardState: hardState{4, 2, 3}.proto()}))
	must(t, do(l, Append{Group: l.Group(2), Entries: entries(1, 3, 1, 100)}))
	reset := make(chan error, 1)
	g.Reset(50, 3, func(err error) { reset <- err })
	must(t, do(l, Append{Group: g, Entries: entries(51, 52, 4, 100)})) // may share the frame
	must(t, <-reset)
	l.Group(2).Remove(nil)
	l.Group(2).Remove(nil)
	must(t, do(l, Append{Group: g}))
	if err := do(l, Append{Group: newGroup(l, 2)}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		g := l.Group(1)
		if got := bounds(g); got != "51-52" || !slices.Equal(l.Groups(), []uint64{1}) {
			t.Fatal(got, l.Groups())
		}
		term, err := g.Term(50)
		if h := g.HardState(); term != 3 || err != nil || h.GetTerm() != 4 || h.GetVote() != 2 || h.GetCommit() != 50 {
			t.Fatal(term, err, h)
		}
		_, err = g.Entries(50, 51, 1)
		want(t, err, raft.ErrCompacted)
		if g.Bytes() != 2*(slotBytes+100) {
			t.Fatal(g.Bytes())
		}
		must(t, l.Close())
		l = open(t, mem.FS(), Options{SegmentBytes: small})
	}
	g = l.Group(1)
	g.Reset(10, 1, nil) // backwards, for a replica that starts again
	must(t, do(l, Append{Group: g, Entries: entries(11, 12, 5, 10)}))
	if got := bounds(g); got != "11-12" {
		t.Fatal(got)
	}
}

// A reader whose segment is compacted, used again and overwritten meanwhile hears that, and not
// that the log is damaged.
func TestGroup_EntriesRecycledMeanwhile(t *testing.T) {
	mem := disk.NewMem(1)
	l := open(t, mem.FS(), Options{SegmentBytes: small, CacheBytes: 1})
	g := l.Group(1)
	must(t, do(l, Append{Group: g, Entries: entries(1, 1, 1, 20000)}))
	once := false
	mem.OnOp(func(op, name string, off, n int64) error {
		if op == "read" && !once {
			once = true
			for i := uint64(2); i < 40; i++ {
				must(t, do(l, Append{Group: g, Entries: entries(i, i, 1, 20000)}))
				g.Compact(i)
			}
		}
		return nil
	})
	_, err := g.Entries(1, 2, 1)
	want(t, err, raft.ErrCompacted)
}
