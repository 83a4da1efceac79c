package wal

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"trinas/replica/disk"

	"go.etcd.io/raft/v3/raftpb"
)

// BenchmarkAppend: synced appends on the real disk below $TMPDIR, so many in flight at a time;
// compacted as a checkpoint would.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20} {
		for _, depth := range []int{1, 16, 64} {
			b.Run(fmt.Sprintf("%dKiB/depth%d", size>>10, depth), func(b *testing.B) {
				benchmarkAppend(b, size, depth)
			})
		}
	}
}

func benchmarkAppend(b *testing.B, size, depth int) {
	l, err := Open(disk.OS(b.TempDir()), Options{}, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	g := l.Group(1)
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	failed := error(nil)
	room := make(chan struct{}, depth)
	done := func(err error) {
		if err != nil {
			failed = err
		}
		<-room
	}
	all := make([]raftpb.Entry, b.N) // made outside of the measurement: Raft's, not the log's
	lists := make([]*raftpb.Entry, b.N)
	for i := range all {
		all[i] = raftpb.Entry{Index: new(uint64(i + 1)), Term: new(uint64(1)), Data: data}
		lists[i] = &all[i]
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		room <- struct{}{}
		l.Append(Append{Group: g, Entries: lists[i : i+1 : i+1], Sync: true, Done: done})
		if keep := (256 << 20) / size; i%keep == 0 && i > keep {
			g.Compact(uint64(i - keep))
		}
	}
	for range depth {
		room <- struct{}{}
	}
	b.StopTimer()
	if failed != nil {
		b.Fatal(failed)
	}
}

// BenchmarkEntries: 64 entries of 4 KiB read back from the disk's cache.
func BenchmarkEntries(b *testing.B) {
	l, err := Open(disk.OS(b.TempDir()), Options{CacheBytes: 1}, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	if err := do(l, Append{Group: l.Group(1), Entries: entries(1, 64, 1, 4<<10)}); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(64 * 4 << 10)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Group(1).Entries(1, 65, 1<<30); err != nil {
			b.Fatal(err)
		}
	}
}
