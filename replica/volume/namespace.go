package volume

import "strings"

// create is CREATE, MKDIR, SYMLINK and MKNOD (RFC 1813 §3.3.8 to §3.3.11).
func (v *Volume) create(index, term uint64, op *Op, r *Result) {
	dir, e := v.table.directory(op.File, op.Gen)
	if dir != nil {
		r.Dir = dir.before()
	}
	if r.Err = e; e != OK {
		return
	}
	if r.Err = checkCreate(op, dir); r.Err != OK {
		return
	}
	if child := v.table.inodes[dir.dir.lookup(op.Name)]; child != nil {
		v.createExisting(index, op, child, r)
		return
	}
	if r.Err = checkNew(op, dir); r.Err != OK {
		return
	}
	in := newInode(index, term, op, dir)
	v.table.add(in)
	dir.dir.insert(op.Name, in.id)
	if in.typ == Directory {
		dir.nlink++
	}
	dir.changed(op.Time)

	// Mode is set already; owner and group are root's to give, others' are left aside as the
	// kernel's server does.
	set := op.Set
	set.Mode = nil
	if !op.Cred.root() {
		set.UID, set.GID = nil, nil
	}
	if in.typ != Regular || value(set.Size) == 0 {
		set.Size = nil // it is so already
	}
	if op.Kind == Create && op.How == Exclusive {
		set = SetAttrs{}
	}
	v.set(index, in, op, &set, op.Time)
	r.Obj = Change{Known: true, After: in.attr()}
	r.Dir.After = dir.attr()
}

// checkCreate checks the arguments and the right to look the name up.
func checkCreate(op *Op, dir *inode) Errno {
	if op.Kind == Symlink {
		if e := checkTarget(op.Target); e != OK {
			return e
		}
	}
	if isDot(op.Name) {
		return EEXIST
	}
	if op.Kind == MkNod && (op.Type < Block || op.Type == SymLink) {
		return EINVAL
	}
	if e := checkName(&op.Cred, dir, op.Name); e != OK {
		return e
	}
	if op.Kind == Symlink && !dir.permits(&op.Cred, mayWrite) {
		return EACCES // for this one the kernel's server asks before it looks
	}
	return OK
}

// checkNew checks whether what is not there yet may be made.
func checkNew(op *Op, dir *inode) Errno {
	set := &op.Set
	switch {
	case !dir.permits(&op.Cred, mayExec|mayWrite):
		return EACCES
	case op.Kind == MkNod && (op.Type == Block || op.Type == Char) && !op.Cred.root():
		return EPERM
	case set.Size != nil && op.Kind == Create && *set.Size > MaxFileBytes:
		return EFBIG
	case op.Cred.root() && (set.UID != nil && *set.UID == noOwner || set.GID != nil && *set.GID == noOwner):
		return EINVAL
	}
	return OK
}

func checkTarget(target string) Errno {
	switch {
	case target == "":
		return ENOENT
	case len(target) > TargetBytes:
		return ENAMETOOLONG
	case strings.Contains(target, "\x00"):
		return EINVAL
	}
	return OK
}

// createExisting answers a creation of a name that exists. Unchecked, what is no regular file is
// given as it is, as the kernel's server does: the client then finds that it cannot open it so.
func (v *Volume) createExisting(index uint64, op *Op, child *inode, r *Result) {
	switch {
	case op.Kind != Create || op.How == Guarded:
		r.Err = EEXIST
		return
	case op.How == Exclusive:
		if !child.exclusive || child.verifier != op.Verifier {
			r.Err = EEXIST
			return
		}
		r.Obj = Change{Known: true, After: child.attr()}
		return
	}
	r.Obj = child.before()
	if child.typ == Regular {
		set := SetAttrs{Size: op.Set.Size}
		r.Err = child.checkSet(&op.Cred, &set)
		if r.Err == OK && set.Size != nil && child.fence.shuts(op.Node) {
			r.Err = EFENCED
		}
		if r.Err == OK {
			v.set(index, child, op, &set, child.stamp(op.Time))
		}
	}
	r.Obj.After = child.attr()
}

// newInode makes the inode of a new file: owner, group and mode as fs/inode.c inode_init_owner.
func newInode(index, term uint64, op *Op, dir *inode) *inode {
	in := &inode{
		id: FileID(index), gen: uint32(term), nlink: 1,
		uid: op.Cred.UID, gid: op.Cred.GID,
		mode:  value(op.Set.Mode) & modeAll,
		atime: op.Time, mtime: op.Time, ctime: op.Time,
	}
	inherits := dir.mode&modeSetGID != 0
	if inherits {
		in.gid = dir.gid
	}
	switch op.Kind {
	case Create:
		in.typ = Regular
		in.exclusive, in.verifier = op.How == Exclusive, op.Verifier
	case MkDir:
		in.typ, in.nlink, in.dir = Directory, 2, newDirectory(dir.id)
		in.mode &= modeNewDir
		if inherits {
			in.mode |= modeSetGID
		}
	case Symlink:
		in.typ, in.target, in.mode = SymLink, op.Target, modeSymlink
	case MkNod:
		in.typ = op.Type
		if op.Type == Block || op.Type == Char {
			in.rdev = op.Rdev
		}
	}
	// Nobody makes a program that runs with a group he is not in (fs/inode.c mode_strip_sgid).
	if in.typ != Directory && inherits && in.mode&modeGrpExec != 0 &&
		!op.Cred.root() && !op.Cred.member(in.gid) {
		in.mode &^= modeSetGID
	}
	return in
}

// remove is REMOVE and RMDIR (RFC 1813 §3.3.12, §3.3.13).
func (v *Volume) remove(op *Op, r *Result) {
	dir, e := v.table.directory(op.File, op.Gen)
	if dir != nil {
		r.Dir = dir.before()
	}
	if r.Err = e; e != OK {
		return
	}
	if r.Err = checkRemoveName(op, dir); r.Err != OK {
		return
	}
	child := v.table.inodes[dir.dir.lookup(op.Name)]
	switch {
	case child == nil:
		r.Err = ENOENT
	case stuck(&op.Cred, dir, child):
		r.Err = EPERM
	case op.Kind == Remove && child.typ == Directory:
		r.Err = EISDIR
	case op.Kind == RmDir && child.typ != Directory:
		r.Err = ENOTDIR
	case op.Kind == RmDir && child.dir.len() > 0:
		r.Err = ENOTEMPTY
	case child.fence.shuts(op.Node):
		r.Err, r.Obj = EFENCED, child.before()
	default:
		dir.dir.remove(op.Name)
		v.unlink(op, dir, child)
		dir.changed(op.Time)
		r.Dir.After = dir.attr()
	}
}

func checkRemoveName(op *Op, dir *inode) Errno {
	switch {
	case op.Kind == RmDir && op.Name == ".":
		return EINVAL // RFC 1813 §3.3.13
	case op.Kind == RmDir && op.Name == "..":
		return EEXIST // the same
	case isDot(op.Name):
		return EACCES
	case !dir.permits(&op.Cred, mayExec|mayWrite):
		return EACCES
	}
	return checkName(&op.Cred, dir, op.Name)
}

// unlink takes a link away from child, whose name was in dir; with the last one the file goes.
func (v *Volume) unlink(op *Op, dir, child *inode) {
	if child.typ == Directory {
		child.nlink = 0
		dir.nlink--
	} else {
		child.nlink--
		child.touched(op.Time)
	}
	if child.nlink > 0 {
		return
	}
	v.table.remove(child)
	if !child.ext.empty() {
		v.after.remove = child.id
	}
}

// rename is RENAME (RFC 1813 §3.3.14; fs/nfsd/vfs.c nfsd_rename, fs/namei.c vfs_rename).
func (v *Volume) rename(op *Op, r *Result) {
	from, e := v.table.directory(op.File, op.Gen)
	to, e2 := v.table.directory(op.File2, op.Gen2)
	if from != nil {
		r.Dir = from.before()
	}
	if to != nil {
		r.Dir2 = to.before()
	}
	if r.Err = first(e, e2); r.Err != OK {
		return
	}
	if r.Err = checkRename(op, from, to); r.Err != OK {
		return
	}
	child := v.table.inodes[from.dir.lookup(op.Name)]
	if child == nil {
		r.Err = ENOENT
		return
	}
	r.Obj = child.before()
	old := v.table.inodes[to.dir.lookup(op.Name2)]
	r.Err = v.checkMove(op, from, to, child, old)
	if r.Err == EFENCED && !child.fence.shuts(op.Node) {
		r.Obj = old.before() // what is refused is the image that stands there
	}
	if r.Err != OK || child == old {
		return // two names of one file: nothing to do
	}
	if old != nil {
		to.dir.replace(op.Name2, child.id)
		v.unlink(op, to, old)
	} else {
		to.dir.insert(op.Name2, child.id)
	}
	from.dir.remove(op.Name)
	if child.typ == Directory && from != to {
		child.dir.parent = to.id
		from.nlink--
		to.nlink++
	}
	child.touched(op.Time)
	from.changed(op.Time)
	if to != from {
		to.changed(op.Time)
	}
	r.Obj.After, r.Dir.After, r.Dir2.After = child.attr(), from.attr(), to.attr()
}

func first(errs ...Errno) Errno {
	for _, e := range errs {
		if e != OK {
			return e
		}
	}
	return OK
}

func checkRename(op *Op, from, to *inode) Errno {
	c := &op.Cred
	switch {
	case !from.permits(c, mayExec|mayWrite), !to.permits(c, mayExec|mayWrite):
		return EACCES
	case op.Name == "" || isDot(op.Name) || op.Name2 == "" || isDot(op.Name2):
		return EPERM
	}
	return first(checkName(c, from, op.Name), checkName(c, to, op.Name2))
}

// checkMove checks whether child may go from one directory to another and take old's place.
func (v *Volume) checkMove(op *Op, from, to, child, old *inode) Errno {
	c := &op.Cred
	switch {
	case child.typ == Directory && v.within(to, child):
		return EINVAL
	case old != nil && old.typ == Directory && v.within(from, old):
		return ENOTEMPTY
	case child == old:
		return OK
	case stuck(c, from, child), old != nil && stuck(c, to, old):
		return EPERM
	case old != nil && child.typ == Directory && old.typ != Directory:
		return ENOTDIR
	case old != nil && child.typ != Directory && old.typ == Directory:
		return EISDIR
	case child.typ == Directory && from != to && !child.permits(c, mayWrite):
		return EACCES // its ".." changes
	case old != nil && old.typ == Directory && old.dir.len() > 0:
		return ENOTEMPTY
	case child.fence.shuts(op.Node), old != nil && old.fence.shuts(op.Node):
		return EFENCED
	}
	return OK
}

// within reports whether dir is top or below it.
func (v *Volume) within(dir, top *inode) bool {
	for dir != top && dir.id != RootID {
		dir = v.table.inodes[dir.dir.parent]
	}
	return dir == top
}

// link is LINK (RFC 1813 §3.3.15).
func (v *Volume) link(op *Op, r *Result) {
	in, e := v.table.find(op.File, op.Gen)
	dir, e2 := v.table.directory(op.File2, op.Gen2)
	if in != nil && e == OK {
		r.Obj = in.before()
	}
	if dir != nil {
		r.Dir2 = dir.before()
	}
	if r.Err = first(e, e2); r.Err != OK {
		return
	}
	if r.Err = checkLink(op, in, dir); r.Err != OK {
		return
	}
	dir.dir.insert(op.Name2, in.id)
	in.nlink++
	in.touched(op.Time)
	dir.changed(op.Time)
	r.Obj.After, r.Dir2.After = in.attr(), dir.attr()
}

func checkLink(op *Op, in, dir *inode) Errno {
	c := &op.Cred
	switch {
	case in.typ == Directory:
		return EPERM
	case isDot(op.Name2):
		return EEXIST
	case !dir.permits(c, mayExec|mayWrite):
		return EACCES
	}
	if e := checkName(c, dir, op.Name2); e != OK {
		return e
	}
	switch {
	case dir.dir.lookup(op.Name2) != 0:
		return EEXIST
	case in.nlink >= MaxLinks:
		return EMLINK
	}
	return OK
}
