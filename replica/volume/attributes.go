package volume

// setAttr is SETATTR (RFC 1813 §3.3.2), all or nothing.
func (v *Volume) setAttr(index uint64, op *Op, r *Result) {
	in, e := v.table.find(op.File, op.Gen)
	if r.Err = e; e != OK {
		return
	}
	r.Obj = in.before()
	if r.Err = in.checkSet(&op.Cred, &op.Set); r.Err != OK {
		return
	}
	if in.fence.shuts(op.Node) {
		r.Err = EFENCED
		return
	}
	if op.Guard != nil && *op.Guard != in.ctime {
		r.Err = ENOTSYNC
		return
	}
	v.set(index, in, op, &op.Set, in.stamp(op.Time))
	r.Obj.After = in.attr()
}

// checkSet decides whether c may set these attributes (fs/nfsd/vfs.c nfsd_setattr, fs/attr.c
// setattr_prepare).
func (in *inode) checkSet(c *Cred, set *SetAttrs) Errno {
	if set.Size != nil {
		if e := in.regular(); e != OK {
			return e
		}
		if !in.writable(c) {
			return EACCES
		}
		if *set.Size > MaxFileBytes {
			return EFBIG
		}
	}
	now := set.AtimeHow == TimeServer || set.MtimeHow == TimeServer
	given := set.AtimeHow == TimeClient || set.MtimeHow == TimeClient
	owns := c.owns(in)
	switch {
	case now && !given && !in.writable(c):
		return EACCES
	case given && !owns:
		return EPERM
	case set.UID != nil && *set.UID == noOwner || set.GID != nil && *set.GID == noOwner:
		return EINVAL
	case set.UID != nil && !c.root() && !(owns && *set.UID == in.uid):
		return EPERM
	case set.GID != nil && !c.root() && !(owns && (*set.GID == in.gid || c.member(*set.GID))):
		return EPERM
	case set.Mode != nil && in.typ != SymLink && !owns:
		return EPERM
	}
	return OK
}

// set sets attributes that were checked, at the time now. A symbolic link's mode stays.
func (v *Volume) set(index uint64, in *inode, op *Op, set *SetAttrs, now int64) {
	changed := false
	if set.Size != nil {
		v.resize(index, in, *set.Size)
		in.loseSetID(&op.Cred)
		in.mtime = now
		changed = true
	}
	mode := in.mode
	if set.Mode != nil && in.typ != SymLink {
		mode = *set.Mode & modeAll
		changed = true
	}
	if set.UID != nil || set.GID != nil {
		// A change of owner, even to the same one and by root, revokes set-id.
		if in.typ != Directory {
			mode = in.revoked(&op.Cred, mode, set.Mode != nil)
		}
		if set.UID != nil {
			in.uid = *set.UID
		}
		if set.GID != nil {
			in.gid = *set.GID
		}
		changed = true
	}
	if set.Mode != nil && !op.Cred.root() && !op.Cred.member(in.gid) {
		mode &^= modeSetGID
	}
	in.mode = mode
	changed = setTime(&in.atime, set.AtimeHow, set.Atime, now) || changed
	changed = setTime(&in.mtime, set.MtimeHow, set.Mtime, now) || changed
	if changed {
		in.ctime = now
	}
}

func setTime(t *int64, how TimeHow, given, now int64) bool {
	switch how {
	case TimeServer:
		*t = now
	case TimeClient:
		*t = given
	}
	return how != TimeKeep
}

// revoked gives mode without the set-id bits that a change of owner takes (nfsd_sanitize_attrs).
// Set-group-id without group execute means mandatory locking, and stays for the group's members.
func (in *inode) revoked(c *Cred, mode uint32, modeGiven bool) uint32 {
	mode &^= modeSetUID
	if mode&modeGrpExec != 0 || !modeGiven && !c.root() && !c.member(in.gid) {
		mode &^= modeSetGID
	}
	return mode
}

// loseSetID drops the set-id bits of a file whose content changes by another hand than root's
// (fs/inode.c, file_remove_privs; fs/attr.c, setattr_should_drop_sgid). Set-group-id without group
// execute stays for the group's members.
func (in *inode) loseSetID(c *Cred) {
	if c.root() {
		return
	}
	in.mode &^= modeSetUID
	if in.mode&modeGrpExec != 0 || !c.member(in.gid) {
		in.mode &^= modeSetGID
	}
}

// resize sets a regular file's size. What is cut off is freed; growth is a hole, and needs no
// object: bytes past an object's end are zeros.
func (v *Volume) resize(index uint64, in *inode, size uint64) {
	if size < in.size && !in.ext.empty() {
		was := in.ext.blocks
		in.ext.cut(size, index)
		v.table.blocks -= was - in.ext.blocks
		in.shrinks++
		v.after.cut, v.after.size = in.id, size
	}
	in.size = size
}
