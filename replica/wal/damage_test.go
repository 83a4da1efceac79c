package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"trinas/replica/disk"
)

// image is what a disk holds, by name.
type image map[string][]byte

func save(t *testing.T, d disk.FS) image {
	names, err := d.List(".")
	must(t, err)
	img := image{}
	for _, name := range names {
		f, err := d.Open(name, disk.ReadOnly)
		must(t, err)
		info, err := f.Stat()
		must(t, err)
		img[name] = make([]byte, info.SizeBytes)
		if _, err := f.ReadAt(img[name], 0); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		f.Close()
	}
	return img
}

func (img image) load(t testing.TB) disk.FS {
	d := disk.NewMem(1).FS()
	for name, b := range img {
		f, err := d.Open(name, disk.Create)
		if err == nil {
			_, err = f.WriteAt(b, 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return d
}

// longLog makes a log of some segments, with entries 1 to 40 in group 1, and tells where its last
// frame, which holds entry 40 and nothing else, is.
func longLog(t *testing.T) (img image, tail string, lastFrame int64) {
	d := disk.NewMem(1).FS()
	l := open(t, d, Options{SegmentBytes: small})
	for i := range uint64(40) {
		if i == 39 {
			must(t, do(l, Append{Group: l.Group(2), Entries: entries(1, 1, 1, 6000)})) // no new segment after it
			lastFrame, tail = l.w.tail.end, segmentName(l.w.tail.num)
		}
		must(t, do(l, Append{Group: l.Group(1), Entries: entries(i+1, i+1, 1, 6000)}))
	}
	must(t, l.Close())
	if lastFrame+2*disk.BlockBytes > small {
		t.Fatal("the last frame starts a segment: change the sizes")
	}
	img = save(t, d)
	delete(img, indexName) // as a crash leaves it: the log is read whole
	return img, tail, lastFrame
}

// holds opens the log and returns the last entry of group 1 when all up to it are good.
func holds(t *testing.T, d disk.FS) (uint64, error) {
	l, err := Open(d, Options{SegmentBytes: small}, nil)
	if err != nil {
		return 0, err
	}
	defer l.Close()
	last, _ := l.Group(1).LastIndex()
	got, err := l.Group(1).Entries(1, last+1, 1<<40)
	if err != nil || uint64(len(got)) != last {
		t.Fatalf("entries to %d: %d, %v", last, len(got), err)
	}
	for i, e := range entries(1, last, 1, 6000) {
		if string(e.Data) != string(got[i].Data) {
			t.Fatalf("entry %d differs", i+1)
		}
	}
	return last, nil
}

// Goal: no damage loses anything acknowledged in silence, but for the last frame, which cannot be
// told from one that a crash tore. Method: one byte changed, anywhere in the log.
func TestOpen_Damage(t *testing.T) {
	img, tail, lastFrame := longLog(t)
	names := slices.Sorted(maps.Keys(img))
	rng := rand.New(rand.NewPCG(1, 1))
	found, torn := 0, 0
	for i := range 1500 {
		name, off := names[rng.IntN(len(names))], rng.Int64N(small)
		switch i % 3 {
		case 1:
			off = off&^(disk.BlockBytes-1) + rng.Int64N(headerBytes+2*slotBytes) // headers, if any
		case 2:
			name, off = tail, lastFrame+rng.Int64N(2*disk.BlockBytes)
		}
		bits := byte(1 + rng.IntN(255))
		img[name][off] ^= bits
		last, err := holds(t, img.load(t))
		img[name][off] ^= bits
		inLast := name == tail && off >= lastFrame
		switch {
		case err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewerFormat):
			t.Fatalf("%s at %d: %v", name, off, err)
		case err != nil:
			found++
			if msg := err.Error(); !strings.Contains(msg, segmentSuffix) || !strings.Contains(msg, "offset") ||
				errors.Is(err, ErrDamaged) && !strings.Contains(msg, "trinas node replace") {
				t.Fatalf("%s at %d: message without file, offset or what to do: %v", name, off, err)
			}
			if errors.Is(err, ErrDamaged) && inLast {
				t.Fatalf("%s at %d: %v, want the torn frame cut", name, off, err)
			}
		case inLast && last == 39:
			torn++
		case last != 40:
			t.Fatalf("%s at %d: only %d entries left, and no error", name, off, last)
		}
	}
	if found < 100 || torn < 100 {
		t.Fatalf("%d found, %d torn: the test does not hit the log", found, torn)
	}
}

func TestOpen_MissingSegment(t *testing.T) {
	img, tail, _ := longLog(t)
	for name := range img {
		b := img[name]
		delete(img, name)
		last, err := holds(t, img.load(t))
		if name > tail { // a spare
			if err != nil || last != 40 {
				t.Fatal(name, last, err)
			}
		} else if name < tail && !errors.Is(err, ErrDamaged) {
			t.Fatalf("without %s: %d entries, %v", name, last, err)
		}
		img[name] = b
	}
}

// A lost vote leaves no hole in the indexes: only the frame numbers tell.
func TestOpen_LostVote(t *testing.T) {
	d := disk.NewMem(1).FS()
	l := open(t, d, Options{SegmentBytes: small})
	must(t, do(l, Append{Group: l.Group(2), Entries: entries(1, 1, 1, 10)})) // keeps the first segment
	for term := uint64(1); l.w.frame < small/disk.BlockBytes+3; term++ {
		must(t, do(l, Append{Group: l.Group(1), HardState: hardState{term, 1, 0}.proto(), Sync: true}))
	}
	must(t, l.Close())
	img := save(t, d)
	delete(img, indexName)
	img[segmentName(1)][small-disk.BlockBytes] ^= 1
	_, err := holds(t, img.load(t))
	want(t, err, ErrDamaged)
}

// Frames that are whole, and say what no log could.
func TestOpen_Nonsense(t *testing.T) {
	one := record{kind: kindEntry, group: 1, index: 1, term: 1}
	for name, recs := range map[string][]record{
		"hole":           {one, {kind: kindEntry, group: 1, index: 3, term: 1}},
		"below the base": {{kind: kindReset, group: 1, index: 5}, {kind: kindEntry, group: 1, index: 5, term: 1}},
		"other last":     {one, {kind: kindState, group: 1, last: 2}},
		"base sinks":     {{kind: kindReset, group: 1, index: 5}, {kind: kindState, group: 1, index: 4, last: 5}},
		"base above":     {one, {kind: kindState, group: 1, index: 2, last: 1}},
		"last is -1":     {{kind: kindState, group: 1, last: 1<<64 - 1}},
		"reset to -1":    {{kind: kindReset, group: 1, index: 1<<64 - 1}},
		"nothing there":  {{kind: kindState, group: 1, index: 3, last: 9}},
	} {
		img := image{segmentName(1): make([]byte, small)}
		encodeFrame(img[segmentName(1)][:frameBytes(payloadBytes(recs))], header{logID: 7, segment: 1, frame: 1}, recs)
		if _, err := holds(t, img.load(t)); !errors.Is(err, ErrDamaged) {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

// A segment that is cut short (restored from a bad copy) has lost its end.
func TestOpen_ShortSegment(t *testing.T) {
	img, _, _ := longLog(t)
	img[segmentName(2)] = img[segmentName(2)][:small/2]
	_, err := holds(t, img.load(t))
	want(t, err, ErrDamaged)
}

func TestOpen_NewerFormat(t *testing.T) {
	img, tail, _ := longLog(t)
	binary.LittleEndian.PutUint32(img[tail][8:], version+1)
	_, err := holds(t, img.load(t))
	want(t, err, ErrNewerFormat)
}

func TestOpen_SegmentOfAnotherLog(t *testing.T) {
	img, tail, _ := longLog(t)
	other, _, _ := longLog(t)
	img[tail] = other[tail]
	_, err := holds(t, img.load(t))
	want(t, err, ErrDamaged)
}

// What looks like a later frame, in the data of an entry, is none: only a frame with this log's id
// and segment number is. And one that has them, after a hole, is proof of damage.
func TestOpen_FramesAfterTheEnd(t *testing.T) {
	img, tail, lastFrame := longLog(t)
	end := lastFrame + 2*disk.BlockBytes
	frame := img[tail][lastFrame:end]
	h, err := decodeHeader(frame, 1<<20)
	must(t, err)
	for name, change := range map[string]func(h *header){
		"other log":     func(h *header) { h.logID++ },
		"other segment": func(h *header) { h.segment++ },
		"older":         func(h *header) { h.frame -= 5 },
		"later":         func(h *header) {},
	} {
		h := h
		h.frame += 9
		change(&h)
		b := disk.AlignedBytes(disk.BlockBytes)
		encodeFrame(b, h, nil)
		copy(img[tail][end+disk.BlockBytes:], b)
		if name == "older" {
			continue
		}
		last, err := holds(t, img.load(t))
		if name == "later" {
			want(t, err, ErrDamaged)
		} else if err != nil || last != 40 {
			t.Fatal(name, last, err)
		}
	}
}

// An entry that goes bad while the log is open is an error for whoever reads it.
func TestGroup_EntriesDamaged(t *testing.T) {
	d := disk.NewMem(1).FS()
	l := open(t, d, Options{SegmentBytes: small, CacheBytes: 1})
	must(t, do(l, Append{Group: l.Group(1), Entries: entries(1, 3, 1, 3000)}))
	f, err := d.Open(segmentName(1), disk.ReadWrite)
	must(t, err)
	_, err = f.WriteAt([]byte("bad"), disk.BlockBytes+5000) // in entry 2
	must(t, err)
	if _, err := l.Group(1).Entries(1, 2, 1); err != nil {
		t.Fatal(err)
	}
	_, err = l.Group(1).Entries(1, 4, 1<<20)
	want(t, err, ErrDamaged)
	if !strings.Contains(fmt.Sprint(err), segmentName(1)) {
		t.Fatal(err)
	}
}
