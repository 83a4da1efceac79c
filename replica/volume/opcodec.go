package volume

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// opVersion is the version of an encoded Op. A node that meets a newer one stops at that entry
// and says so; fields are only ever added with a new version.
const opVersion = 1

// Limits of the codec.
const (
	maxGroups = 16   // RFC 5531, appendix A
	maxName   = 4096 // bytes that the codec carries, so that Volume itself can answer ENAMETOOLONG

	opFixedBytes = 56

	// MaxHeaderBytes is the most bytes that stand before the payload of an encoded Write.
	MaxHeaderBytes = opFixedBytes + 4*maxGroups + 12
)

// Bits of the flags byte. Unknown bits are refused.
const (
	flagGuard = 1 << 0
	flagMode  = 1 << 1
	flagUID   = 1 << 2
	flagGID   = 1 << 3
	flagSize  = 1 << 4
)

// Offsets of the fields that are read or stamped in place.
const (
	offKind = 1
	offTime = 8
	offID   = 16

	offGroups = 52
)

// Encode appends the operation to buf and returns the whole; or, for a Write with Room set,
// writes the header into Room before the payload and returns that part of Room, without copying
// the payload. An operation beyond the limits of this package gives an error.
//
// Little endian. The same fixed part stands at the head of every operation:
//
//	 0       1      2       3     4      5       6        8
//	+-------+------+-------+-----+------+-------+--------+---------------------------------+
//	|version| kind |  how  |type |flags |   0   |  node  |              time               |
//	+-------+------+-------+-----+------+-------+--------+---------------------------------+
//	 16                               24               28               32        36
//	+--------------------------------+----------------+----------------+---------+---------+
//	|            client              |      xid       |      sum       |   uid   |   gid   |
//	+--------------------------------+----------------+----------------+---------+---------+
//	 40                               48        52      53         56
//	+--------------------------------+---------+-------+----------+------------------------+
//	|             file               |   gen   |groups | 0  0  0  | groups x 4 bytes       |
//	+--------------------------------+---------+-------+----------+------------------------+
//
// then, by kind ("name": 16-bit length and bytes):
//
//	Access                         count 4
//	Read                           offset 8, count 4
//	ReadDir                        offset 8, count 4, size 4
//	Write                          offset 8, length 4, payload
//	Lookup, Remove, RmDir          name
//	Rename, Link                   file2 8, gen2 4, name, name2
//	SetAttr, Create, MkDir,
//	Symlink, MkNod                 mode 4, uid 4, gid 4, size 8, atime how 1, mtime how 1,
//	                               atime 8, mtime 8, guard 8, verifier 8, rdev 4+4,
//	                               name, target
//	Activate                       nodes 1, 2 each
//	VerifyRange                    offset 8, count 4
//	VerifyTable                    count 4
//	VerifyNote                     length 4, payload
//	Repair                         offset 8, verifier 8, nodes 1, 2 each, length 4, payload
//	GetAttr, ReadLink,
//	FSStat, Commit, Deactivate     nothing
//
// Flags: 1 guard, 2 mode, 4 uid, 8 gid, 16 size: which of those fields count.
func (op *Op) Encode(buf []byte) ([]byte, error) {
	if err := op.validate(); err != nil {
		return nil, err
	}
	if op.Kind == Write {
		if room := op.room(); room != nil {
			op.header(room[:0])
			return room, nil
		}
	}
	return op.append(buf), nil
}

// room gives the part of Room that holds header and payload, or nil when Room cannot be used.
func (op *Op) room() []byte {
	at := len(op.Room) - len(op.Data)
	start := at - (opFixedBytes + 4*len(op.Cred.Groups) + 12)
	if start < 0 || len(op.Data) == 0 || &op.Room[at] != &op.Data[0] {
		return nil
	}
	return op.Room[start:]
}

func (op *Op) validate() error {
	switch {
	case !op.Kind.known():
		return fmt.Errorf("operation: unknown kind %d", op.Kind)
	case op.How > Exclusive || op.Type > FIFO:
		return fmt.Errorf("operation %d: how %d or type %d is out of range", op.Kind, op.How, op.Type)
	case op.Set.AtimeHow > TimeClient || op.Set.MtimeHow > TimeClient:
		return fmt.Errorf("operation %d: time_how is out of range", op.Kind)
	case len(op.Cred.Groups) > maxGroups:
		return fmt.Errorf("operation %d: %d groups, at most %d", op.Kind, len(op.Cred.Groups), maxGroups)
	case len(op.Name) > maxName || len(op.Name2) > maxName || len(op.Target) > maxName:
		return fmt.Errorf("operation %d: a name is longer than %d bytes", op.Kind, maxName)
	case len(op.Nodes) > maxFenceNodes:
		return fmt.Errorf("operation %d: %d nodes, at most %d", op.Kind, len(op.Nodes), maxFenceNodes)
	case len(op.Data) > MaxIOBytes:
		return fmt.Errorf("operation %d: %d bytes of payload, at most %d", op.Kind, len(op.Data), MaxIOBytes)
	}
	return nil
}

func (k Kind) known() bool { return k >= GetAttr && k <= Commit || k >= SetAttr && k <= Repair }

// header appends the fixed part, the groups and, for a Write, everything before the payload.
func (op *Op) header(b []byte) []byte {
	var flags uint8
	set := func(on bool, bit uint8) {
		if on {
			flags |= bit
		}
	}
	set(op.Guard != nil, flagGuard)
	set(op.Set.Mode != nil, flagMode)
	set(op.Set.UID != nil, flagUID)
	set(op.Set.GID != nil, flagGID)
	set(op.Set.Size != nil, flagSize)
	b = append(b, opVersion, byte(op.Kind), byte(op.How), byte(op.Type), flags, 0)
	b = appendU16(b, op.Node)
	b = appendU64(b, uint64(op.Time))
	b = appendU64(b, op.ID.Client)
	b = appendU32(b, op.ID.XID)
	b = appendU32(b, op.ID.Sum)
	b = appendU32(b, op.Cred.UID)
	b = appendU32(b, op.Cred.GID)
	b = appendU64(b, uint64(op.File))
	b = appendU32(b, op.Gen)
	b = append(b, byte(len(op.Cred.Groups)), 0, 0, 0)
	for _, g := range op.Cred.Groups {
		b = appendU32(b, g)
	}
	if op.Kind == Write {
		b = appendU64(b, op.Offset)
		b = appendU32(b, uint32(len(op.Data)))
	}
	return b
}

func (op *Op) append(b []byte) []byte {
	b = op.header(b)
	switch op.Kind {
	case Access:
		b = appendU32(b, op.Count)
	case Read:
		b = appendU64(b, op.Offset)
		b = appendU32(b, op.Count)
	case ReadDir:
		b = appendU64(b, op.Offset)
		b = appendU32(b, op.Count)
		b = appendU32(b, op.Size)
	case Write:
		b = append(b, op.Data...)
	case Lookup, Remove, RmDir:
		b = appendStr16(b, op.Name)
	case Rename, Link:
		b = appendU64(b, uint64(op.File2))
		b = appendU32(b, op.Gen2)
		b = appendStr16(b, op.Name)
		b = appendStr16(b, op.Name2)
	case SetAttr, Create, MkDir, Symlink, MkNod:
		b = appendU32(b, value(op.Set.Mode))
		b = appendU32(b, value(op.Set.UID))
		b = appendU32(b, value(op.Set.GID))
		b = appendU64(b, value(op.Set.Size))
		b = append(b, byte(op.Set.AtimeHow), byte(op.Set.MtimeHow))
		b = appendU64(b, uint64(op.Set.Atime))
		b = appendU64(b, uint64(op.Set.Mtime))
		b = appendU64(b, uint64(value(op.Guard)))
		b = appendU64(b, op.Verifier)
		b = appendU32(b, op.Rdev[0])
		b = appendU32(b, op.Rdev[1])
		b = appendStr16(b, op.Name)
		b = appendStr16(b, op.Target)
	case Activate:
		b = appendNodes(b, op.Nodes)
	case VerifyRange:
		b = appendU32(appendU64(b, op.Offset), op.Count)
	case VerifyTable:
		b = appendU32(b, op.Count)
	case VerifyNote:
		b = append(appendU32(b, uint32(len(op.Data))), op.Data...)
	case Repair:
		b = appendNodes(appendU64(appendU64(b, op.Offset), op.Verifier), op.Nodes)
		b = append(appendU32(b, uint32(len(op.Data))), op.Data...)
	}
	return b
}

// appendNodes appends a list of nodes: its length in a byte, two bytes each.
func appendNodes(b []byte, nodes []uint16) []byte {
	b = append(b, byte(len(nodes)))
	for _, n := range nodes {
		b = appendU16(b, n)
	}
	return b
}

// nodes reads what appendNodes wrote.
func (d *decoder) nodes() (nodes []uint16) {
	for n := d.u8(); n > 0 && !d.short; n-- {
		nodes = append(nodes, d.u16())
	}
	return nodes
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// Decode reads what Encode wrote. Data aliases b; the memory of Cred.Groups is used again. It
// gives an error for anything that Encode does not write, a newer version among it.
func (op *Op) Decode(b []byte) error {
	*op = Op{Cred: Cred{Groups: op.Cred.Groups[:0]}}
	if len(b) < opFixedBytes {
		return fmt.Errorf("operation is cut short: %d bytes", len(b))
	}
	if b[0] != opVersion {
		return fmt.Errorf("operation of format %d: this node knows up to %d; upgrade trinas on this node",
			b[0], opVersion)
	}
	d := &decoder{b: b, off: offKind}
	op.Kind, op.How, op.Type = Kind(d.u8()), How(d.u8()), FileType(d.u8())
	flags, zero := d.u8(), d.u8()
	op.Node = d.u16()
	op.Time = d.i64()
	op.ID = RequestID{Client: d.u64(), XID: d.u32(), Sum: d.u32()}
	op.Cred.UID, op.Cred.GID = d.u32(), d.u32()
	op.File, op.Gen = FileID(d.u64()), d.u32()
	groups := int(d.u8())
	spare := d.bytes(3)
	if flags>>5 != 0 || groups > maxGroups || zero|spare[0]|spare[1]|spare[2] != 0 {
		return fmt.Errorf("operation %d: reserved bits are set or it has %d groups", op.Kind, groups)
	}
	op.Cred.Groups = slices.Grow(op.Cred.Groups, groups)
	for range groups {
		op.Cred.Groups = append(op.Cred.Groups, d.u32())
	}
	op.decodeBody(d, flags)
	if err := d.done("operation"); err != nil {
		return err
	}
	return op.validate()
}

func (op *Op) decodeBody(d *decoder, flags uint8) {
	switch op.Kind {
	case Access:
		op.Count = d.u32()
	case Read:
		op.Offset, op.Count = d.u64(), d.u32()
	case ReadDir:
		op.Offset, op.Count, op.Size = d.u64(), d.u32(), d.u32()
	case Write:
		op.Offset = d.u64()
		op.Data = d.bytes(int(d.u32()))
	case Lookup, Remove, RmDir:
		op.Name = d.str16()
	case Rename, Link:
		op.File2, op.Gen2 = FileID(d.u64()), d.u32()
		op.Name, op.Name2 = d.str16(), d.str16()
	case SetAttr, Create, MkDir, Symlink, MkNod:
		mode, uid, gid, size := d.u32(), d.u32(), d.u32(), d.u64()
		op.Set.Mode = present(flags&flagMode, mode)
		op.Set.UID = present(flags&flagUID, uid)
		op.Set.GID = present(flags&flagGID, gid)
		op.Set.Size = present(flags&flagSize, size)
		op.Set.AtimeHow, op.Set.MtimeHow = TimeHow(d.u8()), TimeHow(d.u8())
		op.Set.Atime, op.Set.Mtime = d.i64(), d.i64()
		op.Guard = present(flags&flagGuard, d.i64())
		op.Verifier = d.u64()
		op.Rdev = [2]uint32{d.u32(), d.u32()}
		op.Name, op.Target = d.str16(), d.str16()
	case Activate:
		op.Nodes = d.nodes()
	case VerifyRange:
		op.Offset, op.Count = d.u64(), d.u32()
	case VerifyTable:
		op.Count = d.u32()
	case VerifyNote:
		op.Data = d.bytes(int(d.u32()))
	case Repair:
		op.Offset, op.Verifier = d.u64(), d.u64()
		op.Nodes = d.nodes()
		op.Data = d.bytes(int(d.u32()))
	}
}

func present[T any](flag uint8, v T) *T {
	if flag == 0 {
		return nil
	}
	return &v
}

// StampTime sets Time in an encoded operation, in place. The primary does so as it proposes.
func StampTime(encoded []byte, ns int64) {
	if len(encoded) >= opFixedBytes {
		binary.LittleEndian.PutUint64(encoded[offTime:], uint64(ns))
	}
}

// PeekKind gives the kind of an encoded operation, 0 when it is none.
func PeekKind(encoded []byte) Kind {
	if len(encoded) < opFixedBytes {
		return 0
	}
	return Kind(encoded[offKind])
}

// PeekID gives the request id of an encoded operation, zero when it has none.
func PeekID(encoded []byte) (id RequestID) {
	if len(encoded) >= opFixedBytes {
		id.Client = binary.LittleEndian.Uint64(encoded[offID:])
		id.XID = binary.LittleEndian.Uint32(encoded[offID+8:])
		id.Sum = binary.LittleEndian.Uint32(encoded[offID+12:])
	}
	return id
}
