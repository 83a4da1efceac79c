package nfsgw

import (
	"github.com/willscott/go-nfs"

	"trinas/nfsgw/nfs3"
	"trinas/replica/volume"
)

// attrOf is a file's attributes as NFS has them. The fsid is the volume's id: the same on every
// node.
func attrOf(vol volume.ID, a *volume.Attr) nfs3.Attr {
	return nfs3.Attr{
		Type: nfs.FileType(a.Type), Mode: a.Mode, Nlink: a.Nlink, UID: a.UID, GID: a.GID,
		Size: a.SizeBytes, Used: a.UsedBytes, Rdev: a.Rdev,
		FSID: uint64(vol), FileID: uint64(a.File),
		Atime: nfs3.TimeOf(a.Atime), Mtime: nfs3.TimeOf(a.Mtime), Ctime: nfs3.TimeOf(a.Ctime),
	}
}

func postOpOf(vol volume.ID, c *volume.Change) (p nfs3.PostOp) {
	if c.Known {
		p = nfs3.PostOp{Present: true, Attr: attrOf(vol, &c.After)}
	}
	return p
}

func wccOf(vol volume.ID, c *volume.Change) nfs3.Wcc {
	w := nfs3.Wcc{After: postOpOf(vol, c)}
	if c.Known && c.HasBefore {
		w.HasBefore, w.Size = true, c.BeforeSize
		w.Mtime, w.Ctime = nfs3.TimeOf(c.BeforeMtime), nfs3.TimeOf(c.BeforeCtime)
	}
	return w
}

// handleOf is the handle of the file that a describes.
func handleOf(vol volume.ID, a *volume.Attr) []byte {
	return nfs3.Handle{Volume: uint64(vol), File: uint64(a.File), Gen: a.Gen}.Bytes()
}

// setOf turns sattr3 into what the volume sets; false when it holds what no file can have: a
// time with a second or more of nanoseconds.
func setOf(s *nfs3.SetAttrs) (volume.SetAttrs, bool) {
	v := volume.SetAttrs{
		Mode: s.Mode, UID: s.UID, GID: s.GID, Size: s.Size,
		AtimeHow: volume.TimeHow(s.AtimeHow), MtimeHow: volume.TimeHow(s.MtimeHow),
		Atime: s.Atime.Nanoseconds(), Mtime: s.Mtime.Nanoseconds(),
	}
	if s.Mode != nil {
		v.Mode = new(*s.Mode & 0o7777)
	}
	return v, s.Atime.Nsec < 1e9 && s.Mtime.Nsec < 1e9
}
