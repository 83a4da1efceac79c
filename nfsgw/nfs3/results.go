package nfs3

import (
	"github.com/willscott/go-nfs"

	"trinas/nfsgw/rpc"
)

// Every type of results has Append, which the server uses, and Decode, its reverse. A result
// whose Status is not NFSStatusOk carries only what RFC 1813 gives it then.

func decodeStatus(d *rpc.Decoder) nfs.NFSStatus { return nfs.NFSStatus(d.Uint32()) }

func appendStatus(b []byte, s nfs.NFSStatus) []byte { return rpc.AppendUint32(b, uint32(s)) }

// GetAttrRes are GETATTR's results (RFC 1813 §3.3.1).
type GetAttrRes struct {
	Status nfs.NFSStatus
	Attr   Attr
}

func (r *GetAttrRes) Append(b []byte) []byte {
	b = appendStatus(b, r.Status)
	if r.Status == nfs.NFSStatusOk {
		b = r.Attr.append(b)
	}
	return b
}

func (r *GetAttrRes) Decode(b []byte) error {
	d := rpc.NewDecoder(b)
	if r.Status = decodeStatus(&d); r.Status == nfs.NFSStatusOk {
		r.Attr.decode(&d)
	}
	return d.End()
}

// WccRes are the results of SETATTR, REMOVE and RMDIR (RFC 1813 §3.3.2, §3.3.12, §3.3.13).
type WccRes struct {
	Status nfs.NFSStatus
	Wcc    Wcc
}

func (r *WccRes) Append(b []byte) []byte { return r.Wcc.append(appendStatus(b, r.Status)) }

func (r *WccRes) Decode(b []byte) error {
	d := rpc.NewDecoder(b)
	r.Status = decodeStatus(&d)
	r.Wcc.decode(&d)
	return d.End()
}

// LookupRes are LOOKUP's results (RFC 1813 §3.3.3).
type LookupRes struct {
	Status   nfs.NFSStatus
	FH       []byte
	Obj, Dir PostOp
}

func (r *LookupRes) Append(b []byte) []byte {
	b = appendStatus(b, r.Status)
	if r.Status == nfs.NFSStatusOk {
		b = r.Obj.append(rpc.AppendOpaque(b, r.FH))
	}
	return r.Dir.append(b)
}

func (r *LookupRes) Decode(b []byte) error {
	d := rpc.NewDecoder(b)
	if r.Status = decodeStatus(&d); r.Status == nfs.NFSStatusOk {
		r.FH = decodeFH(&d)
		r.Obj.decode(&d)
	}
	r.Dir.decode(&d)
	return d.End()
}

// AccessRes are ACCESS's results (RFC 1813 §3.3.4).
type AccessRes struct {
	Status nfs.NFSStatus
	Obj    PostOp
	Access uint32
}

func (r *AccessRes) Append(b []byte) []byte {
	b = r.Obj.append(appendStatus(b, r.Status))
	if r.Status == nfs.NFSStatusOk {
		b = rpc.AppendUint32(b, r.Access)
	}
	return b
}

func (r *AccessRes) Decode(b []byte) error {
	d := rpc.NewDecoder(b)
	r.Status = decodeStatus(&d)
	if r.Obj.decode(&d); r.Status == nfs.NFSStatusOk {
		r.Access = d.Uint32()
	}
	return d.End()
}

// ReadLinkRes are READLINK's results (RFC 1813 §3.3.5).
type ReadLinkRes struct {
	Status nfs.NFSStatus
	Obj    PostOp
	Target []byte
}

func (r *ReadLinkRes) Append(b []byte) []byte {
	b = r.Obj.append(appendStatus(b, r.Status))
	if r.Status == nfs.NFSStatusOk {
		b = rpc.AppendOpaque(b, r.Target)
	}
	return b
}

func (r *ReadLinkRes) Decode(b []byte) error {
	d := rpc.NewDecoder(b)
	r.Status = decodeStatus(&d)
	if r.Obj.decode(&d); r.Status == nfs.NFSStatusOk {
		r.Target = d.Opaque(MaxPathBytes)
	}
	return d.End()
}

// ReadDataOffset is where the data of a successful READ stands in its results when they carry
// attributes: a server reads straight to there (AppendHead, then the data and its padding).
//
//	| status 4 | true 4 | attributes 84 | count 4 | eof 4 | length 4 | data | padding |
const ReadDataOffset = 4 + postOpBytes + 12

// ReadRes are READ's results (RFC 1813 §3.3.6). The count on the wire is Data's length.
type ReadRes struct {
	Status nfs.NFSStatus
	Obj    PostOp
	EOF    bool
	Data   []byte
}

// AppendHead appends everything before the data; count is the data's length.
func (r *ReadRes) AppendHead(b []byte, count int) []byte {
	b = r.Obj.append(appendStatus(b, r.Status))
	if r.Status == nfs.NFSStatusOk {
		b = rpc.AppendUint32(b, uint32(count))
		b = rpc.AppendBool(b, r.EOF)
		b = rpc.AppendUint32(b, uint32(count))
	}
	return b
}

func (r *ReadRes) Append(b []byte) []byte {
	b = r.AppendHead(b, len(r.Data))
	if r.Status == nfs.NFSStatusOk {
		b = rpc.AppendFixed(b, r.Data)
	}
	return b
}

func (r *ReadRes) Decode(b []byte) error {
	d := rpc.NewDecoder(b)
	r.Status = decodeStatus(&d)
	if r.Obj.decode(&d); r.Status == nfs.NFSStatusOk {
		count := d.Uint32()
		r.EOF = d.Bool()
		r.Data = d.Opaque(len(b))
		if uint64(count) != uint64(len(r.Data)) {
			d.Fail()
		}
	}
	return d.End()
}

// WriteRes are WRITE's results (RFC 1813 §3.3.7).
type WriteRes struct {
	Status    nfs.NFSStatus
	Wcc       Wcc
	Count     uint32
	Committed Stable
	Verifier  uint64
}

func (r *WriteRes) Append(b []byte) []byte {
	b = r.Wcc.append(appendStatus(b, r.Status))
	if r.Status == nfs.NFSStatusOk {
		b = rpc.AppendUint32(b, r.Count)
		b = rpc.AppendUint32(b, uint32(r.Committed))
		b = rpc.AppendUint64(b, r.Verifier)
	}
	return b
}

func (r *WriteRes) Decode(b []byte) error {
	d := rpc.NewDecoder(b)
	r.Status = decodeStatus(&d)
	if r.Wcc.decode(&d); r.Status == nfs.NFSStatusOk {
		r.Count, r.Committed, r.Verifier = d.Uint32(), Stable(d.Uint32()), d.Uint64()
		if r.Committed > FileSync {
			d.Fail()
		}
	}
	return d.End()
}

// CreateRes are the results of CREATE, MKDIR, SYMLINK and MKNOD (RFC 1813 §3.3.8 to §3.3.11). FH
// nil: the server does not tell the handle.
type CreateRes struct {
	Status nfs.NFSStatus
	FH     []byte
	Obj    PostOp
	Dir    Wcc
}

func (r *CreateRes) Append(b []byte) []byte {
	b = appendStatus(b, r.Status)
	if r.Status == nfs.NFSStatusOk {
		b = rpc.AppendBool(b, r.FH != nil)
		if r.FH != nil {
			b = rpc.AppendOpaque(b, r.FH)
		}
		b = r.Obj.append(b)
	}
	return r.Dir.append(b)
}

func (r *CreateRes) Decode(b []byte) error {
	d := rpc.NewDecoder(b)
	r.FH = nil
	if r.Status = decodeStatus(&d); r.Status == nfs.NFSStatusOk {
		if d.Bool() {
			r.FH = decodeFH(&d)
		}
		r.Obj.decode(&d)
	}
	r.Dir.decode(&d)
	return d.End()
}

// RenameRes are RENAME's results (RFC 1813 §3.3.14).
type RenameRes struct {
	Status   nfs.NFSStatus
	From, To Wcc
}

func (r *RenameRes) Append(b []byte) []byte {
	return r.To.append(r.From.append(appendStatus(b, r.Status)))
}

func (r *RenameRes) Decode(b []byte) error {
	d := rpc.NewDecoder(b)
	r.Status = decodeStatus(&d)
	r.From.decode(&d)
	r.To.decode(&d)
	return d.End()
}

// LinkRes are LINK's results (RFC 1813 §3.3.15).
type LinkRes struct {
	Status nfs.NFSStatus
	Obj    PostOp
	Dir    Wcc
}

func (r *LinkRes) Append(b []byte) []byte {
	return r.Dir.append(r.Obj.append(appendStatus(b, r.Status)))
}

func (r *LinkRes) Decode(b []byte) error {
	d := rpc.NewDecoder(b)
	r.Status = decodeStatus(&d)
	r.Obj.decode(&d)
	r.Dir.decode(&d)
	return d.End()
}

// FSStatRes are FSSTAT's results (RFC 1813 §3.3.18): bytes and files in all, free, and available
// to the caller, and for how many seconds that is not expected to change.
type FSStatRes struct {
	Status                            nfs.NFSStatus
	Obj                               PostOp
	TotalBytes, FreeBytes, AvailBytes uint64
	TotalFiles, FreeFiles, AvailFiles uint64
	InvarSec                          uint32
}

func (r *FSStatRes) Append(b []byte) []byte {
	b = r.Obj.append(appendStatus(b, r.Status))
	if r.Status == nfs.NFSStatusOk {
		for _, v := range [...]uint64{r.TotalBytes, r.FreeBytes, r.AvailBytes,
			r.TotalFiles, r.FreeFiles, r.AvailFiles} {
			b = rpc.AppendUint64(b, v)
		}
		b = rpc.AppendUint32(b, r.InvarSec)
	}
	return b
}

func (r *FSStatRes) Decode(b []byte) error {
	d := rpc.NewDecoder(b)
	r.Status = decodeStatus(&d)
	if r.Obj.decode(&d); r.Status == nfs.NFSStatusOk {
		for _, v := range [...]*uint64{&r.TotalBytes, &r.FreeBytes, &r.AvailBytes,
			&r.TotalFiles, &r.FreeFiles, &r.AvailFiles} {
			*v = d.Uint64()
		}
		r.InvarSec = d.Uint32()
	}
	return d.End()
}

// Properties of a file system (RFC 1813 §3.3.19).
const (
	FSFLink        = 0x01
	FSFSymlink     = 0x02
	FSFHomogeneous = 0x08
	FSFCanSetTime  = 0x10
)

// FSInfoRes are FSINFO's results (RFC 1813 §3.3.19); sizes in bytes.
type FSInfoRes struct {
	Status                nfs.NFSStatus
	Obj                   PostOp
	RtMax, RtPref, RtMult uint32
	WtMax, WtPref, WtMult uint32
	DtPref                uint32
	MaxFileBytes          uint64
	TimeDelta             Time
	Properties            uint32
}

func (r *FSInfoRes) words() [7]*uint32 {
	return [7]*uint32{&r.RtMax, &r.RtPref, &r.RtMult, &r.WtMax, &r.WtPref, &r.WtMult, &r.DtPref}
}

func (r *FSInfoRes) Append(b []byte) []byte {
	b = r.Obj.append(appendStatus(b, r.Status))
	if r.Status == nfs.NFSStatusOk {
		for _, v := range r.words() {
			b = rpc.AppendUint32(b, *v)
		}
		b = r.TimeDelta.append(rpc.AppendUint64(b, r.MaxFileBytes))
		b = rpc.AppendUint32(b, r.Properties)
	}
	return b
}

func (r *FSInfoRes) Decode(b []byte) error {
	d := rpc.NewDecoder(b)
	r.Status = decodeStatus(&d)
	if r.Obj.decode(&d); r.Status == nfs.NFSStatusOk {
		for _, v := range r.words() {
			*v = d.Uint32()
		}
		r.MaxFileBytes, r.TimeDelta, r.Properties = d.Uint64(), decodeTime(&d), d.Uint32()
	}
	return d.End()
}

// PathConfRes are PATHCONF's results (RFC 1813 §3.3.20).
type PathConfRes struct {
	Status                          nfs.NFSStatus
	Obj                             PostOp
	LinkMax, NameMax                uint32
	NoTrunc, ChownRestricted        bool
	CaseInsensitive, CasePreserving bool
}

func (r *PathConfRes) Append(b []byte) []byte {
	b = r.Obj.append(appendStatus(b, r.Status))
	if r.Status == nfs.NFSStatusOk {
		b = rpc.AppendUint32(rpc.AppendUint32(b, r.LinkMax), r.NameMax)
		for _, v := range [...]bool{r.NoTrunc, r.ChownRestricted, r.CaseInsensitive, r.CasePreserving} {
			b = rpc.AppendBool(b, v)
		}
	}
	return b
}

func (r *PathConfRes) Decode(b []byte) error {
	d := rpc.NewDecoder(b)
	r.Status = decodeStatus(&d)
	if r.Obj.decode(&d); r.Status == nfs.NFSStatusOk {
		r.LinkMax, r.NameMax = d.Uint32(), d.Uint32()
		r.NoTrunc, r.ChownRestricted = d.Bool(), d.Bool()
		r.CaseInsensitive, r.CasePreserving = d.Bool(), d.Bool()
	}
	return d.End()
}

// CommitRes are COMMIT's results (RFC 1813 §3.3.21).
type CommitRes struct {
	Status   nfs.NFSStatus
	Wcc      Wcc
	Verifier uint64
}

func (r *CommitRes) Append(b []byte) []byte {
	b = r.Wcc.append(appendStatus(b, r.Status))
	if r.Status == nfs.NFSStatusOk {
		b = rpc.AppendUint64(b, r.Verifier)
	}
	return b
}

func (r *CommitRes) Decode(b []byte) error {
	d := rpc.NewDecoder(b)
	r.Status = decodeStatus(&d)
	if r.Wcc.decode(&d); r.Status == nfs.NFSStatusOk {
		r.Verifier = d.Uint64()
	}
	return d.End()
}
