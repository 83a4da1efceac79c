package volume

import (
	"fmt"
	"slices"

	"trinas/replica/disk"
)

const (
	maxDirEntries = 4096 // of one ReadDir
	entryOverhead = 200  // bytes that a ReadDir counts for an entry besides its name

	// readTries is how often a read that met a truncation starts over before it keeps
	// truncations out for its time.
	readTries = 3
)

// Query answers a query from this replica as it is: whether it may answer is the caller's to
// know. Apply may run beside it, and other queries. A READ's bytes go into op.Data's memory if
// that has room for them. An error means that this replica is broken; it must leave service.
// Reads change no atime. A Commit is answered with the file's attributes; waiting until earlier
// writes are durable, and the verifier, are the caller's part.
func (v *Volume) Query(op *Op) (Result, error) {
	var r Result
	switch op.Kind {
	case Read:
		err := v.read(op, &r)
		return r, err
	case FSStat:
		err := v.fsStat(op, &r)
		return r, err
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	if v.failure != nil {
		return r, v.failure
	}
	in, e := v.table.find(op.File, op.Gen)
	if r.Err = e; e != OK {
		return r, nil
	}
	self := Change{Known: true, After: in.attr()}
	switch op.Kind {
	case GetAttr:
		r.Obj = self
	case Lookup:
		r.Dir = self
		v.lookup(in, op, &r)
	case Access:
		r.Obj = self
		r.Access = in.granted(&op.Cred, op.Count)
	case ReadLink:
		r.Obj = self
		if in.typ != SymLink {
			r.Err = EINVAL
			return r, nil
		}
		r.Data = []byte(in.target)
	case ReadDir:
		r.Obj = self
		v.readDir(in, op, &r)
	case Commit:
		r.Obj = self
		r.Err = in.checkCommit(&op.Cred)
	default:
		return r, fmt.Errorf("operation %d is no query", op.Kind)
	}
	return r, nil
}

func (v *Volume) lookup(dir *inode, op *Op, r *Result) {
	if dir.typ != Directory {
		r.Err = ENOTDIR
		return
	}
	var in *inode
	switch {
	case isDot(op.Name) && !dir.permits(&op.Cred, mayExec):
		r.Err = EACCES
		return
	case op.Name == ".":
		in = dir
	case op.Name == "..":
		in = v.table.inodes[dir.dir.parent]
	default:
		if r.Err = checkName(&op.Cred, dir, op.Name); r.Err != OK {
			return
		}
		in = v.table.inodes[dir.dir.lookup(op.Name)]
	}
	if in == nil {
		r.Err = ENOENT
		return
	}
	r.Obj = Change{Known: true, After: in.attr()}
}

// checkCommit: Linux asks of COMMIT what it asks of WRITE.
func (in *inode) checkCommit(c *Cred) Errno {
	if e := in.regular(); e != OK {
		return e
	}
	if !in.writable(c) {
		return EACCES
	}
	return OK
}

// readDir lists names behind the cookie op.Offset: as many as op.Count and op.Size allow, but at
// least one. 0 is no limit of the caller's.
func (v *Volume) readDir(dir *inode, op *Op, r *Result) {
	if dir.typ != Directory {
		r.Err = ENOTDIR
		return
	}
	if !dir.permits(&op.Cred, mayRead) {
		r.Err = EACCES
		return
	}
	most := min(int(op.Count), maxDirEntries)
	if most == 0 {
		most = maxDirEntries
	}
	bytes := 0
	room := func(name string) bool { // also counts the name
		bytes += len(name) + entryOverhead
		n := len(r.Entries)
		return n == 0 || n < most && (op.Size == 0 || bytes <= int(op.Size))
	}
	r.Entries = make([]DirEntry, 0, min(most, dir.dir.len()+2))
	if op.Offset < cookieDot && room(".") {
		r.Entries = append(r.Entries, DirEntry{Name: ".", Cookie: cookieDot, Attr: dir.attr()})
	}
	if op.Offset < cookieDotDot {
		if !room("..") {
			return
		}
		parent := v.table.inodes[dir.dir.parent]
		r.Entries = append(r.Entries, DirEntry{Name: "..", Cookie: cookieDotDot, Attr: parent.attr()})
	}
	for _, e := range dir.dir.entries[dir.dir.after(op.Offset):] {
		if e.file == 0 {
			continue
		}
		if !room(e.name) {
			return
		}
		r.Entries = append(r.Entries, DirEntry{
			Name: e.name, Cookie: e.cookie, Attr: v.table.inodes[e.file].attr(),
		})
	}
	r.EOF = true
}

func (v *Volume) fsStat(op *Op, r *Result) error {
	space, err := v.fs.Space()
	if err != nil {
		return v.fail(fmt.Errorf("ask for the space of %s: %w", v.fs.Path("."), err))
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	if v.failure != nil {
		return v.failure
	}
	in, e := v.table.find(op.File, op.Gen)
	if r.Err = e; e != OK {
		return nil
	}
	r.Obj = Change{Known: true, After: in.attr()}
	r.Space = Space{
		TotalBytes: space.TotalBytes, FreeBytes: space.FreeBytes,
		Files: uint64(len(v.table.inodes)),
	}
	return nil
}

// read is READ (RFC 1813 §3.3.6). The object is read without the lock; afterwards the table says
// whether a truncation or removal came in between, and then what was read does not count. The
// attributes are those from before: bytes may be newer than them, never older.
func (v *Volume) read(op *Op, r *Result) error {
	for try := 1; ; try++ {
		again, err := v.readOnce(op, r, try >= readTries)
		if !again {
			return err
		}
	}
}

func (v *Volume) readOnce(op *Op, r *Result, keepLock bool) (again bool, err error) {
	v.mu.RLock()
	in, want, err := v.startRead(op, r)
	if want == 0 || err != nil {
		v.mu.RUnlock()
		return false, err
	}
	shrinks := in.shrinks
	if !keepLock {
		v.mu.RUnlock()
	}
	buf := slices.Grow(op.Data[:0], want)[:want]
	got, missing, err := v.objects.readAt(in.id, buf, int64(op.Offset))
	from := op.Offset + uint64(got) // an allocated block that starts here or later is lacking
	if begin := op.Offset - op.Offset%disk.BlockBytes; got == 0 && !missing && err == nil && begin < from {
		// The object may end in the block that the read begins in, or before it.
		var n int
		if n, missing, err = v.objects.readAt(in.id, make([]byte, 1), int64(begin)); n == 0 {
			from = begin
		}
	}
	if !keepLock {
		v.mu.RLock()
	}
	now := v.table.inodes[in.id]
	gone := now != in // removed; or there, in the table of a resync
	damaged := missing && in.ext.blocks > 0 ||
		in.ext.anyAllocated(from, op.Offset+uint64(want))
	// What seems to be lacking may have been written just now; with the lock kept it was not.
	again = gone || in.shrinks != shrinks || damaged && !keepLock
	v.mu.RUnlock()

	switch {
	case err != nil:
		return false, v.failRead(fmt.Errorf("read object %s at %d: %w", v.fs.Path(objectPath(in.id)), op.Offset, err), "")
	case gone:
		if now == nil {
			v.objects.drop(in.id) // we may have opened it again
		}
		return true, nil
	case again:
		return true, nil
	case damaged:
		return false, v.failRead(fmt.Errorf("object %s is missing or lacks bytes after %d that were written; "+
			"somebody changed the volume's folder, or its disk lost data", v.fs.Path(objectPath(in.id)), from),
			"trinas verify "+v.info.Name+" --repair copies it from the other replicas once this one is back in service")
	}
	r.Data, r.Count = buf, uint32(want)
	return false, nil
}

// failRead is fail, with the next step, unless this replica is only read from.
func (v *Volume) failRead(err error, next string) error {
	switch {
	case v.opt.Rescue:
		return err
	case next != "":
		err = fmt.Errorf("%w; %s", err, next)
	}
	return v.fail(err)
}

// startRead checks the read and fills in the answer but for the bytes; it gives the file and how
// many bytes of its object are to be read. Called with mu held.
func (v *Volume) startRead(op *Op, r *Result) (in *inode, want int, err error) {
	*r = Result{}
	if v.failure != nil {
		return nil, 0, v.failure
	}
	in, e := v.table.find(op.File, op.Gen)
	if r.Err = e; e != OK {
		return nil, 0, nil
	}
	r.Obj = Change{Known: true, After: in.attr()}
	if r.Err = in.regular(); r.Err != OK {
		return nil, 0, nil
	}
	if !in.readable(&op.Cred) {
		r.Err = EACCES
		return nil, 0, nil
	}
	if op.Offset >= in.size {
		r.EOF = true
		return nil, 0, nil
	}
	left := in.size - op.Offset
	want = int(min(uint64(op.Count), MaxIOBytes, left))
	r.EOF = uint64(want) == left
	if in.ext.blocks > 0 {
		return in, want, nil
	}
	r.Count = uint32(want)
	r.Data = slices.Grow(op.Data[:0], want)[:want]
	clear(r.Data)
	return nil, 0, nil
}
