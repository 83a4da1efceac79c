package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// state is a folder, as one client sees it.
type state struct {
	entries []entry // the folder itself first, then what is in it, by name
	err     error   // why it could not be seen
}

// entry is one name. A call that is carried out a second time shows in at least one of these.
type entry struct {
	name string
	stat unix.Stat_t // but for what differs between mounts, and the time of access
	text string      // of a file, or a link's target
}

func see(path string) *state {
	s := &state{}
	files, err := os.ReadDir(path)
	s.err = err
	s.add(path, "")
	for _, f := range files {
		s.add(path, f.Name())
	}
	return s
}

func (s *state) add(folder, name string) {
	e := entry{name: name}
	path := filepath.Join(folder, name)
	var got unix.Stat_t
	err := unix.Lstat(path, &got)
	e.stat = unix.Stat_t{Ino: got.Ino, Mode: got.Mode, Nlink: got.Nlink, Uid: got.Uid, Gid: got.Gid,
		Size: got.Size, Mtim: got.Mtim, Ctim: got.Ctim}
	switch {
	case err != nil:
	case got.Mode&unix.S_IFMT == unix.S_IFREG:
		var b []byte
		b, err = os.ReadFile(path)
		e.text = string(b)
	case got.Mode&unix.S_IFMT == unix.S_IFLNK:
		e.text, err = os.Readlink(path)
	}
	if s.err == nil {
		s.err = err
	}
	s.entries = append(s.entries, e)
}

// String is what is in the folder, in brief: "dir/ fifo| link->target file=text hard=text(2)", the
// number being how many links the file has.
func (s *state) String() string {
	if s.err != nil {
		return s.err.Error()
	}
	var words []string
	for _, e := range s.entries[1:] {
		switch e.stat.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			words = append(words, e.name+"/")
		case unix.S_IFIFO:
			words = append(words, e.name+"|")
		case unix.S_IFLNK:
			words = append(words, e.name+"->"+e.text)
		default:
			links := ""
			if e.stat.Nlink > 1 {
				links = fmt.Sprintf("(%d)", e.stat.Nlink)
			}
			words = append(words, e.name+"="+e.text+links)
		}
	}
	return strings.Join(words, " ")
}

// differs says what is not as it was; "" when all is. settled: modes and times of empty files do not
// count.
func (s *state) differs(before *state, settled bool) string {
	if s.err != nil || before.err != nil || s.String() != before.String() {
		return fmt.Sprintf("now %q, before %q", s, before)
	}
	for i, now := range s.entries {
		was := before.entries[i]
		if settled && now.stat.Size == 0 {
			now.stat.Mode, was.stat.Mode = 0, 0
			now.stat.Mtim, was.stat.Mtim = unix.Timespec{}, unix.Timespec{}
			now.stat.Ctim, was.stat.Ctim = unix.Timespec{}, unix.Timespec{}
		}
		if now != was {
			return fmt.Sprintf("attributes of %q: now %s, before %s", "./"+now.name, attributes(&now.stat), attributes(&was.stat))
		}
	}
	return ""
}

func attributes(s *unix.Stat_t) string {
	return fmt.Sprintf("ino %d mode %o links %d size %d mtime %d.%09d ctime %d.%09d",
		s.Ino, s.Mode, s.Nlink, s.Size, s.Mtim.Sec, s.Mtim.Nsec, s.Ctim.Sec, s.Ctim.Nsec)
}
