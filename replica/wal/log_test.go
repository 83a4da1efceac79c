package wal

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"trinas/replica/disk"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

const small = 64 << 10 // segments of 16 blocks

func open(t *testing.T, fs disk.FS, opt Options) *Log {
	t.Helper()
	l, err := Open(fs, opt, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func entry(index, term uint64, data []byte) *raftpb.Entry {
	return &raftpb.Entry{Index: new(index), Term: new(term), Data: data}
}

func entries(from, to, term uint64, size int) (es []*raftpb.Entry) {
	for i := from; i <= to; i++ {
		es = append(es, entry(i, term, bytes.Repeat([]byte{byte(i), byte(term)}, size/2)))
	}
	return es
}

// do appends and waits for Done.
func do(l *Log, a Append) error {
	answer := make(chan error, 1)
	a.Done = func(err error) { answer <- err }
	l.Append(a)
	return <-answer
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("got error %v, want %v", err, target)
	}
}

func bounds(g *Group) string {
	first, _ := g.FirstIndex()
	last, _ := g.LastIndex()
	return fmt.Sprintf("%d-%d", first, last)
}

func countWrites(mem *disk.Mem) *atomic.Int64 {
	var n atomic.Int64
	mem.OnOp(func(op, name string, off, length int64) error {
		if op == "writesync" {
			n.Add(1)
		}
		return nil
	})
	return &n
}

func TestLog_RefusesHoles(t *testing.T) {
	l := open(t, disk.NewMem(1).FS(), Options{SegmentBytes: small})
	for i, bad := range [][]*raftpb.Entry{
		entries(2, 3, 1, 1),
		entries(0, 3, 1, 1),
		{entry(1, 1, nil), entry(3, 1, nil)},
		{entry(1, 1, make([]byte, small/2+1))},
		{{Index: new(uint64(1)), Type: raftpb.EntryType(127).Enum()}},
	} {
		g := l.Group(uint64(i))
		if err := do(l, Append{Group: g, Entries: bad}); err == nil {
			t.Fatalf("%d: taken", i)
		}
		if err := do(l, Append{Group: g, Entries: entries(1, 1, 1, 1)}); err == nil {
			t.Fatalf("%d: the group goes on", i)
		}
	}
	must(t, do(l, Append{Group: l.Group(99), Entries: entries(1, 1, 1, 1)})) // others do go on
	must(t, l.Err())
	g := l.Group(50)
	g.Remove(nil)
	if err := do(l, Append{Group: g, Entries: entries(1, 1, 1, 1)}); err == nil {
		t.Fatal("append to a removed group taken")
	}
	for _, opt := range []Options{{SegmentBytes: 4096}, {SegmentBytes: small + 1}, {CacheBytes: -1}, {SpareSegments: 99}} {
		if _, err := Open(disk.NewMem(1).FS(), opt, nil); err == nil {
			t.Fatalf("%+v taken", opt)
		}
	}
}

// Entries without data stand at one place with what follows them: the cache must still get rid of
// them (it once did not, for ever).
func TestLog_CacheOfEmptyEntries(t *testing.T) {
	l := open(t, disk.NewMem(1).FS(), Options{SegmentBytes: small, CacheBytes: 1})
	for i := range uint64(20) {
		for id := range uint64(3) {
			l.Append(Append{Group: l.Group(id), Entries: entries(i+1, i+1, 1, 0)})
		}
	}
	must(t, do(l, Append{Group: l.Group(1)}))
	must(t, l.Close())
	if n := l.cached.Load(); n != 0 {
		t.Fatalf("%d bytes cached", n)
	}
}

// One frame for all that queued up while the disk was busy; Done in order.
func TestLog_GroupCommit(t *testing.T) {
	mem := disk.NewMem(1)
	var batches []int
	l := open(t, mem.FS(), Options{OnSync: func(took time.Duration, bytes, n int) { batches = append(batches, n) }})
	busy, goOn := make(chan bool), make(chan bool)
	mem.OnOp(func(op, name string, off, n int64) error {
		if op == "writesync" && off > 0 {
			busy <- true
			<-goOn
		}
		return nil
	})
	var order []uint64
	last := make(chan bool)
	before, _ := l.Progress()
	for i := range uint64(20) {
		l.Append(Append{Group: l.Group(i % 3), Entries: entries(i/3+1, i/3+1, 1, 4096), Done: func(err error) {
			if order = append(order, i); i == 19 {
				close(last)
			}
		}})
		if i == 0 {
			<-busy
			if l.InFlight() <= 0 {
				t.Error("no write in flight")
			}
			// The segment's first frame is written, this one hangs.
			if steps, busy := l.Progress(); steps-before != 1 || !busy {
				t.Errorf("a write hangs: %d steps, busy %v", steps-before, busy)
			}
		}
	}
	goOn <- true
	<-busy
	goOn <- true
	<-last
	must(t, l.Close())
	if fmt.Sprint(batches) != "[0 1 19]" || !slices.IsSorted(order) || len(order) != 20 || l.InFlight() != 0 {
		t.Fatal(batches, order)
	}
	// Two batches with their frames, and the first frame of the segment.
	if steps, busy := l.Progress(); steps-before != 5 || busy {
		t.Errorf("%d steps, busy %v after all was written", steps-before, busy)
	}
}

// Goal: what is appended with Lend is durable and answered when Lend returns, if the log is idle; while
// somebody writes Lend does not wait, and the order is kept. Method: the second of three writes hangs.
// In virtual time a write takes none, so the disk is swift however busy the machine.
func TestLog_Lend(t *testing.T) { synctest.Test(t, testLend) }

func testLend(t *testing.T) {
	mem := disk.NewMem(1)
	l := open(t, mem.FS(), Options{})
	g := l.Group(1)
	must(t, do(l, Append{Group: g, Entries: entries(1, 1, 1, 10)}))
	synctest.Wait() // the log's goroutine answered, and then is done writing
	var order []uint64
	lend := func(i uint64) {
		l.Append(Append{Group: g, Entries: entries(i, i, 1, 10), Lend: true, Done: func(err error) {
			if order = append(order, i); err != nil {
				t.Error(err)
			}
		}})
		l.Lend()
	}
	if lend(2); fmt.Sprint(order) != "[2]" || bounds(g) != "1-2" {
		t.Fatalf("after Lend: answered %v, durable %s", order, bounds(g))
	}
	writing, goOn, wrote := make(chan bool), make(chan bool), make(chan bool)
	mem.OnOp(func(op, name string, off, n int64) error {
		if op == "writesync" {
			writing <- true
			<-goOn
		}
		return nil
	})
	go func() {
		lend(3)
		close(wrote)
	}()
	<-writing
	lend(4)
	goOn <- true
	<-wrote
	<-writing // the log's own goroutine
	goOn <- true
	must(t, l.Close())
	if fmt.Sprint(order) != "[2 3 4]" || bounds(g) != "1-4" {
		t.Fatalf("answered %v, durable %s", order, bounds(g))
	}
}

// Goal: who takes entries in waits while more than QueueBytes of them wait for the disk, and goes on when
// they are written, or when the log ends.
func TestLog_AwaitRoom(t *testing.T) { synctest.Test(t, testAwaitRoom) }

func testAwaitRoom(t *testing.T) {
	mem := disk.NewMem(1)
	l := open(t, mem.FS(), Options{QueueBytes: 10_000})
	goOn := make(chan error)
	mem.OnOp(func(op, name string, off, n int64) error {
		if op == "writesync" {
			return <-goOn
		}
		return nil
	})
	g := l.Group(1)
	waits := func(i uint64, bytes int) (room chan bool) {
		l.Append(Append{Group: g, Entries: entries(i, i, 1, bytes)})
		room = make(chan bool)
		go func() {
			l.AwaitRoom()
			close(room)
		}()
		synctest.Wait()
		return room
	}
	in := func(room chan bool) bool {
		select {
		case <-room:
			return true
		default:
			return false
		}
	}
	if !in(waits(1, 5_000)) {
		t.Fatal("no room for half of what there is room for")
	}
	second := waits(2, 5_000)
	if in(second) {
		t.Fatal("room, with more waiting than there may be")
	}
	goOn <- nil // the segment's first frame
	goOn <- nil
	synctest.Wait()
	if !in(second) {
		t.Error("no room, with half of it written")
	}
	third := waits(3, 20_000)
	goOn <- nil
	goOn <- errors.New("disk gone")
	synctest.Wait()
	if !in(third) {
		t.Error("who waits is not told that the log has failed")
	}
	_ = l.Close()
}

// Goal: a probe is one write, none while there is another, and changes nothing.
func TestGroup_Probe(t *testing.T) { synctest.Test(t, testProbe) }

func testProbe(t *testing.T) {
	mem := disk.NewMem(1)
	l := open(t, mem.FS(), Options{})
	g := l.Group(1)
	must(t, do(l, Append{Group: g, Entries: entries(1, 3, 2, 10), HardState: hardState{2, 1, 3}.proto(), Sync: true}))
	synctest.Wait()
	var writes atomic.Int64
	goOn := make(chan bool)
	mem.OnOp(func(op, _ string, _, _ int64) error {
		if op == "writesync" {
			writes.Add(1)
			<-goOn
		}
		return nil
	})
	for range 3 {
		g.Probe()
		synctest.Wait()
	}
	time.Sleep(time.Second)
	if n := writes.Load(); n != 1 || l.InFlight().Round(time.Millisecond) != time.Second {
		t.Errorf("%d writes, one has taken %s", n, l.InFlight())
	}
	goOn <- true
	synctest.Wait()
	if l.InFlight() != 0 {
		t.Error("the write has not ended")
	}
	mem.OnOp(nil)
	mem.Crash()
	_ = l.Close()
	g = open(t, mem.FS(), Options{}).Group(1)
	if got := g.HardState(); bounds(g) != "1-3" || got.GetTerm() != 2 || got.GetVote() != 1 || got.GetCommit() != 3 {
		t.Errorf("entries %s, state %v", bounds(g), got)
	}
}

func TestLog_LargeEntries(t *testing.T) {
	mem := disk.NewMem(1)
	l := open(t, mem.FS(), Options{CacheBytes: 1})
	g := l.Group(1)
	big := bytes.Repeat([]byte("0123456789abcdef"), MaxEntryBytes/16)
	es := append(entries(1, 3, 1, 100), entry(4, 1, big), entry(5, 1, big), entry(6, 1, []byte("end")))
	es = append(es, entries(7, 30, 1, 1<<20)...) // several frames
	must(t, do(l, Append{Group: g, Entries: es}))
	must(t, l.Close())
	l = open(t, mem.FS(), Options{})
	got, err := l.Group(1).Entries(1, 31, 1<<40)
	must(t, err)
	for i := range es {
		if !bytes.Equal(got[i].Data, es[i].Data) {
			t.Fatalf("entry %d differs", i+1)
		}
	}
}

// Segments are freed, oldest first, once no group needs them, and used again; a group that does
// not write keeps its hard state and base all the same.
func TestLog_Recycling(t *testing.T) {
	mem := disk.NewMem(1)
	created := atomic.Int64{}
	mem.OnOp(func(op, name string, off, n int64) error {
		if op == "create" {
			created.Add(1)
		}
		return nil
	})
	l := open(t, mem.FS(), Options{SegmentBytes: small, CacheBytes: 1})
	idle, busy := l.Group(1), l.Group(2)
	must(t, do(l, Append{Group: idle, Entries: entries(1, 5, 3, 10), HardState: hardState{3, 1, 5}.proto()}))
	idle.Compact(5)
	holder := l.Group(3)
	must(t, do(l, Append{Group: holder, Entries: entries(1, 1, 1, 10)}))
	next := uint64(1)
	fill := func(n int) {
		for range n {
			must(t, do(l, Append{Group: busy, Entries: entries(next, next, 4, 30000)}))
			next++
			busy.Compact(next - 2)
		}
	}
	fill(20)
	if n := l.Bytes(); n < 8*small || !slices.Equal(l.Oldest(), []uint64{3}) {
		t.Fatal(n, l.Oldest())
	}
	holder.Compact(1) // nothing else is written: this alone must free
	must(t, do(l, Append{Group: busy}))
	if n := l.Bytes(); n > 3*small {
		t.Fatal(n)
	}
	fill(5)
	settled := created.Load()
	fill(100)
	if n := l.Bytes(); n > 3*small || created.Load() > settled+2 {
		t.Fatalf("%d bytes in use, %d segments made", n, created.Load()-settled)
	}
	must(t, l.Close())
	l = open(t, mem.FS(), Options{SegmentBytes: small})
	if h := l.Group(1).HardState(); bounds(l.Group(1)) != "6-5" || h.GetTerm() != 3 || h.GetCommit() != 5 {
		t.Fatal(bounds(l.Group(1)), h)
	}
	if got := bounds(l.Group(2)); got != fmt.Sprintf("%d-%d", next-1, next-1) {
		t.Fatal(got)
	}
	must(t, l.Close())

	l = open(t, mem.FS(), Options{SegmentBytes: 4 * small}) // another size: old ones go by and by
	busy = l.Group(2)
	must(t, do(l, Append{Group: busy, Entries: entries(next, next, 4, 2*small)})) // fits no old one
	next++
	fill(30)
	must(t, l.Close())
	info, err := mem.FS().Stat(segmentName(l.tail))
	if err != nil || info.SizeBytes != 4*small {
		t.Fatal(info, err)
	}
}

// A segment must stay until the base that makes it needless is durable, not only known: Compact
// may come while a frame is being written that frees segments for another reason.
func TestLog_CompactDuringWrite(t *testing.T) {
	mem := disk.NewMem(1)
	l := open(t, mem.FS(), Options{SegmentBytes: small})
	for i := range uint64(20) {
		must(t, do(l, Append{Group: l.Group(1), Entries: entries(i+1, i+1, 1, 20000)}))
	}
	writes, early := 0, 0
	mem.OnOp(func(op, name string, off, n int64) error {
		if op == "writesync" {
			if writes++; writes == 1 {
				l.Group(1).Compact(20)
			} else {
				l.mu.Lock()
				early = max(early, int(l.oldest)-1)
				l.mu.Unlock()
			}
		}
		return nil
	})
	l.Group(2).Reset(1, 1, nil)
	must(t, do(l, Append{Group: l.Group(2)}))
	must(t, do(l, Append{Group: l.Group(2)}))
	if writes != 2 || early > 0 {
		t.Fatalf("%d writes, %d segments freed before the second was durable", writes, early)
	}
	if l.Bytes() > small {
		t.Fatal("nothing freed in the end")
	}
}

// A failed write, and a failed sync, are final.
func TestLog_FailureIsFinal(t *testing.T) {
	for _, failing := range []string{"writesync", "sync"} {
		mem := disk.NewMem(1)
		l := open(t, mem.FS(), Options{SegmentBytes: small})
		g := l.Group(1)
		must(t, do(l, Append{Group: g, Entries: entries(1, 2, 1, 10)}))
		fault, once := errors.New("fault"), atomic.Bool{}
		mem.OnOp(func(op, name string, off, n int64) error {
			if op == failing && !once.Swap(true) {
				return fault
			}
			return nil
		})
		want(t, do(l, Append{Group: g, Entries: entries(3, 3, 1, 10)}), fault)
		<-l.Done()
		want(t, l.Err(), fault)
		want(t, do(l, Append{Group: g, Entries: entries(3, 3, 1, 10)}), fault)
		want(t, do(l, Append{Group: l.Group(2)}), fault)
		if got := bounds(g); got != "1-2" {
			t.Fatal("what was not durable is shown:", got)
		}
		want(t, l.Close(), fault)
		want(t, do(l, Append{Group: g}), fault)
		l = open(t, mem.FS(), Options{SegmentBytes: small})
		if got := bounds(l.Group(1)); got != "1-2" && got != "1-3" {
			t.Fatal(got)
		}
	}
}

func TestLog_FullDisk(t *testing.T) {
	mem := disk.NewMem(1)
	mem.SetSpace(small - 1)
	_, err := Open(mem.FS(), Options{SegmentBytes: small}, nil)
	want(t, err, syscall.ENOSPC)
	mem.SetSpace(3 * small)
	l := open(t, mem.FS(), Options{SegmentBytes: small})
	g := l.Group(1)
	acked := uint64(0)
	for err = nil; err == nil; acked++ {
		err = do(l, Append{Group: g, Entries: entries(acked+1, acked+1, 1, 10000)})
	}
	acked--
	want(t, err, syscall.ENOSPC)
	if acked < 12 || !strings.Contains(err.Error(), "free space") {
		t.Fatal(acked, err)
	}
	<-l.Done()
	l.Close()
	l = open(t, mem.FS(), Options{SegmentBytes: small})
	g = l.Group(1)
	if got := bounds(g); got != fmt.Sprintf("1-%d", acked) {
		t.Fatal(got)
	}
	mem.SetSpace(6 * small) // room again: noticed when it is needed
	for i := range uint64(10) {
		must(t, do(l, Append{Group: g, Entries: entries(acked+1+i, acked+1+i, 1, 10000)}))
	}
	must(t, l.Close())
	want(t, do(l, Append{Group: g}), ErrClosed)
}

// An idle log does nothing at all.
func TestLog_Idle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := disk.NewMem(1)
		l := open(t, mem.FS(), Options{SegmentBytes: small})
		must(t, do(l, Append{Group: l.Group(1), Entries: entries(1, 1, 1, 10)}))
		synctest.Wait()
		mem.OnOp(func(op, name string, off, n int64) error {
			t.Error("an idle log does", op)
			return nil
		})
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		mem.OnOp(nil)
		must(t, l.Close())
	})
}

// The real disk: what was appended is there after a restart, from recycled segments too.
func TestLog_RealDisk(t *testing.T) {
	d := disk.OS(t.TempDir()).Sub("log")
	l := open(t, d, Options{SegmentBytes: small, CacheBytes: 1})
	for i := range uint64(30) {
		must(t, do(l, Append{Group: l.Group(1), Entries: entries(i+1, i+1, 1, 20000)}))
		l.Group(1).Compact(i / 2)
	}
	must(t, l.Close())
	must(t, l.Close())
	l = open(t, d, Options{SegmentBytes: small})
	got, err := l.Group(1).Entries(16, 31, 1<<40)
	must(t, err)
	for i, e := range entries(16, 30, 1, 20000) {
		if !proto.Equal(e, got[i]) {
			t.Fatalf("entry %d differs", e.GetIndex())
		}
	}
	if n := l.Bytes(); n > 10*small {
		t.Fatal(n)
	}
}
