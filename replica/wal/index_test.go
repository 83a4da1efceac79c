package wal

import (
	"errors"
	"maps"
	"math/rand/v2"
	"testing"

	"trinas/replica/disk"
)

// indexed is a log of some segments with entries 1 to 40 of group 1, closed without an error.
func indexed(t *testing.T) image {
	d := disk.NewMem(1).FS()
	l := open(t, d, Options{SegmentBytes: small})
	for i := range uint64(40) {
		must(t, do(l, Append{Group: l.Group(1), Entries: entries(i+1, i+1, 1, 6000)}))
	}
	must(t, do(l, Append{Group: l.Group(2), HardState: hardState{3, 2, 0}.proto(), Sync: true}))
	must(t, l.Close())
	img := save(t, d)
	if img[indexName] == nil {
		t.Fatal("Close leaves no index")
	}
	return img
}

// Goal: after a clean Close a log opens without being read, and holds what it held; the index is gone
// from the disk before anything is written.
func TestOpen_Index(t *testing.T) {
	img := indexed(t)
	mem := disk.NewMem(1)
	for name, b := range img {
		f, err := mem.FS().Open(name, disk.Create)
		must(t, err)
		_, err = f.WriteAt(b, 0)
		must(t, errors.Join(err, f.Sync(), f.Close()))
	}
	must(t, mem.FS().SyncDir("."))
	read, writes := int64(0), 0
	mem.OnOp(func(op, name string, off, n int64) error {
		switch op {
		case "read":
			read += n
		case "writesync":
			if _, err := mem.FS().Stat(indexName); err == nil {
				t.Error("the log is written while its index is there")
			}
			writes++
		}
		return nil
	})
	l := open(t, mem.FS(), Options{SegmentBytes: small})
	if most := int64(len(img[indexName]) + 4*frameBytes(2*6000)); read > most || read == 0 {
		t.Errorf("Open read %d bytes, want 1 to %d", read, most)
	}
	if hs := l.Group(2).HardState(); hs.GetTerm() != 3 || hs.GetVote() != 2 {
		t.Errorf("hard state of group 2: %v", hs)
	}
	must(t, do(l, Append{Group: l.Group(1), Entries: entries(41, 41, 1, 6000)}))
	if writes == 0 {
		t.Error("the test saw no write")
	}
	mem.Crash()
	_ = l.Close()
	if last, err := holds(t, mem.FS()); err != nil || last != 41 {
		t.Errorf("after a crash: %d entries, %v", last, err)
	}
}

// Goal: an index that is damaged, or not this log's of today, is not used, and the log is read whole.
func TestOpen_IndexDamaged(t *testing.T) {
	img := indexed(t)
	rng := rand.New(rand.NewPCG(1, 2))
	good := img[indexName]
	for range 300 {
		b := append([]byte(nil), good...)
		if rng.IntN(3) == 0 {
			b = b[:rng.IntN(len(b))]
		} else {
			b[rng.IntN(len(b))] ^= byte(1 + rng.IntN(255))
		}
		img[indexName] = b
		if last, err := holds(t, img.load(t)); err != nil || last != 40 {
			t.Fatalf("%d entries, %v", last, err)
		}
	}
	// The index of yesterday beside the log of today.
	img[indexName] = good
	d := img.load(t)
	l := open(t, d, Options{SegmentBytes: small})
	for i := range uint64(3) {
		must(t, do(l, Append{Group: l.Group(1), Entries: entries(41+i, 41+i, 1, 6000)}))
		later := maps.Clone(save(t, d))
		later[indexName] = good
		if last, err := holds(t, later.load(t)); err != nil || last != 41+i {
			t.Fatalf("an old index: %d entries, %v", last, err)
		}
	}
	must(t, l.Close())
}

// Goal: damage that Open does not look at, since the index says what is there, is found by whoever reads.
func TestOpen_IndexHidesNoDamage(t *testing.T) {
	img := indexed(t)
	img[segmentName(1)][2*disk.BlockBytes+100] ^= 1
	l := open(t, img.load(t), Options{SegmentBytes: small})
	defer l.Close()
	_, err := l.Group(1).Entries(1, 41, 1<<40)
	want(t, err, ErrDamaged)

	img = indexed(t)
	img[segmentName(2)] = img[segmentName(2)][:small/2]
	_, err = holds(t, img.load(t))
	want(t, err, ErrDamaged)
}
