package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

const (
	manyDir   = "many"
	filesEach = 1000 // in a folder of manyDir
	sampled   = 50   // one of so many files is read
)

func folder(i int) string { return fmt.Sprintf("%03d", i/filesEach) }
func base(i int) string   { return fmt.Sprintf("file%06d", i) }
func size(i int) int      { return 64 + i*7%512 }
func path(m, i int) string {
	return filepath.Join(mount(m), manyDir, folder(i), base(i))
}

// text is what file i holds.
func text(i int) []byte {
	line := fmt.Appendf(nil, "%d ", i*i)
	return bytes.Repeat(line, size(i)/len(line)+1)[:size(i)]
}

// each has every mount do its part of the files at the same time: those whose number has the remainder
// part. Mounts of all guests are in the same folder at the same time.
func (g *guest) each(count int, part func(m int) int, do func(m, i int) error) error {
	all := len(nodes) * mounts
	ended := make(chan error, mounts)
	for m := range mounts {
		go func() {
			for i := part(m) % all; i < count; i += all {
				if err := do(m, i); err != nil {
					ended <- fmt.Errorf("mount %d: %w", m, err)
					return
				}
			}
			ended <- nil
		}()
	}
	var errs []error
	for range mounts {
		errs = append(errs, <-ended)
	}
	return errors.Join(errs...)
}

// own is the part of the files that a mount of this guest makes.
func (g *guest) own(m int) int { return g.number*mounts + m }

// others is a part that another guest has made.
func (g *guest) others(m int) int { return g.own(m) + mounts }

func (g *guest) create(count int) error {
	begun := time.Now()
	err := g.each(count, g.own, func(m, i int) error {
		// The first of 24 that comes makes it.
		dir := filepath.Dir(path(m, i))
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		f, err := os.OpenFile(path(m, i), os.O_WRONLY|os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		if _, err := f.Write(text(i)); err != nil {
			f.Close()
			return err
		}
		return f.Close()
	})
	fmt.Printf("created in %.1f s\n", time.Since(begun).Seconds())
	return err
}

// sample reads some of the files that another guest has made.
func (g *guest) sample(count int) error {
	return g.each((count+sampled-1)/sampled, g.others, func(m, i int) error {
		i *= sampled
		got, _, err := read(path(m, i))
		if err == nil && !bytes.Equal(got, text(i)) {
			err = fmt.Errorf("%s holds %q, want %q", base(i), got, text(i))
		}
		return err
	})
}

// remove removes files that another guest has made.
func (g *guest) remove(count int) error {
	begun := time.Now()
	err := g.each(count, g.others, func(m, i int) error { return os.Remove(path(m, i)) })
	fmt.Printf("removed in %.1f s\n", time.Since(begun).Seconds())
	return err
}
