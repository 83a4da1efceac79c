package volume

import (
	"slices"
	"strings"
)

// Who may do what, as Linux' NFS server decides it (fs/nfsd/vfs.c, nfsd_permission; fs/namei.c).

const (
	mayExec  = 1
	mayWrite = 2
	mayRead  = 4
)

// Mode bits.
const (
	modeSetUID  = 0o4000
	modeSetGID  = 0o2000
	modeSticky  = 0o1000
	modeGrpExec = 0o010
	modeAnyExec = 0o111
	modeAll     = 0o7777
	modeNewDir  = 0o1777 // of the mode that mkdir is given (fs/namei.c, vfs_mkdir)
	modeSymlink = 0o777
	noOwner     = ^uint32(0) // (uid_t)-1 is nobody's
)

func (c *Cred) member(gid uint32) bool { return c.GID == gid || slices.Contains(c.Groups, gid) }

func (c *Cred) root() bool { return c.UID == 0 }

// owns reports whether c may do what only a file's owner may.
func (c *Cred) owns(in *inode) bool { return c.root() || c.UID == in.uid }

// permits checks the mode bits. Root may do all, but execute only what somebody may.
func (in *inode) permits(c *Cred, want uint32) bool {
	if c.root() {
		return want&mayExec == 0 || in.typ == Directory || in.mode&modeAnyExec != 0
	}
	granted := in.mode
	switch {
	case c.UID == in.uid:
		granted >>= 6
	case c.member(in.gid):
		granted >>= 3
	}
	return granted&want == want
}

// writable: the owner writes whatever the mode says, since a file that was open for writing
// when the mode changed must stay writable, and NFS knows no opens.
func (in *inode) writable(c *Cred) bool { return c.UID == in.uid || in.permits(c, mayWrite) }

// readable: as writable; and what can be executed can be read, since the client must load it.
func (in *inode) readable(c *Cred) bool {
	return c.UID == in.uid || in.permits(c, mayRead) || in.permits(c, mayExec)
}

// stuck reports whether the directory's sticky bit keeps c from removing or renaming child.
func stuck(c *Cred, dir, child *inode) bool {
	return dir.mode&modeSticky != 0 && !c.root() && c.UID != child.uid && c.UID != dir.uid
}

// regular checks the type for READ, WRITE and a change of size.
func (in *inode) regular() Errno {
	switch in.typ {
	case Regular:
		return OK
	case Directory:
		return EISDIR
	}
	return EINVAL
}

func isDot(name string) bool { return name == "." || name == ".." }

// checkName checks a name that is not "." or "..", and that dir may be searched. The kernel's
// path lookup gives EACCES for names that are empty or hold '/' or NUL (lookup_one_common).
func checkName(c *Cred, dir *inode, name string) Errno {
	switch {
	case name == "" || strings.ContainsAny(name, "/\x00"):
		return EACCES
	case !dir.permits(c, mayExec):
		return EACCES
	case len(name) > NameBytes:
		return ENAMETOOLONG
	}
	return OK
}

// Bits of ACCESS (RFC 1813 §3.3.4).
const (
	accessRead    = 0x01
	accessLookup  = 0x02
	accessModify  = 0x04
	accessExtend  = 0x08
	accessDelete  = 0x10
	accessExecute = 0x20
)

// granted gives those of the asked ACCESS bits that c has. Bits that mean nothing for the type
// are not granted. The owner's override of READ and WRITE does not count here: a client asks
// this to decide what open() answers.
func (in *inode) granted(c *Cred, ask uint32) (got uint32) {
	bits := []struct{ access, want uint32 }{
		{accessRead, mayRead}, {accessExecute, mayExec},
		{accessModify, mayWrite}, {accessExtend, mayWrite},
	}
	if in.typ == Directory {
		bits = []struct{ access, want uint32 }{
			{accessRead, mayRead}, {accessLookup, mayExec},
			{accessModify, mayExec | mayWrite}, {accessExtend, mayExec | mayWrite},
			{accessDelete, mayExec | mayWrite},
		}
	}
	for _, b := range bits {
		if ask&b.access != 0 && in.permits(c, b.want) {
			got |= b.access
		}
	}
	return got
}
