package nfs3

import (
	"github.com/willscott/go-nfs"

	"trinas/nfsgw/rpc"
)

// Program and version of NFS (RFC 1813 §3).
const (
	Program = 100003
	Version = 3
)

// Limits on what is decoded. Longer names are decoded, so that they are answered with
// NFS3ERR_NAMETOOLONG and not as garbage.
const (
	MaxHandleBytes = 64      // RFC 1813 §2.4, NFS3_FHSIZE
	MaxNameBytes   = 4096    // of one name on the wire
	MaxPathBytes   = 4096    // of a symbolic link's target on the wire
	MaxIOBytes     = 1 << 20 // of one READ or WRITE
	VerifierBytes  = 8       // cookie, create and write verifiers
	attrBytes      = 84      // fattr3
	postOpBytes    = 4 + attrBytes
)

// Time is nfstime3 (RFC 1813 §2.5).
type Time struct{ Sec, Nsec uint32 }

// TimeOf converts nanoseconds since 1970. The protocol ends in 2106; what it cannot say becomes
// the nearest it can.
func TimeOf(ns int64) Time {
	switch sec := ns / 1e9; {
	case ns < 0:
		return Time{}
	case sec > 1<<32-1:
		return Time{1<<32 - 1, 999_999_999}
	default:
		return Time{uint32(sec), uint32(ns % 1e9)}
	}
}

// Nanoseconds since 1970.
func (t Time) Nanoseconds() int64 { return int64(t.Sec)*1e9 + int64(t.Nsec) }

func (t Time) append(b []byte) []byte {
	return rpc.AppendUint32(rpc.AppendUint32(b, t.Sec), t.Nsec)
}

func decodeTime(d *rpc.Decoder) Time { return Time{d.Uint32(), d.Uint32()} }

// Attr is fattr3 (RFC 1813 §2.5):
//
//	| type 4 | mode 4 | nlink 4 | uid 4 | gid 4 | size 8 | used 8 | rdev 4+4 | fsid 8 | fileid 8 |
//	| atime 4+4 | mtime 4+4 | ctime 4+4 |
type Attr struct {
	Type                  nfs.FileType
	Mode, Nlink, UID, GID uint32
	Size, Used            uint64
	Rdev                  [2]uint32 // major, minor
	FSID, FileID          uint64
	Atime, Mtime, Ctime   Time
}

func (a *Attr) append(b []byte) []byte {
	b = rpc.AppendUint32(b, uint32(a.Type))
	b = rpc.AppendUint32(b, a.Mode)
	b = rpc.AppendUint32(b, a.Nlink)
	b = rpc.AppendUint32(b, a.UID)
	b = rpc.AppendUint32(b, a.GID)
	b = rpc.AppendUint64(b, a.Size)
	b = rpc.AppendUint64(b, a.Used)
	b = rpc.AppendUint32(b, a.Rdev[0])
	b = rpc.AppendUint32(b, a.Rdev[1])
	b = rpc.AppendUint64(b, a.FSID)
	b = rpc.AppendUint64(b, a.FileID)
	return a.Ctime.append(a.Mtime.append(a.Atime.append(b)))
}

func (a *Attr) decode(d *rpc.Decoder) {
	a.Type = nfs.FileType(d.Uint32())
	a.Mode, a.Nlink, a.UID, a.GID = d.Uint32(), d.Uint32(), d.Uint32(), d.Uint32()
	a.Size, a.Used = d.Uint64(), d.Uint64()
	a.Rdev = [2]uint32{d.Uint32(), d.Uint32()}
	a.FSID, a.FileID = d.Uint64(), d.Uint64()
	a.Atime, a.Mtime, a.Ctime = decodeTime(d), decodeTime(d), decodeTime(d)
}

// PostOp is post_op_attr (RFC 1813 §2.6): attributes after an operation, if there are any.
type PostOp struct {
	Present bool
	Attr    Attr
}

func (p *PostOp) append(b []byte) []byte {
	b = rpc.AppendBool(b, p.Present)
	if p.Present {
		b = p.Attr.append(b)
	}
	return b
}

func (p *PostOp) decode(d *rpc.Decoder) {
	if p.Present = d.Bool(); p.Present {
		p.Attr.decode(d)
	}
}

// Wcc is wcc_data (RFC 1813 §2.6): what a file was before an operation, if that is known, and what
// it is after it.
type Wcc struct {
	HasBefore    bool
	Size         uint64 // before, as are the times
	Mtime, Ctime Time
	After        PostOp
}

func (w *Wcc) append(b []byte) []byte {
	b = rpc.AppendBool(b, w.HasBefore)
	if w.HasBefore {
		b = w.Ctime.append(w.Mtime.append(rpc.AppendUint64(b, w.Size)))
	}
	return w.After.append(b)
}

func (w *Wcc) decode(d *rpc.Decoder) {
	if w.HasBefore = d.Bool(); w.HasBefore {
		w.Size, w.Mtime, w.Ctime = d.Uint64(), decodeTime(d), decodeTime(d)
	}
	w.After.decode(d)
}

// TimeHow is time_how (RFC 1813 §2.5).
type TimeHow uint32

const (
	TimeKeep   TimeHow = 0
	TimeServer TimeHow = 1
	TimeClient TimeHow = 2
)

// SetAttrs is sattr3 (RFC 1813 §2.5); nil and TimeKeep leave an attribute alone.
type SetAttrs struct {
	Mode, UID, GID     *uint32
	Size               *uint64
	AtimeHow, MtimeHow TimeHow
	Atime, Mtime       Time
}

func (s *SetAttrs) append(b []byte) []byte {
	for _, v := range [...]*uint32{s.Mode, s.UID, s.GID} {
		b = rpc.AppendBool(b, v != nil)
		if v != nil {
			b = rpc.AppendUint32(b, *v)
		}
	}
	b = rpc.AppendBool(b, s.Size != nil)
	if s.Size != nil {
		b = rpc.AppendUint64(b, *s.Size)
	}
	b = rpc.AppendUint32(b, uint32(s.AtimeHow))
	if s.AtimeHow == TimeClient {
		b = s.Atime.append(b)
	}
	b = rpc.AppendUint32(b, uint32(s.MtimeHow))
	if s.MtimeHow == TimeClient {
		b = s.Mtime.append(b)
	}
	return b
}

func (s *SetAttrs) decode(d *rpc.Decoder) {
	*s = SetAttrs{}
	for _, v := range [...]**uint32{&s.Mode, &s.UID, &s.GID} {
		if d.Bool() {
			*v = new(d.Uint32())
		}
	}
	if d.Bool() {
		s.Size = new(d.Uint64())
	}
	s.AtimeHow, s.Atime = decodeTimeHow(d)
	s.MtimeHow, s.Mtime = decodeTimeHow(d)
}

func decodeTimeHow(d *rpc.Decoder) (how TimeHow, t Time) {
	switch how = TimeHow(d.Uint32()); how {
	case TimeKeep, TimeServer:
	case TimeClient:
		t = decodeTime(d)
	default:
		d.Fail()
	}
	return how, t
}
