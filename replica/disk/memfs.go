package disk

import (
	"io/fs"
	"maps"
	"math"
	"path"
	"slices"
	"syscall"
)

// memFS is one run's view of a Mem, below dir.
type memFS struct {
	m     *Mem
	epoch uint64
	dir   string // from the disk's root
}

func (d *memFS) Path(name string) string { return "mem:/" + path.Join(d.dir, name) }

func (d *memFS) Sub(dir string) FS {
	if checkName("sub", dir) != nil {
		return refused{dir}
	}
	return &memFS{m: d.m, epoch: d.epoch, dir: path.Join(d.dir, dir)}
}

// do runs one operation on name: the hook first, then fn under the lock.
func (d *memFS) do(op, name string, fn func(full string) error) error {
	if err := checkName(op, name); err != nil {
		return err
	}
	full := path.Join(d.dir, name)
	err := d.m.run(d.epoch, op, full, 0, 0, func() error { return fn(full) })
	if err != nil {
		return &fs.PathError{Op: op, Path: d.Path(name), Err: err}
	}
	return nil
}

// run calls the hook without the lock, then fn with it, unless the run has crashed by then.
func (m *Mem) run(epoch uint64, op, name string, off, n int64, fn func() error) error {
	m.mu.Lock()
	hook, dead := m.hook, m.epoch != epoch
	m.mu.Unlock()
	if dead {
		return errCrashed
	}
	if hook != nil {
		if err := hook(op, name, off, n); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.epoch != epoch {
		return errCrashed
	}
	return fn()
}

// errCrashed is what every handle gives after Mem.Crash.
const errCrashed = crashed("the disk has crashed since this was opened")

type crashed string

func (e crashed) Error() string        { return string(e) }
func (e crashed) Is(target error) bool { return target == syscall.EIO }

func (d *memFS) Open(name string, mode Mode) (File, error) {
	op := "open"
	if mode == Create {
		op = "create"
	}
	var file *memFile
	err := d.do(op, name, func(full string) error {
		n, err := d.m.find(full)
		if err == syscall.ENOENT && mode == Create {
			n = newNode(false)
			err = d.m.link(n, full)
		}
		switch {
		case err != nil:
			return err
		case mode < ReadOnly || mode > Create:
			return fs.ErrInvalid
		case n.dir && mode != ReadOnly:
			return syscall.EISDIR
		}
		file = &memFile{m: d.m, epoch: d.epoch, name: full, node: n, readOnly: mode == ReadOnly}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return file, nil
}

// parent finds the directory that holds, or would hold, the entry full.
func (m *Mem) parent(full string) (*node, string, error) {
	dir, err := m.find(path.Dir(full))
	if err != nil {
		return nil, "", err
	}
	if !dir.dir {
		return nil, "", syscall.ENOTDIR
	}
	return dir, path.Base(full), nil
}

// link gives a new node its name.
func (m *Mem) link(n *node, full string) error {
	dir, base, err := m.parent(full)
	if err != nil {
		return err
	}
	dir.entries[base] = n
	m.pending = append(m.pending, dirOp{node: n, toDir: dir, toName: base})
	return nil
}

func (d *memFS) Stat(name string) (Info, error) {
	var info Info
	err := d.do("stat", name, func(full string) error {
		n, err := d.m.find(full)
		if err == nil {
			info = n.info()
		}
		return err
	})
	return info, err
}

func (n *node) info() Info {
	return Info{SizeBytes: n.size, AllocatedBytes: int64(len(n.blocks)) * BlockBytes, Dir: n.dir}
}

func (d *memFS) List(dir string) ([]string, error) {
	var names []string
	err := d.do("list", dir, func(full string) error {
		n, err := d.m.find(full)
		if err != nil {
			return err
		}
		if !n.dir {
			return syscall.ENOTDIR
		}
		names = slices.Sorted(maps.Keys(n.entries))
		return nil
	})
	return names, err
}

func (d *memFS) MkdirAll(dir string) error {
	return d.do("mkdir", dir, d.m.mkdirAll)
}

func (m *Mem) mkdirAll(full string) error {
	n, err := m.find(full)
	if err == nil && !n.dir {
		return syscall.ENOTDIR
	}
	if err != syscall.ENOENT {
		return err
	}
	if err := m.mkdirAll(path.Dir(full)); err != nil {
		return err
	}
	return m.link(newNode(true), full)
}

func (d *memFS) Rename(from, to string) error {
	if err := checkEntry("rename", from); err != nil {
		return err
	}
	if err := checkEntry("rename", to); err != nil {
		return err
	}
	toFull := path.Join(d.dir, to)
	return d.do("rename", from, func(full string) error {
		m := d.m
		fromDir, fromName, err := m.parent(full)
		if err != nil {
			return err
		}
		toDir, toName, err := m.parent(toFull)
		if err != nil {
			return err
		}
		n, old := fromDir.entries[fromName], toDir.entries[toName]
		switch {
		case n == nil:
			return syscall.ENOENT
		case n == old:
			return nil
		case old != nil && old.dir && !n.dir:
			return syscall.EISDIR
		case old != nil && !old.dir && n.dir:
			return syscall.ENOTDIR
		case old != nil && len(old.entries) > 0:
			return syscall.ENOTEMPTY
		case n.dir && n.holds(toDir):
			return syscall.EINVAL
		}
		if old != nil {
			m.unlink(old)
		}
		delete(fromDir.entries, fromName)
		toDir.entries[toName] = n
		m.pending = append(m.pending, dirOp{
			node: n, fromDir: fromDir, fromName: fromName, toDir: toDir, toName: toName,
		})
		return nil
	})
}

// holds reports whether other is n or below it.
func (n *node) holds(other *node) bool {
	if n == other {
		return true
	}
	for _, e := range n.entries {
		if e.holds(other) {
			return true
		}
	}
	return false
}

func (d *memFS) Remove(name string) error {
	if err := checkEntry("remove", name); err != nil {
		return err
	}
	return d.do("remove", name, func(full string) error {
		dir, base, err := d.m.parent(full)
		if err != nil {
			return err
		}
		n := dir.entries[base]
		if n == nil {
			return syscall.ENOENT
		}
		if len(n.entries) > 0 {
			return syscall.ENOTEMPTY
		}
		d.m.remove(dir, base)
		return nil
	})
}

func (d *memFS) RemoveAll(name string) error {
	if err := checkEntry("removeall", name); err != nil {
		return err
	}
	return d.do("removeall", name, func(full string) error {
		dir, base, err := d.m.parent(full)
		if err == syscall.ENOENT || err == nil && dir.entries[base] == nil {
			return nil
		}
		if err == nil {
			d.m.remove(dir, base)
		}
		return err
	})
}

// remove takes an entry away, and everything below it first.
func (m *Mem) remove(dir *node, base string) {
	n := dir.entries[base]
	for _, name := range slices.Sorted(maps.Keys(n.entries)) {
		m.remove(n, name)
	}
	delete(dir.entries, base)
	m.unlink(n)
	m.pending = append(m.pending, dirOp{node: n, fromDir: dir, fromName: base})
}

func (d *memFS) SyncDir(dir string) error {
	return d.do("syncdir", dir, func(full string) error {
		n, err := d.m.find(full)
		if err != nil {
			return err
		}
		if !n.dir {
			return syscall.ENOTDIR
		}
		d.m.syncDir(n)
		return nil
	})
}

func (d *memFS) Space() (Space, error) {
	var space Space
	err := d.do("space", ".", func(string) error {
		total := d.m.limit
		if total == 0 {
			total = math.MaxInt64
		}
		space = Space{TotalBytes: uint64(total), FreeBytes: uint64(max(0, total-d.m.used))}
		return nil
	})
	return space, err
}
