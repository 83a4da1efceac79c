package rescue

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"trinas/replica/disk"
)

// Goal: an overlay behaves as the real disk does, and the base stays as it was. Method: the same
// random operations on an overlay and on a plain copy of its base, compared after each; then the
// base's fingerprint.
func TestOverlay_AsTheRealDisk(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			base, plain := t.TempDir(), t.TempDir()
			furnish(t, base)
			furnish(t, plain)
			before := fingerprint(t, base)
			overlay, err := NewOverlay(disk.OS(base), t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			defer overlay.Close()
			run := &run{t: t, rnd: rand.New(rand.NewPCG(seed, 0)), got: overlay, want: disk.OS(plain)}
			for range 300 {
				run.step()
			}
			run.compare()
			if fingerprint(t, base) != before {
				t.Error("the base has changed")
			}
		})
	}
}

// furnish makes the files that a run starts from.
func furnish(t *testing.T, dir string) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(1, 1))
	for i, name := range []string{"a/one", "a/two", "b/one", "three"} {
		b := make([]byte, 3*disk.BlockBytes+i*1000)
		for j := range b {
			b[j] = byte(rnd.Uint32())
		}
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, b, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

func fingerprint(t *testing.T, dir string) string {
	t.Helper()
	sum := sha256.New()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintln(sum, path, info.Mode(), info.Size(), info.ModTime())
		if d.IsDir() {
			return nil
		}
		b, err := os.ReadFile(path)
		sum.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sum.Sum(nil))
}

// run drives two file systems through the same operations.
type run struct {
	t         *testing.T
	rnd       *rand.Rand
	got, want disk.FS
}

// both does the same on both, and compares whether it worked and why not.
func (r *run) both(what string, do func(disk.FS) error) error {
	r.t.Helper()
	got, want := do(r.got), do(r.want)
	if (got == nil) != (want == nil) || errors.Is(got, fs.ErrNotExist) != errors.Is(want, fs.ErrNotExist) {
		r.t.Fatalf("%s: got %v, want %v", what, got, want)
	}
	return got
}

func (r *run) name() string {
	dirs := []string{"", "a/", "b/", "c/", "c/d/"}
	names := []string{"one", "two", "three", "four"}
	return dirs[r.rnd.IntN(len(dirs))] + names[r.rnd.IntN(len(names))]
}

func (r *run) step() {
	r.t.Helper()
	name := r.name()
	switch r.rnd.IntN(12) {
	case 0:
		r.both("remove "+name, func(f disk.FS) error { return f.Remove(name) })
	case 1:
		to := r.name()
		r.both("rename "+name+" "+to, func(f disk.FS) error { return f.Rename(name, to) })
	case 2:
		dir := []string{"b", "c", "c/d"}[r.rnd.IntN(3)]
		r.both("mkdir "+dir, func(f disk.FS) error { return f.MkdirAll(dir) })
	case 3:
		dir := []string{"b", "c", "c/d"}[r.rnd.IntN(3)]
		r.both("remove dir "+dir, func(f disk.FS) error {
			if dir == "b" {
				return f.RemoveAll(dir)
			}
			return f.Remove(dir)
		})
	default:
		r.change(name)
	}
	if r.rnd.IntN(20) == 0 {
		r.compare()
	}
}

// change opens a file and changes it a few times.
func (r *run) change(name string) {
	r.t.Helper()
	mode := []disk.Mode{disk.ReadWrite, disk.Create}[r.rnd.IntN(2)]
	seed := r.rnd.Uint64()
	r.both("change "+name, func(f disk.FS) error {
		rnd := rand.New(rand.NewPCG(seed, 0))
		file, err := f.Open(name, mode)
		if err != nil {
			return err
		}
		for range 1 + rnd.IntN(4) {
			if err := scribble(file, rnd); err != nil {
				return err
			}
		}
		return file.Close()
	})
}

func scribble(file disk.File, rnd *rand.Rand) error {
	off, length := rnd.Int64N(5*disk.BlockBytes), rnd.Int64N(2*disk.BlockBytes)
	switch rnd.IntN(6) {
	case 0:
		return file.Truncate(off)
	case 1:
		return file.PunchHole(off, length+1)
	case 2:
		return file.Truncate(off - off%disk.BlockBytes)
	case 3:
		p := disk.AlignedBytes(disk.BlockBytes)
		p[0], p[disk.BlockBytes-1] = byte(off), byte(length)
		return file.WriteSync(p, off-off%disk.BlockBytes)
	case 4:
		return file.Preallocate(length)
	}
	p := make([]byte, length)
	for i := range p {
		p[i] = byte(rnd.Uint32())
	}
	_, err := file.WriteAt(p, off)
	return err
}

// compare reads both trees whole.
func (r *run) compare() {
	r.t.Helper()
	got, want := r.tree(r.got, "."), r.tree(r.want, ".")
	if len(got) != len(want) {
		r.t.Fatalf("got %d names, want %d: %v, %v", len(got), len(want), names(got), names(want))
	}
	for name, b := range want {
		g, there := got[name]
		if !there {
			r.t.Fatalf("%s is missing", name)
		}
		if !bytes.Equal(g, b) {
			r.t.Fatalf("%s: %d bytes differ from %d bytes", name, len(g), len(b))
		}
	}
}

func names(tree map[string][]byte) (out []string) {
	for n := range tree {
		out = append(out, n)
	}
	return out
}

func (r *run) tree(f disk.FS, dir string) map[string][]byte {
	r.t.Helper()
	out := map[string][]byte{}
	list, err := f.List(dir)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, n := range list {
		path := filepath.Join(dir, n)
		info, err := f.Stat(path)
		if err != nil {
			r.t.Fatal(err)
		}
		if info.Dir {
			out[path] = nil
			for p, b := range r.tree(f, path) {
				out[p] = b
			}
			continue
		}
		out[path] = r.read(f, path, info.SizeBytes)
	}
	return out
}

// read reads a file in pieces that cross blocks, and past its end.
func (r *run) read(f disk.FS, path string, sizeBytes int64) []byte {
	r.t.Helper()
	file, err := f.Open(path, disk.ReadOnly)
	if err != nil {
		r.t.Fatal(err)
	}
	defer file.Close()
	out := []byte{}
	p := make([]byte, 5000)
	for {
		n, err := file.ReadAt(p, int64(len(out)))
		out = append(out, p[:n]...)
		if err == io.EOF {
			break
		}
		if err != nil {
			r.t.Fatal(err)
		}
	}
	if int64(len(out)) != sizeBytes {
		r.t.Fatalf("%s: size %d, read %d", path, sizeBytes, len(out))
	}
	return out
}

// Goal: a file that loses its name while it is open can still be read, as on a real disk, and its
// blocks are used again once it is closed.
func TestOverlay_RemovedWhileOpen(t *testing.T) {
	o, err := NewOverlay(disk.OS(t.TempDir()), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	f, err := o.Open("x", disk.Create)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("hello"), 0); err != nil {
		t.Fatal(err)
	}
	if err := o.Remove("x"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5)
	if _, err := f.ReadAt(b, 0); err != nil || string(b) != "hello" {
		t.Fatalf("read %q, %v", b, err)
	}
	if free := len(o.tree.scratch.spare); free != 0 {
		t.Fatalf("%d blocks free while it is open", free)
	}
	f.Close()
	f.Close()
	if free := len(o.tree.scratch.spare); free != 1 {
		t.Fatalf("%d blocks free, want 1", free)
	}
}

// Goal: names that leave the root, and writes by a handle for reading, are refused.
func TestOverlay_Refuses(t *testing.T) {
	dir := t.TempDir()
	furnish(t, dir)
	o, err := NewOverlay(disk.OS(dir), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	for _, name := range []string{"../x", "/etc/passwd", "a/../../x", "a//one"} {
		if _, err := o.Open(name, disk.Create); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("open %q: %v", name, err)
		}
	}
	f, err := o.Sub("a").Open("one", disk.ReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("write: %v", err)
	}
	if err := f.Truncate(0); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("truncate: %v", err)
	}
	if _, err := NewOverlay(disk.OS(dir), filepath.Join(dir, "none")); err == nil {
		t.Error("an overlay without a scratch directory")
	}
}
