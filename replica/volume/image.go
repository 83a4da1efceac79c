package volume

import (
	"fmt"
	"strings"
)

// imageMark is the first byte after each section of an image, to tell a codec that has lost its
// way from one that has not.
const imageMark = 0xa5

// Presence bits of an inode in an image.
const (
	inodeExclusive = 1 << 0
	inodeFenced    = 1 << 1 // a replica of before the fence refuses it, and so cannot write past it
)

// appendImage appends the volume's state, as a checkpoint holds it, and a digest covers it: from
// "index" on it is the same on replicas that have applied the same entries. Little endian;
// "text" is a 16-bit length and bytes:
//
//	volume 8, name text, created 8, conf length 4, conf
//	index 8, term 8
//	inodes 8, each, by id:
//	    id 8, gen 4, type 1, flags 1 (1: exclusive, 2: fenced), mode 2, nlink 4, uid 4, gid 4,
//	    major 4, minor 4, atime 8, mtime 8, ctime 8, verifier 8
//	    Regular:   size 8, extents 4, each: num 4, changed 8, blocks 2,
//	               and if blocks is neither 0 nor 256: bitmap 4 x 8
//	    Directory: parent 8, cookie 8, names 4, each, by cookie: cookie 8, file 8, text
//	    SymLink:   target text
//	    fenced:    writers 1, 2 each, barred 1, 2 each
//	mark 1 (a5)
//	clients 4, each, by age: client 8, last 8, replies 4, each, oldest first:
//	    xid 4, sum 4, err 2, file 8, gen 4
//	mark 1 (a5)
func (v *Volume) appendImage(b []byte) []byte {
	b = appendU64(b, uint64(v.info.ID))
	b = appendStr16(b, v.info.Name)
	b = appendU64(b, uint64(v.info.Created))
	b = appendU32(b, uint32(len(v.conf)))
	b = append(b, v.conf...)
	return v.appendState(b)
}

// appendState appends the part that is the same on all replicas.
func (v *Volume) appendState(b []byte) []byte {
	b = appendU64(b, v.applied)
	b = appendU64(b, v.term)
	b = appendU64(b, uint64(len(v.table.inodes)))
	for in := v.table.first; in != nil; in = in.next {
		b = in.append(b)
	}
	b = append(b, imageMark)
	return append(v.appendReplies(b), imageMark)
}

func (v *Volume) appendReplies(b []byte) []byte {
	ids := v.replies.byAge()
	b = appendU32(b, uint32(len(ids)))
	for _, id := range ids {
		c := v.replies.clients[id]
		b = appendU64(b, id)
		b = appendU64(b, c.last)
		b = appendU32(b, uint32(len(c.replies)))
		c.inOrder(func(p *reply) {
			b = appendU32(b, p.xid)
			b = appendU32(b, p.sum)
			b = appendU16(b, uint16(p.err))
			b = appendU64(b, uint64(p.file))
			b = appendU32(b, p.gen)
		})
	}
	return b
}

func (in *inode) append(b []byte) []byte {
	var flags uint8
	if in.exclusive {
		flags = inodeExclusive
	}
	if in.fence != nil {
		flags |= inodeFenced
	}
	b = appendU64(b, uint64(in.id))
	b = appendU32(b, in.gen)
	b = append(b, byte(in.typ), flags)
	b = appendU16(b, uint16(in.mode))
	b = appendU32(b, in.nlink)
	b = appendU32(b, in.uid)
	b = appendU32(b, in.gid)
	b = appendU32(b, in.rdev[0])
	b = appendU32(b, in.rdev[1])
	b = appendU64(b, uint64(in.atime))
	b = appendU64(b, uint64(in.mtime))
	b = appendU64(b, uint64(in.ctime))
	b = appendU64(b, in.verifier)
	switch in.typ {
	case Regular:
		b = appendU64(b, in.size)
		b = in.ext.append(b)
	case Directory:
		b = in.dir.append(b)
	case SymLink:
		b = appendStr16(b, in.target)
	}
	if in.fence != nil {
		b = appendNodes(appendNodes(b, in.fence.writers), in.fence.barred)
	}
	return b
}

func (x *extents) append(b []byte) []byte {
	n := 0
	for _, l := range x.leaves {
		n += len(l.ext)
	}
	b = appendU32(b, uint32(n))
	for _, l := range x.leaves {
		for i := range l.ext {
			e := &l.ext[i]
			b = appendU32(b, e.num)
			b = appendU64(b, e.changed)
			b = appendU16(b, e.blocks)
			if e.bits != nil {
				for _, word := range e.bits {
					b = appendU64(b, word)
				}
			}
		}
	}
	return b
}

func (d *directory) append(b []byte) []byte {
	b = appendU64(b, uint64(d.parent))
	b = appendU64(b, d.cookie)
	b = appendU32(b, uint32(len(d.names)))
	for _, e := range d.entries {
		if e.file != 0 {
			b = appendU64(b, e.cookie)
			b = appendU64(b, uint64(e.file))
			b = appendStr16(b, e.name)
		}
	}
	return b
}

// image reads an image. The first thing wrong with it is the error; the decoder's offset is
// then about where.
type image struct {
	decoder
	err error
}

func (d *image) wrong(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
	}
}

func (d *image) ok() bool {
	if d.short {
		d.wrong("it ends too early")
	}
	return d.err == nil
}

// count reads a number of things that take at least minBytes each.
func (d *image) count(n uint64, minBytes int, what string) int {
	if n > uint64(d.left()/minBytes) {
		d.wrong("it claims %d %s in %d bytes", n, what, d.left())
		return 0
	}
	return int(n)
}

func (d *image) mark() {
	if d.ok() && d.u8() != imageMark {
		d.wrong("a section does not end where it should")
	}
}

// decodeImage reads an image into v, which is new. The offset is where decoding stopped.
func decodeImage(v *Volume, b []byte) (offset int, err error) {
	d := &image{decoder: decoder{b: b}}
	v.info = Info{ID: ID(d.u64()), Name: d.str16(), Created: d.i64()}
	v.conf = append([]byte(nil), d.bytes(d.count(uint64(d.u32()), 1, "bytes of configuration"))...)
	v.applied, v.term = d.u64(), d.u64()
	v.table, v.replies = newTable(), newReplies()
	d.decodeTable(&v.table, v.applied)
	d.mark()
	d.decodeReplies(&v.replies)
	d.mark()
	if d.ok() && d.left() != 0 {
		d.wrong("%d bytes are left over", d.left())
	}
	if d.ok() && (v.applied > 0 || len(v.table.inodes) > 0) { // else it was made empty
		d.err = v.table.check()
	}
	return d.off, d.err
}

func (d *image) decodeTable(t *table, applied uint64) {
	for n := d.count(d.u64(), 72, "files"); n > 0 && d.ok(); n-- {
		in := d.decodeInode()
		if !d.ok() {
			return
		}
		if t.last != nil && in.id <= t.last.id || in.id == 0 || uint64(in.id) > applied {
			d.wrong("file %d is out of order", in.id)
			return
		}
		t.add(in)
	}
}

func (d *image) decodeInode() *inode {
	in := &inode{id: FileID(d.u64()), gen: d.u32(), typ: FileType(d.u8())}
	flags := d.u8()
	in.exclusive = flags&inodeExclusive != 0
	in.mode = uint32(d.u16())
	in.nlink, in.uid, in.gid = d.u32(), d.u32(), d.u32()
	in.rdev = [2]uint32{d.u32(), d.u32()}
	in.atime, in.mtime, in.ctime = d.i64(), d.i64(), d.i64()
	in.verifier = d.u64()
	switch {
	case in.typ < Regular || in.typ > FIFO || flags&^(inodeExclusive|inodeFenced) != 0 || in.mode&^modeAll != 0:
		d.wrong("file %d has type %d, flags %#x and mode %#o", in.id, in.typ, flags, in.mode)
	case in.typ == Regular:
		if in.size = d.u64(); in.size > MaxFileBytes {
			d.wrong("file %d has a size of %d bytes", in.id, in.size)
		}
		d.decodeExtents(in)
	case in.typ == Directory:
		d.decodeDirectory(in)
	case in.typ == SymLink:
		in.target = d.str16()
	}
	if flags&inodeFenced != 0 {
		in.fence = &fence{writers: d.nodes(), barred: d.nodes()}
		if !ascending(in.fence.writers) || !ascending(in.fence.barred) || in.typ != Regular {
			d.wrong("file %d has a fence that cannot be", in.id)
		}
	}
	return in
}

func (d *image) decodeExtents(in *inode) {
	next := uint32(0)
	for n := d.count(uint64(d.u32()), 14, "extents"); n > 0 && d.ok(); n-- {
		num, changed, blocks := d.u32(), d.u64(), d.u16()
		if num < next || num >= maxExtents || blocks > extentBlocks {
			d.wrong("file %d has extent %d with %d blocks after extent %d", in.id, num, blocks, next)
			return
		}
		next = num + 1
		e := in.ext.get(num)
		e.changed = changed
		if blocks == 0 || blocks == extentBlocks {
			e.blocks = blocks
		} else {
			e.bits = new([extentBlocks / 64]uint64)
			for i := range e.bits {
				e.bits[i] = d.u64()
			}
			e.assign(0, 0, true) // counts the bits
			if e.blocks != blocks {
				d.wrong("file %d, extent %d: %d blocks, not %d", in.id, num, e.blocks, blocks)
			}
		}
		in.ext.blocks += uint64(e.blocks)
	}
	if d.ok() && in.ext.anyAllocated(in.size, MaxFileBytes) {
		d.wrong("file %d has blocks past its end", in.id)
	}
}

func (d *image) decodeDirectory(in *inode) {
	in.dir = newDirectory(FileID(d.u64()))
	in.dir.cookie = d.u64()
	before := uint64(cookieDotDot)
	for n := d.count(uint64(d.u32()), 18, "names"); n > 0 && d.ok(); n-- {
		e := entry{cookie: d.u64(), file: FileID(d.u64()), name: d.str16()}
		if _, twice := in.dir.names[e.name]; twice || e.file == 0 || !goodName(e.name) {
			d.wrong("directory %d has a bad name %q", in.id, e.name)
			return
		}
		if e.cookie <= before || e.cookie > in.dir.cookie {
			d.wrong("directory %d: the cookie %d of %q is out of order", in.id, e.cookie, e.name)
			return
		}
		before = e.cookie
		in.dir.restore(e)
	}
}

func goodName(name string) bool {
	return name != "" && len(name) <= NameBytes && !isDot(name) && !strings.ContainsAny(name, "/\x00")
}

func (d *image) decodeReplies(r *replies) {
	n := d.count(uint64(d.u32()), 20, "clients")
	if n > maxClients {
		d.wrong("it has %d clients, at most %d", n, maxClients)
	}
	last := uint64(0)
	for ; n > 0 && d.ok(); n-- {
		id, c := d.u64(), &client{last: d.u64()}
		replies := d.count(uint64(d.u32()), 22, "replies")
		if r.clients[id] != nil || c.last <= last || replies > maxReplies {
			d.wrong("client %#x is out of order or has %d replies", id, replies)
			return
		}
		last = c.last
		r.clients[id] = c
		c.replies = make([]reply, replies)
		for i := range c.replies {
			p := &c.replies[i]
			p.xid, p.sum, p.err = d.u32(), d.u32(), Errno(d.u16())
			p.file, p.gen = FileID(d.u64()), d.u32()
		}
	}
}

// check makes sure that names and files fit each other: every file has the links that it counts,
// and every directory is below the root.
func (t *table) check() error {
	links := make(map[FileID]uint32, len(t.inodes))
	for in := t.first; in != nil; in = in.next {
		if in.typ != Directory {
			continue
		}
		links[in.id] += 2
		if in.id == RootID {
			if in.dir.parent != RootID {
				return fmt.Errorf("the root directory is not its own parent")
			}
		}
		for _, e := range in.dir.entries {
			child := t.inodes[e.file]
			if child == nil || child.id == RootID {
				return fmt.Errorf("directory %d: %q is file %d, which cannot be", in.id, e.name, e.file)
			}
			if child.typ != Directory {
				links[child.id]++
				continue
			}
			if child.dir.parent != in.id {
				return fmt.Errorf("directory %d is in %d, not in its parent %d", child.id, in.id, child.dir.parent)
			}
			links[in.id]++
		}
	}
	if root := t.inodes[RootID]; root == nil || root.typ != Directory {
		return fmt.Errorf("there is no root directory")
	}
	for in := t.first; in != nil; in = in.next {
		if in.nlink != links[in.id] {
			return fmt.Errorf("file %d has %d links, not %d", in.id, links[in.id], in.nlink)
		}
	}
	return t.checkDepth()
}

// checkDepth makes sure that every directory is reached from the root, so that no walk towards
// the root goes in circles.
func (t *table) checkDepth() error {
	reached := map[FileID]bool{RootID: true}
	for todo := []*inode{t.inodes[RootID]}; len(todo) > 0; {
		dir := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, e := range dir.dir.entries {
			if child := t.inodes[e.file]; child.typ == Directory {
				if reached[child.id] {
					return fmt.Errorf("directory %d has two names", child.id)
				}
				reached[child.id] = true
				todo = append(todo, child)
			}
		}
	}
	for in := t.first; in != nil; in = in.next {
		if in.typ == Directory && !reached[in.id] {
			return fmt.Errorf("directory %d has no name", in.id)
		}
	}
	return nil
}
