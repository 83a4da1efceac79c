package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// operation makes one call, in a folder of its own that holds a file named old, with the text
// "before", and an empty folder named empty.
type operation struct {
	call    string // as the relay calls it (relay.nameOf), and as the check is called
	want    string // the folder (state.String) once the call has been carried out
	settles bool   // the client sends a SETATTR for the new file after it

	run    func(folder string) error // makes it; the folder is relative to the volume's root
	meddle func(path string) error   // what another client does with its outcome
}

func (o *operation) folder() string { return strings.ReplaceAll(o.call, "/", "-") }

// see looks at the operation's folder of a round through a mount.
func (o *operation) see(mount, round string) *state {
	return see(filepath.Join(mount, round, o.folder()))
}

// unchanged checks that every observer sees what was there before.
func (o *operation) unchanged(round string, before *state) error {
	var errs []error
	for _, from := range observers() {
		if diff := o.see(from, round).differs(before, o.settles); diff != "" {
			errs = append(errs, fmt.Errorf("seen from %s: %s", from, diff))
		}
	}
	return errors.Join(errs...)
}

// furnish makes an operation's folder.
func furnish(path string) error {
	if err := os.MkdirAll(filepath.Join(path, "empty"), 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(path, "old"), []byte("before"), 0o644)
}

// operations returns one of each procedure that changes something. The Linux client makes them, but
// for two forms that it never sends.
func operations(r raw) []operation {
	// at makes a function of a folder on the mount from one of a path.
	at := func(f func(path string) error) func(string) error {
		return func(folder string) error { return f(filepath.Join(mounted, folder)) }
	}
	open := func(name string, flags int, text string) func(string) error {
		return func(path string) error {
			f, err := os.OpenFile(filepath.Join(path, name), flags, 0o644)
			if err != nil {
				return err
			}
			_, err = f.WriteString(text)
			return errors.Join(err, f.Close())
		}
	}
	rename := func(from, to string) func(string) error {
		return func(path string) error { return os.Rename(path+"/"+from, path+"/"+to) }
	}
	remove := func(name string) func(string) error {
		return func(path string) error { return unix.Unlink(path + "/" + name) }
	}
	mkdir := func(name string) func(string) error {
		return func(path string) error { return unix.Mkdir(path+"/"+name, 0o755) }
	}
	move := rename("new", "moved")                                    // a second call would make it anew
	other := open("old", os.O_WRONLY|os.O_CREATE|os.O_SYNC, "other!") // a second call would undo this
	return []operation{
		{call: "CREATE", want: "empty/ new= old=before", meddle: move,
			run: at(open("new", os.O_WRONLY|os.O_CREATE, ""))},
		{call: "CREATE/EXCLUSIVE", want: "empty/ new= old=before", meddle: move, settles: true,
			run: at(open("new", os.O_WRONLY|os.O_CREATE|os.O_EXCL, ""))},
		{call: "CREATE/GUARDED", want: "empty/ new= old=before", meddle: move, run: r.createGuarded},
		{call: "MKDIR", want: "empty/ new/ old=before", meddle: move, run: at(mkdir("new"))},
		{call: "SYMLINK", want: "empty/ new->target old=before", meddle: move,
			run: at(func(path string) error { return unix.Symlink("target", path+"/new") })},
		{call: "MKNOD", want: "empty/ new| old=before", meddle: move,
			run: at(func(path string) error { return unix.Mknod(path+"/new", unix.S_IFIFO|0o644, 0) })},
		{call: "LINK", want: "empty/ new=before(2) old=before(2)", meddle: remove("new"),
			run: at(func(path string) error { return unix.Link(path+"/old", path+"/new") })},
		{call: "REMOVE", want: "empty/", meddle: other, run: at(remove("old"))},
		{call: "RMDIR", want: "old=before", meddle: mkdir("empty"),
			run: at(func(path string) error { return unix.Rmdir(path + "/empty") })},
		{call: "RENAME", want: "empty/ new=before", meddle: other, run: at(rename("old", "new"))},
		{call: "SETATTR", want: "empty/ old=bef", meddle: other,
			run: at(func(path string) error { return unix.Truncate(path+"/old", 3) })},
		{call: "SETATTR/GUARDED", want: "empty/ old=", meddle: other, run: r.truncateGuarded},
		{call: "WRITE", want: "empty/ old=after!", meddle: other,
			run: at(open("old", os.O_WRONLY|os.O_SYNC, "after!"))},
	}
}
