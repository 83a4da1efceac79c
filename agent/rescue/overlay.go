package rescue

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"

	"trinas/replica/disk"
)

// Overlay is a disk.FS that shows another one and keeps every change to itself: names in memory,
// blocks in a scratch file. What is beneath is only ever opened for reading. Nothing in it is
// durable; its syncs have nothing to do. Safe for concurrent use.
type Overlay struct {
	tree *tree
	dir  string // what this FS calls "."; "" is the root
}

// tree is what an Overlay and its Subs share.
type tree struct {
	base    disk.FS
	scratch *scratch

	// Held while base is asked: what base and names say together has to be one answer.
	mu sync.Mutex
	// names says what differs from base, by full path: a changed or new file, or nil for a name
	// that is gone.
	names map[string]*file
	dirs  map[string]bool // directories made here
	// hidden holds directories that were removed with all they contained: base is not looked at
	// beneath them, even when a directory of that name is made again.
	hidden map[string]bool
}

// NewOverlay returns an Overlay over base that keeps changed blocks in an unnamed file in
// scratchDir ("": the system's directory for temporary files). Close frees it.
func NewOverlay(base disk.FS, scratchDir string) (*Overlay, error) {
	s, err := newScratch(scratchDir)
	if err != nil {
		return nil, err
	}
	return &Overlay{tree: &tree{
		base: base, scratch: s,
		names: map[string]*file{}, dirs: map[string]bool{}, hidden: map[string]bool{},
	}}, nil
}

// Close gives the scratch file back. Open files of the overlay fail from then on.
func (o *Overlay) Close() error { return o.tree.scratch.close() }

// full is name's path from the root of the overlay ("" for the root itself).
func (o *Overlay) full(op, name string) (string, error) {
	if name != "" && name != "." && !fs.ValidPath(name) {
		return "", failed(op, name, fs.ErrInvalid)
	}
	if p := path.Join(o.dir, name); p != "." {
		return p, nil
	}
	return "", nil
}

func failed(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

// baseName is how a full path is called in base.
func baseName(full string) string {
	if full == "" {
		return "."
	}
	return full
}

// inBase reports whether base shows through at a full path. The caller holds mu.
func (t *tree) inBase(full string) bool {
	if f, known := t.names[full]; known && f == nil {
		return false
	}
	for dir := full; dir != "" && dir != "."; dir = path.Dir(dir) {
		if t.hidden[dir] {
			return false
		}
	}
	return true
}

// stat is what is at a full path: a file of the overlay's, or base's description. The caller
// holds mu.
func (t *tree) stat(op, full string) (*file, disk.Info, error) {
	if f := t.names[full]; f != nil {
		return f, disk.Info{}, nil
	}
	if full == "" || t.dirs[full] {
		return nil, disk.Info{Dir: true}, nil
	}
	if !t.inBase(full) {
		return nil, disk.Info{}, failed(op, full, fs.ErrNotExist)
	}
	info, err := t.base.Stat(full)
	return nil, info, err
}

// adopt makes the file at a full path the overlay's own, so that its name and bytes can change.
// The caller holds mu.
func (t *tree) adopt(op, full string) (*file, error) {
	f, info, err := t.stat(op, full)
	if err != nil || f != nil {
		return f, err
	}
	if info.Dir {
		return nil, failed(op, full, syscall.EISDIR)
	}
	f = newFile(t, full, info.SizeBytes)
	t.names[full] = f
	return f, nil
}

// Open opens a file. A file that is made needs its directory to be there.
func (o *Overlay) Open(name string, mode disk.Mode) (disk.File, error) {
	full, err := o.full("open", name)
	if err != nil {
		return nil, err
	}
	t := o.tree
	t.mu.Lock()
	defer t.mu.Unlock()
	f, err := t.adopt("open", full)
	if mode == disk.Create && errors.Is(err, fs.ErrNotExist) {
		if _, dir, err := t.stat("open", parent(full)); err != nil || !dir.Dir {
			return nil, failed("open", full, fs.ErrNotExist)
		}
		f, err = newFile(t, "", 0), nil
		t.names[full] = f
	}
	if err != nil {
		return nil, err
	}
	if err := f.acquire(); err != nil {
		return nil, err
	}
	return &handle{file: f, name: full, readOnly: mode == disk.ReadOnly}, nil
}

// Stat describes a file or directory.
func (o *Overlay) Stat(name string) (disk.Info, error) {
	full, err := o.full("stat", name)
	if err != nil {
		return disk.Info{}, err
	}
	o.tree.mu.Lock()
	defer o.tree.mu.Unlock()
	f, info, err := o.tree.stat("stat", full)
	if f != nil {
		return f.info(), nil
	}
	return info, err
}

// List gives the names in dir, sorted.
func (o *Overlay) List(dir string) ([]string, error) {
	full, err := o.full("list", dir)
	if err != nil {
		return nil, err
	}
	t := o.tree
	t.mu.Lock()
	defer t.mu.Unlock()
	if f, info, err := t.stat("list", full); err != nil {
		return nil, err
	} else if f != nil || !info.Dir {
		return nil, failed("list", full, syscall.ENOTDIR)
	}
	var out []string
	if t.inBase(full) {
		below, err := t.base.List(baseName(full))
		if err != nil && !(t.dirs[full] && errors.Is(err, fs.ErrNotExist)) {
			return nil, err
		}
		for _, n := range below {
			if t.inBase(path.Join(full, n)) {
				out = append(out, n)
			}
		}
	}
	for p, f := range t.names {
		if f != nil && parent(p) == full {
			out = append(out, path.Base(p))
		}
	}
	for p := range t.dirs {
		if parent(p) == full {
			out = append(out, path.Base(p))
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// parent is the full path of the directory that holds full.
func parent(full string) string {
	if dir := path.Dir(full); dir != "." {
		return dir
	}
	return ""
}

// MkdirAll makes dir and what is missing above it.
func (o *Overlay) MkdirAll(dir string) error {
	full, err := o.full("mkdir", dir)
	if err != nil {
		return err
	}
	t := o.tree
	t.mu.Lock()
	defer t.mu.Unlock()
	var missing []string
	for d := full; d != ""; d = parent(d) {
		f, info, err := t.stat("mkdir", d)
		if f != nil || (err == nil && !info.Dir) {
			return failed("mkdir", d, syscall.ENOTDIR)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		missing = append(missing, d)
	}
	for _, d := range missing {
		t.dirs[d] = true
	}
	return nil
}

// Rename moves a file over whatever file is at to. Directories cannot be moved: nothing that runs
// on an overlay does it.
func (o *Overlay) Rename(from, to string) error {
	source, err := o.full("rename", from)
	if err != nil {
		return err
	}
	target, err := o.full("rename", to)
	if err != nil {
		return err
	}
	t := o.tree
	t.mu.Lock()
	defer t.mu.Unlock()
	f, err := t.adopt("rename", source)
	if err != nil || source == target {
		return err
	}
	if _, dir, err := t.stat("rename", parent(target)); err != nil || !dir.Dir {
		return failed("rename", target, fs.ErrNotExist)
	}
	old, info, err := t.stat("rename", target)
	switch {
	case err == nil && info.Dir:
		return failed("rename", target, syscall.EISDIR)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case old != nil:
		old.unlink()
	}
	t.names[source], t.names[target] = nil, f
	return nil
}

// Remove removes a file or an empty directory.
func (o *Overlay) Remove(name string) error {
	full, err := o.full("remove", name)
	if err != nil {
		return err
	}
	info, err := o.Stat(name)
	if err != nil {
		return err
	}
	if info.Dir {
		if left, err := o.List(name); err != nil {
			return err
		} else if len(left) > 0 || full == "" {
			return failed("remove", full, syscall.ENOTEMPTY)
		}
	}
	o.tree.mu.Lock()
	defer o.tree.mu.Unlock()
	o.tree.drop(full, info.Dir)
	return nil
}

// RemoveAll removes name and everything beneath it; it need not exist.
func (o *Overlay) RemoveAll(name string) error {
	full, err := o.full("remove", name)
	if err != nil {
		return err
	}
	t := o.tree
	t.mu.Lock()
	defer t.mu.Unlock()
	_, info, err := t.stat("remove", full)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if full == "" {
		return failed("remove", full, syscall.EBUSY)
	}
	beneath := full + "/"
	for p, f := range t.names {
		if strings.HasPrefix(p, beneath) {
			if f != nil {
				f.unlink()
			}
			delete(t.names, p)
		}
	}
	for p := range t.dirs {
		if strings.HasPrefix(p, beneath) {
			delete(t.dirs, p)
		}
	}
	t.drop(full, info.Dir)
	return nil
}

// drop takes one name away. The caller holds mu.
func (t *tree) drop(full string, dir bool) {
	if f := t.names[full]; f != nil {
		f.unlink()
	}
	t.names[full] = nil
	delete(t.dirs, full)
	if dir {
		t.hidden[full] = true
	}
}

// SyncDir has nothing to do.
func (o *Overlay) SyncDir(string) error { return nil }

// Space is what the base says, so that nothing above thinks the disk is full.
func (o *Overlay) Space() (disk.Space, error) { return o.tree.base.Space() }

// Sub is the tree under dir.
func (o *Overlay) Sub(dir string) disk.FS {
	return &Overlay{tree: o.tree, dir: path.Join(o.dir, dir)}
}

// Path is where name is, or would be, in the base.
func (o *Overlay) Path(name string) string {
	return o.tree.base.Path(baseName(path.Join(o.dir, name)))
}

// String is for messages.
func (o *Overlay) String() string { return fmt.Sprintf("read-only view of %s", o.Path(".")) }
