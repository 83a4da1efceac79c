package volume

import "fmt"

const (
	resultVersion  = 1
	changeBytes    = 24
	attrBytes      = 76
	minEntryBytes  = 8 + 2 + attrBytes
	maxResultNames = maxDirEntries
)

// Bits of a result's flags byte, all in use.
const (
	flagEOF        = 1 << 0
	flagObj        = 1 << 1
	flagObjBefore  = 1 << 2
	flagDir        = 1 << 3
	flagDirBefore  = 1 << 4
	flagDir2       = 1 << 5
	flagDir2Before = 1 << 6
	flagSpace      = 1 << 7
)

// Encode appends the result to buf and returns the whole. A Change that is not Known keeps
// nothing. Little endian:
//
//	 0       1       2       4               8               12                      20
//	+-------+-------+-------+---------------+---------------+-----------------------+
//	|version| flags |  err  |    access     |     count     |       verifier        |
//	+-------+-------+-------+---------------+---------------+-----------------------+
//	| obj, dir, dir2, each if its flag is set: [size 8, mtime 8, ctime 8,] attr 76   |
//	+--------------------------------------------------------------------------------+
//	| space, if its flag is set: total 8, free 8, files 8                            |
//	+--------------------------------------------------------------------------------+
//	| entries 4, each: cookie 8, name (16-bit length and bytes), attr 76             |
//	+--------------------------------------------------------------------------------+
//	| length 4, data                                                                 |
//	+--------------------------------------------------------------------------------+
//
// attr: file 8, gen 4, type 1, 0 1, mode 2, nlink 4, uid 4, gid 4, size 8, used 8, major 4,
// minor 4, atime 8, mtime 8, ctime 8. An entry whose Attr.File is 0 has no attributes.
func (r *Result) Encode(buf []byte) []byte {
	var flags uint8
	set := func(on bool, bit uint8) {
		if on {
			flags |= bit
		}
	}
	set(r.EOF, flagEOF)
	set(r.Obj.Known, flagObj)
	set(r.Obj.Known && r.Obj.HasBefore, flagObjBefore)
	set(r.Dir.Known, flagDir)
	set(r.Dir.Known && r.Dir.HasBefore, flagDirBefore)
	set(r.Dir2.Known, flagDir2)
	set(r.Dir2.Known && r.Dir2.HasBefore, flagDir2Before)
	set(r.Space != Space{}, flagSpace)

	b := append(buf, resultVersion, flags)
	b = appendU16(b, uint16(r.Err))
	b = appendU32(b, r.Access)
	b = appendU32(b, r.Count)
	b = appendU64(b, r.Verifier)
	b = r.Obj.append(b)
	b = r.Dir.append(b)
	b = r.Dir2.append(b)
	if flags&flagSpace != 0 {
		b = appendU64(b, r.Space.TotalBytes)
		b = appendU64(b, r.Space.FreeBytes)
		b = appendU64(b, r.Space.Files)
	}
	b = appendU32(b, uint32(len(r.Entries)))
	for i := range r.Entries {
		b = appendU64(b, r.Entries[i].Cookie)
		b = appendStr16(b, r.Entries[i].Name)
		b = r.Entries[i].Attr.append(b)
	}
	b = appendU32(b, uint32(len(r.Data)))
	return append(b, r.Data...)
}

// MaxResultHeadBytes is the most bytes that stand before Data in an encoded Result without entries.
const MaxResultHeadBytes = 512

// AnswerBytes is the most bytes that the Result of the encoded operation op takes, encoded itself; op
// need not be valid.
func AnswerBytes(op []byte) int {
	if len(op) < opFixedBytes {
		return MaxResultHeadBytes
	}
	d := decoder{b: op, off: opFixedBytes + 4*int(op[offGroups])}
	switch Kind(op[offKind]) {
	case ReadLink:
		return MaxResultHeadBytes + maxName
	case Read:
		d.u64()
		return MaxResultHeadBytes + int(min(d.u32(), MaxIOBytes))
	case ReadDir:
		d.u64()
		d.u32()
		return MaxResultHeadBytes + int(min(d.u32(), MaxIOBytes)) // each entry counts as more than it takes
	}
	return MaxResultHeadBytes
}

// Decode reads what Encode wrote; Data aliases b.
func (r *Result) Decode(b []byte) error {
	*r = Result{}
	d := &decoder{b: b}
	if v := d.u8(); v != resultVersion {
		return fmt.Errorf("result of format %d: this node knows up to %d; upgrade trinas on this node",
			v, resultVersion)
	}
	flags := d.u8()
	r.EOF = flags&flagEOF != 0
	r.Err = Errno(d.u16())
	r.Access, r.Count, r.Verifier = d.u32(), d.u32(), d.u64()
	r.Obj.decode(d, flags&flagObj, flags&flagObjBefore)
	r.Dir.decode(d, flags&flagDir, flags&flagDirBefore)
	r.Dir2.decode(d, flags&flagDir2, flags&flagDir2Before)
	if flags&flagSpace != 0 {
		r.Space = Space{TotalBytes: d.u64(), FreeBytes: d.u64(), Files: d.u64()}
	}
	if n := int(d.u32()); n > 0 {
		if n > maxResultNames || n*minEntryBytes > d.left() {
			return fmt.Errorf("result claims %d directory entries in %d bytes", n, d.left())
		}
		r.Entries = make([]DirEntry, n)
		for i := range r.Entries {
			r.Entries[i].Cookie = d.u64()
			r.Entries[i].Name = d.str16()
			r.Entries[i].Attr.decode(d)
		}
	}
	if n := int(d.u32()); n > 0 {
		r.Data = d.bytes(n)
	}
	return d.done("result")
}

func (c *Change) append(b []byte) []byte {
	if !c.Known {
		return b
	}
	if c.HasBefore {
		b = appendU64(b, c.BeforeSize)
		b = appendU64(b, uint64(c.BeforeMtime))
		b = appendU64(b, uint64(c.BeforeCtime))
	}
	return c.After.append(b)
}

func (c *Change) decode(d *decoder, known, before uint8) {
	if known == 0 {
		return
	}
	c.Known = true
	if before != 0 {
		c.HasBefore = true
		c.BeforeSize, c.BeforeMtime, c.BeforeCtime = d.u64(), d.i64(), d.i64()
	}
	c.After.decode(d)
}

func (a *Attr) append(b []byte) []byte {
	b = appendU64(b, uint64(a.File))
	b = appendU32(b, a.Gen)
	b = append(b, byte(a.Type), 0)
	b = appendU16(b, uint16(a.Mode))
	b = appendU32(b, a.Nlink)
	b = appendU32(b, a.UID)
	b = appendU32(b, a.GID)
	b = appendU64(b, a.SizeBytes)
	b = appendU64(b, a.UsedBytes)
	b = appendU32(b, a.Rdev[0])
	b = appendU32(b, a.Rdev[1])
	b = appendU64(b, uint64(a.Atime))
	b = appendU64(b, uint64(a.Mtime))
	return appendU64(b, uint64(a.Ctime))
}

func (a *Attr) decode(d *decoder) {
	a.File, a.Gen = FileID(d.u64()), d.u32()
	a.Type = FileType(d.u8())
	d.u8()
	a.Mode = uint32(d.u16())
	a.Nlink, a.UID, a.GID = d.u32(), d.u32(), d.u32()
	a.SizeBytes, a.UsedBytes = d.u64(), d.u64()
	a.Rdev = [2]uint32{d.u32(), d.u32()}
	a.Atime, a.Mtime, a.Ctime = d.i64(), d.i64(), d.i64()
}
