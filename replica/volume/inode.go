package volume

import (
	"maps"
	"math"

	"trinas/replica/disk"
)

// inode is one file of the volume. Only Apply changes it, under Volume.mu.
type inode struct {
	id         FileID
	gen        uint32
	typ        FileType
	mode       uint32 // 07777
	nlink      uint32
	uid, gid   uint32
	size       uint64 // Regular
	rdev       [2]uint32
	atime      int64
	mtime      int64
	ctime      int64
	exclusive  bool   // made by an Exclusive Create, with verifier
	verifier   uint64 // kept as long as the file
	target     string // SymLink
	dir        *directory
	ext        extents // Regular
	fence      *fence  // of an image that was activated, else nil; replaced, never changed
	prev, next *inode  // by id; see table

	// shrinks counts truncations, so that a read that ran beside one sees it. Not saved.
	shrinks uint32
}

// dirBytes is the size that every directory shows, as a small one does on ext4.
const dirBytes = 4096

func (in *inode) attr() Attr {
	a := Attr{
		File: in.id, Gen: in.gen, Type: in.typ, Mode: in.mode, Nlink: in.nlink,
		UID: in.uid, GID: in.gid, Rdev: in.rdev,
		Atime: in.atime, Mtime: in.mtime, Ctime: in.ctime,
	}
	switch in.typ {
	case Regular:
		a.SizeBytes, a.UsedBytes = in.size, in.ext.blocks*disk.BlockBytes
	case Directory:
		a.SizeBytes, a.UsedBytes = dirBytes, dirBytes
	case SymLink:
		a.SizeBytes = uint64(len(in.target))
	}
	return a
}

// stamp gives the time at which an operation changes the file: the operation's own, or just
// after the last change when a new primary's clock is behind. NFS clients take attributes whose
// ctime went back for old ones and ignore them, and one whose ctime did not move for unchanged.
func (in *inode) stamp(now int64) int64 {
	if now <= in.ctime && in.ctime < math.MaxInt64 {
		return in.ctime + 1
	}
	return now
}

// changed marks content and inode as changed.
func (in *inode) changed(now int64) {
	in.mtime = in.stamp(now)
	in.ctime = in.mtime
}

// touched marks the inode as changed.
func (in *inode) touched(now int64) { in.ctime = in.stamp(now) }

// before remembers what an operation is about to change.
func (in *inode) before() Change {
	a := in.attr()
	return Change{
		Known: true, HasBefore: true,
		BeforeSize: a.SizeBytes, BeforeMtime: a.Mtime, BeforeCtime: a.Ctime, After: a,
	}
}

// table holds the inodes by id, and in a list in order of id. New ids are larger than all others,
// so that the list never needs sorting: the checkpoint and the digest walk it.
type table struct {
	inodes      map[FileID]*inode
	most        int // that inodes has held since it was made
	first, last *inode
	blocks      uint64 // allocated blocks of all files
}

// minShrink is the size from which on a table is worth to be made smaller.
const minShrink = 4096

func newTable() table { return table{inodes: make(map[FileID]*inode)} }

// add puts in behind all others; its id is larger than theirs.
func (t *table) add(in *inode) {
	t.inodes[in.id] = in
	t.most = max(t.most, len(t.inodes))
	in.prev = t.last
	if t.last != nil {
		t.last.next = in
	} else {
		t.first = in
	}
	t.last = in
	t.blocks += in.ext.blocks
}

func (t *table) remove(in *inode) {
	delete(t.inodes, in.id)
	if in.prev != nil {
		in.prev.next = in.next
	} else {
		t.first = in.next
	}
	if in.next != nil {
		in.next.prev = in.prev
	} else {
		t.last = in.prev
	}
	in.prev, in.next = nil, nil
	t.blocks -= in.ext.blocks
	// A map never shrinks: one that is made anew gives the room for removed files back. It costs one
	// step for every three removals or more.
	if t.most >= minShrink && len(t.inodes) <= t.most/4 {
		smaller := make(map[FileID]*inode, len(t.inodes))
		maps.Copy(smaller, t.inodes)
		t.inodes, t.most = smaller, len(smaller)
	}
}

// find gives the file that a handle names.
func (t *table) find(id FileID, gen uint32) (*inode, Errno) {
	in := t.inodes[id]
	if in == nil || in.gen != gen {
		return nil, ESTALE
	}
	return in, OK
}

// directory gives the directory that a handle names.
func (t *table) directory(id FileID, gen uint32) (*inode, Errno) {
	in, e := t.find(id, gen)
	if e == OK && in.typ != Directory {
		e = ENOTDIR
	}
	return in, e
}
