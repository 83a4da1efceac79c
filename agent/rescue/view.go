package rescue

import (
	"io"
	"io/fs"
	"path"
	"strings"
	"syscall"

	"trinas/replica/volume"
)

// query asks as root (the zero Cred): permissions in the volume bind its users, not a rescuer.
func (v *Volume) query(op, name string, q *volume.Op) (volume.Result, error) {
	res, err := v.replica.Query(q)
	if err == nil && res.Err != volume.OK {
		err = syscall.Errno(res.Err)
	}
	if err != nil {
		return res, &fs.PathError{Op: op, Path: "/" + v.Name + "/" + name, Err: err}
	}
	return res, nil
}

// Lookup finds a file by its path, relative to the volume's root, without following symbolic
// links. "" is the root.
func (v *Volume) Lookup(name string) (volume.Attr, error) {
	res, err := v.query("open", name, &volume.Op{Kind: volume.GetAttr, File: volume.RootID, Gen: 1})
	if err != nil {
		return volume.Attr{}, err
	}
	attr := res.Obj.After
	for _, part := range split(name) {
		res, err := v.query("open", name, &volume.Op{Kind: volume.Lookup, File: attr.File, Gen: attr.Gen, Name: part})
		if err != nil {
			return volume.Attr{}, err
		}
		attr = res.Obj.After
	}
	return attr, nil
}

// split gives the components of a cleaned path.
func split(name string) []string {
	name = strings.Trim(path.Clean("/"+name), "/")
	if name == "" {
		return nil
	}
	return strings.Split(name, "/")
}

// ReadDir lists a directory in the order of its cookies, without "." and "..". name is for
// messages.
func (v *Volume) ReadDir(dir volume.Attr, name string) ([]volume.DirEntry, error) {
	const page = 1024
	var out []volume.DirEntry
	for cookie := uint64(0); ; {
		res, err := v.query("list", name, &volume.Op{Kind: volume.ReadDir, File: dir.File, Gen: dir.Gen,
			Offset: cookie, Count: page, Size: page * (volume.NameBytes + 200)})
		if err != nil {
			return nil, err
		}
		for _, e := range res.Entries {
			if e.Name != "." && e.Name != ".." {
				out = append(out, e)
			}
			cookie = e.Cookie
		}
		if res.EOF || len(res.Entries) == 0 {
			return out, nil
		}
	}
}

// ReadLink gives a symbolic link's target.
func (v *Volume) ReadLink(link volume.Attr, name string) (string, error) {
	res, err := v.query("readlink", name, &volume.Op{Kind: volume.ReadLink, File: link.File, Gen: link.Gen})
	return string(res.Data), err
}

// readAt reads bytes of a regular file, as io.ReaderAt does.
func (v *Volume) readAt(file volume.Attr, name string, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, &fs.PathError{Op: "read", Path: name, Err: fs.ErrInvalid}
	}
	done := 0
	for done < len(p) {
		want := min(len(p)-done, volume.MaxIOBytes)
		res, err := v.query("read", name, &volume.Op{Kind: volume.Read, File: file.File, Gen: file.Gen,
			Offset: uint64(off) + uint64(done), Count: uint32(want), Data: p[done : done : done+want]})
		if err != nil {
			return done, err
		}
		// The answer lies in p already when its memory was used.
		done += copy(p[done:done+want], res.Data)
		if res.EOF || len(res.Data) == 0 {
			break
		}
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}

// fileMode puts a volume's type and permissions into Go's words.
func fileMode(a volume.Attr) fs.FileMode {
	mode := fs.FileMode(a.Mode & 0o777)
	for bit, goBit := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if a.Mode&bit != 0 {
			mode |= goBit
		}
	}
	return mode | typeMode(a.Type)
}

func typeMode(t volume.FileType) fs.FileMode {
	switch t {
	case volume.Directory:
		return fs.ModeDir
	case volume.SymLink:
		return fs.ModeSymlink
	case volume.Block:
		return fs.ModeDevice
	case volume.Char:
		return fs.ModeDevice | fs.ModeCharDevice
	case volume.Socket:
		return fs.ModeSocket
	case volume.FIFO:
		return fs.ModeNamedPipe
	}
	return 0
}
