package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// directories are the checks of a directory with many entries.
func directories(entries int) []check {
	with := func(f func(w *world, names map[string]bool) error) func(*world) error {
		return func(w *world) error {
			names := make(map[string]bool, entries)
			for i := range entries {
				// One inode and many links are quicker than many files. ext4 has at most 65000.
				name := fmt.Sprintf("entry-%06d", i)
				var err error
				if i%1000 == 0 {
					err = unix.Mknod(name, unix.S_IFREG|0o644, 0)
				} else {
					err = unix.Link(fmt.Sprintf("entry-%06d", i/1000*1000), name)
				}
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				names[name] = true
			}
			return f(w, names)
		}
	}
	return []check{
		{"directory of many entries", with((*world).large)},
	}
}

// large looks at one directory in several ways, since it takes long to make.
func (w *world) large(names map[string]bool) error {
	for _, c := range []struct {
		name string
		run  func(map[string]bool) error
	}{
		{"list", listOnce}, {"seekdir", seekBack}, {"changes meanwhile", listWhileChanging}, {"remove what is listed", removeListed},
	} {
		if err := c.run(names); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

// entry is one of a directory: its name, and the position after it (telldir).
type entry struct {
	name  string
	after int64
}

// directory reads entries by getdents64(2), as libc's readdir does.
type directory struct {
	fd  int
	buf []byte // not yet parsed
}

func openDirectory() (*directory, error) {
	fd, err := unix.Open(".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return &directory{fd: fd}, err
}

func (d *directory) close() { _ = unix.Close(d.fd) }

// seek is seekdir(3).
func (d *directory) seek(to int64) error {
	d.buf = nil
	_, err := unix.Seek(d.fd, to, io.SeekStart)
	return err
}

// next returns io.EOF at the end. "." and ".." are left out.
//
//	struct linux_dirent64: inode 8 bytes, offset 8, record length 2, type 1, name with a zero
func (d *directory) next() (entry, error) {
	for {
		if len(d.buf) == 0 {
			buf := make([]byte, 32<<10)
			n, err := unix.Getdents(d.fd, buf)
			if err != nil {
				return entry{}, fmt.Errorf("getdents64: %w", err)
			}
			if n == 0 {
				return entry{}, io.EOF
			}
			d.buf = buf[:n]
		}
		length := binary.NativeEndian.Uint16(d.buf[16:])
		name, _, _ := strings.Cut(string(d.buf[19:length]), "\x00")
		e := entry{name: name, after: int64(binary.NativeEndian.Uint64(d.buf[8:]))}
		d.buf = d.buf[length:]
		if name != "." && name != ".." {
			return e, nil
		}
	}
}

// rest reads to the end. Every name may come once.
func (d *directory) rest(seen map[string]bool) ([]entry, error) {
	var all []entry
	for {
		e, err := d.next()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		if seen[e.name] {
			return all, fmt.Errorf("%s is listed twice", e.name)
		}
		seen[e.name] = true
		all = append(all, e)
	}
}

func compareNames(got, want map[string]bool) error {
	for name := range want {
		if !got[name] {
			return fmt.Errorf("%s is missing (%d listed, %d there)", name, len(got), len(want))
		}
	}
	for name := range got {
		if !want[name] {
			return fmt.Errorf("%s is listed and not there", name)
		}
	}
	return nil
}

func listOnce(names map[string]bool) error {
	d, err := openDirectory()
	if err != nil {
		return err
	}
	defer d.close()
	seen := map[string]bool{}
	if _, err := d.rest(seen); err != nil {
		return err
	}
	return compareNames(seen, names)
}

// seekBack goes back to places it has been at and finds the same entries there.
func seekBack(names map[string]bool) error {
	d, err := openDirectory()
	if err != nil {
		return err
	}
	defer d.close()
	all, err := d.rest(map[string]bool{})
	if err != nil {
		return err
	}
	for i := len(all) - 2; i >= 0; i -= 1 + len(all)/23 {
		if err := d.seek(all[i].after); err != nil {
			return fmt.Errorf("seek to %d: %w", all[i].after, err)
		}
		e, err := d.next()
		if err != nil {
			return fmt.Errorf("after a seek behind entry %d: %w", i, err)
		}
		if e != all[i+1] {
			return fmt.Errorf("after a seek behind entry %d: %v, want %v", i, e, all[i+1])
		}
	}
	if err := d.seek(0); err != nil {
		return err
	}
	seen := map[string]bool{}
	if _, err := d.rest(seen); err != nil {
		return err
	}
	return compareNames(seen, names)
}

// listWhileChanging removes and adds names while it lists: what is there all the time comes exactly
// once, what was removed before its turn or added may come or not.
func listWhileChanging(names map[string]bool) error {
	d, err := openDirectory()
	if err != nil {
		return err
	}
	defer d.close()
	stable := map[string]bool{}
	for name := range names {
		stable[name] = true
	}
	seen := map[string]bool{}
	number := 0
	for {
		e, err := d.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if seen[e.name] {
			return fmt.Errorf("%s is listed twice", e.name)
		}
		seen[e.name] = true
		number++
		if number%97 != 0 {
			continue
		}
		// The entry at hand goes, and one somewhere goes, and one comes.
		for _, name := range []string{e.name, fmt.Sprintf("entry-%06d", (number*7919)%len(names))} {
			if !names[name] {
				continue
			}
			if err := unix.Unlink(name); err != nil {
				return fmt.Errorf("unlink %s: %w", name, err)
			}
			delete(names, name)
			delete(stable, name)
		}
		name := fmt.Sprintf("added-%06d", number)
		if err := unix.Mknod(name, unix.S_IFREG|0o644, 0); err != nil {
			return fmt.Errorf("mknod %s: %w", name, err)
		}
		names[name] = true
	}
	for name := range stable {
		if !seen[name] {
			return fmt.Errorf("%s was there all the time and is not listed", name)
		}
	}
	return listOnce(names)
}

// removeListed removes each entry as it is listed, as rm -r does, and leaves nothing.
func removeListed(names map[string]bool) error {
	d, err := openDirectory()
	if err != nil {
		return err
	}
	defer d.close()
	for {
		e, err := d.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if err := unix.Unlink(e.name); err != nil {
			return fmt.Errorf("unlink %s: %w", e.name, err)
		}
	}
	left, err := os.ReadDir(".")
	if err != nil || len(left) > 0 {
		return fmt.Errorf("%d entries are left (%w)", len(left), err)
	}
	return nil
}
