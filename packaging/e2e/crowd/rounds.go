package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
)

const (
	roundsDir   = "rounds"
	folders     = 3        // in roundsDir
	namesMost   = 24       // in all folders together
	callsRound  = 10       // changes in a round
	contentMost = 48 << 10 // bytes of a file
)

// tree is what the volume must hold: every guest makes the same changes to its own, in memory, and
// one of them to the volume.
type tree struct {
	rng   *rand.Rand
	files map[string][]byte // content by path below roundsDir
	dir   string            // where changes are made too, "": nowhere
}

// rounds has the guests write in turn and all of them read what is there then: what one has closed
// must be what others open (close-to-open consistency, nfs(5)).
func (g *guest) rounds(count int) error {
	t := &tree{rng: rand.New(rand.NewPCG(1, uint64(count))), files: map[string][]byte{}}
	if g.number == 0 {
		for i := range folders {
			if err := os.MkdirAll(filepath.Join(mount(0), roundsDir, fmt.Sprint(i)), 0o755); err != nil {
				return err
			}
		}
	}
	read := make([]int, len(nodes)) // files, by writer
	for round := range count * len(nodes) {
		if _, err := runner.Ask("meet", "write"); err != nil {
			return err
		}
		writer, through := round%len(nodes), t.rng.IntN(mounts)
		t.dir = ""
		if writer == g.number {
			t.dir = filepath.Join(mount(through), roundsDir)
		}
		for range callsRound {
			if err := t.change(); err != nil {
				return fmt.Errorf("round %d, mount %d: %w", round, through, err)
			}
		}
		if _, err := runner.Ask("meet", "read"); err != nil {
			return err
		}
		// Two mounts: they cache apart, also on the node that has written.
		for _, m := range []int{round, round + 3} {
			if err := t.compare(filepath.Join(mount(m), roundsDir)); err != nil {
				return fmt.Errorf("round %d, %s wrote by its mount %d, read by mount %d: %w", round, nodes[writer], through, m%mounts, err)
			}
			read[writer] += len(t.files)
		}
	}
	for i, n := range nodes {
		fmt.Printf("%d files read after %s wrote\n", read[i], n)
	}
	return nil
}

// change makes one change, drawn by lot.
func (t *tree) change() error {
	names := slices.Sorted(maps.Keys(t.files))
	fresh := fmt.Sprintf("%d/%03d", t.rng.IntN(folders), t.rng.IntN(1000))
	if len(names) == 0 || len(names) < namesMost && t.rng.IntN(3) == 0 {
		return t.write(fresh, os.O_CREATE|os.O_TRUNC, t.bytes())
	}
	name := names[t.rng.IntN(len(names))]
	switch t.rng.IntN(5) {
	case 0: // another content, often of the same size
		text := t.bytes()
		if old := t.files[name]; t.rng.IntN(2) == 0 && len(old) <= len(text) {
			text = text[:len(old)]
		}
		return t.write(name, os.O_TRUNC, text)
	case 1:
		return t.write(name, os.O_APPEND, t.bytes()[:t.rng.IntN(100)])
	case 2:
		size := t.rng.IntN(len(t.files[name]) + 1)
		t.files[name] = t.files[name][:size]
		return t.do(func() error { return os.Truncate(filepath.Join(t.dir, name), int64(size)) })
	case 3:
		to := fresh
		if t.rng.IntN(2) == 0 {
			to = names[t.rng.IntN(len(names))]
		}
		text := t.files[name]
		delete(t.files, name)
		t.files[to] = text
		return t.do(func() error { return os.Rename(filepath.Join(t.dir, name), filepath.Join(t.dir, to)) })
	}
	delete(t.files, name)
	return t.do(func() error { return os.Remove(filepath.Join(t.dir, name)) })
}

// bytes returns a content that is like no other: at least 100 bytes.
func (t *tree) bytes() []byte {
	b := make([]byte, 100+t.rng.IntN(contentMost-100))
	for i := range b {
		b[i] = byte(t.rng.Uint32())
	}
	return b
}

// write writes a file, with the flags given, and closes it.
func (t *tree) write(name string, flags int, text []byte) error {
	if flags&os.O_APPEND != 0 {
		t.files[name] = append(slices.Clip(t.files[name]), text...)
	} else {
		t.files[name] = text
	}
	return t.do(func() error {
		f, err := os.OpenFile(filepath.Join(t.dir, name), os.O_WRONLY|flags, 0o644)
		if err != nil {
			return err
		}
		if _, err := f.Write(text); err != nil {
			f.Close()
			return err
		}
		return f.Close()
	})
}

func (t *tree) do(change func() error) error {
	if t.dir == "" {
		return nil
	}
	return change()
}

// compare returns the first difference between what dir holds and what it must hold.
func (t *tree) compare(dir string) error {
	var found []string
	for i := range folders {
		// Opening a folder has its attributes asked for anew; what is in it is found by them.
		entries, err := os.ReadDir(filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			return err
		}
		for _, e := range entries {
			found = append(found, fmt.Sprintf("%d/%s", i, e.Name()))
		}
	}
	if want := slices.Sorted(maps.Keys(t.files)); !slices.Equal(found, want) {
		return fmt.Errorf("names: %v, want %v", found, want)
	}
	for name, want := range t.files {
		got, size, err := read(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if size != int64(len(want)) {
			return fmt.Errorf("size of %s: %d, want %d", name, size, len(want))
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("content of %s, %d bytes: differs", name, len(want))
		}
	}
	return nil
}

// read opens a file and returns what it holds and its size.
func read(path string) ([]byte, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	b, err := io.ReadAll(f)
	return b, info.Size(), err
}
