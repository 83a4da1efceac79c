package volume

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"trinas/replica/disk"
)

// TestReadDir_Churn: a directory is read in small pieces while names come and go, through a
// restart in the middle. What stayed all the time is seen exactly once; nothing is seen twice.
func TestReadDir_Churn(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	fs := disk.NewMem(1).FS()
	r := newRig(t, fs)
	d := r.must(in(rootDir, MkDir, "d"))
	stays := map[string]bool{}
	for i := range 300 {
		name := fmt.Sprintf("old%d", i)
		r.must(in(d, Create, name))
		stays[name] = true
	}
	var come []string
	seen := map[string]int{}
	lastCookie := uint64(0)
	for round := 0; ; round++ {
		op := on(d, ReadDir)
		op.Offset, op.Count = lastCookie, uint32(1+rng.IntN(5))
		res := r.ask(op)
		if res.Err != OK || len(res.Entries) > int(op.Count) || res.Verifier != 0 {
			t.Fatalf("%+v", res)
		}
		for _, e := range res.Entries {
			if e.Cookie <= lastCookie {
				t.Fatalf("the cookie of %q goes back", e.Name)
			}
			lastCookie = e.Cookie
			seen[e.Name]++
		}
		if res.EOF {
			break
		}
		for range 6 { // more go than come
			name := fmt.Sprintf("old%d", rng.IntN(300))
			if stays[name] && len(stays) > 40 {
				delete(stays, name)
				r.do(in(d, Remove, name))
			}
		}
		name := fmt.Sprintf("new%d", round)
		r.must(in(d, Create, name))
		if come = append(come, name); len(come) > 3 {
			r.do(in(d, Remove, come[0]))
			come = come[1:]
		}
		if round == 20 {
			r.checkpoint()
			r.open(fs, Options{})
		}
		if round > 2000 {
			t.Fatal("the end never comes")
		}
	}
	for name := range stays {
		if seen[name] != 1 {
			t.Errorf("%q was seen %d times", name, seen[name])
		}
	}
	for name, n := range seen {
		if n > 1 {
			t.Errorf("%q was seen %d times", name, n)
		}
	}
	if seen["."] != 1 || seen[".."] != 1 {
		t.Error("no dots")
	}
	dir := r.v.table.inodes[d.File].dir
	if len(dir.entries) > 2*dir.len()+16 {
		t.Errorf("%d marks of removed names for %d names", len(dir.entries)-dir.len(), dir.len())
	}
}

// TestReadDir_Bounds: Count and Size bound an answer, which has one entry at least.
func TestReadDir_Bounds(t *testing.T) {
	r := newRig(t, disk.NewMem(1).FS())
	for i := range 50 {
		r.must(in(rootDir, Create, fmt.Sprintf("file%02d", i)))
	}
	ask := func(cookie uint64, count, size uint32) Result {
		op := on(rootDir, ReadDir)
		op.Offset, op.Count, op.Size = cookie, count, size
		return r.ask(op)
	}
	if res := ask(0, 0, 0); len(res.Entries) != 52 || !res.EOF {
		t.Errorf("%d entries", len(res.Entries))
	}
	if res := ask(0, 1, 1); len(res.Entries) != 1 || res.EOF || res.Entries[0].Attr.File != RootID {
		t.Errorf("%+v", res)
	}
	if res := ask(1, 10, 1); len(res.Entries) != 1 || res.Entries[0].Name != ".." {
		t.Errorf("%+v", res)
	}
	if res := ask(2, 100, 10*206); len(res.Entries) != 10 || res.EOF || res.Entries[0].Name != "file00" {
		t.Errorf("%d entries", len(res.Entries))
	}
	if res := ask(1<<60, 100, 0); len(res.Entries) != 0 || !res.EOF || res.Err != OK {
		t.Errorf("%+v", res)
	}
}
