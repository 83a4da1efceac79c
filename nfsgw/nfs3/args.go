package nfs3

import (
	"github.com/willscott/go-nfs"

	"trinas/nfsgw/rpc"
)

// Every type of arguments has Decode, which takes exactly one call's arguments and reports
// rpc.ErrXDR for anything else, and Append, its reverse. FH fields are file handles as they came,
// at most MaxHandleBytes, for ParseHandle; they and Data alias what was decoded.

func decodeFH(d *rpc.Decoder) []byte { return d.Opaque(MaxHandleBytes) }

// HandleArgs are the arguments of GETATTR, READLINK, FSSTAT, FSINFO and PATHCONF (RFC 1813
// §3.3.1, §3.3.5, §3.3.18 to §3.3.20).
type HandleArgs struct{ FH []byte }

func (a *HandleArgs) Decode(b []byte) error {
	d := rpc.NewDecoder(b)
	a.FH = decodeFH(&d)
	return d.End()
}

func (a *HandleArgs) Append(b []byte) []byte { return rpc.AppendOpaque(b, a.FH) }

// NameArgs are the arguments of LOOKUP, REMOVE and RMDIR: a directory and a name in it (RFC 1813
// §3.3.3, §3.3.12, §3.3.13).
type NameArgs struct {
	FH   []byte
	Name string
}

func (a *NameArgs) Decode(b []byte) error {
	d := rpc.NewDecoder(b)
	a.decode(&d)
	return d.End()
}

func (a *NameArgs) decode(d *rpc.Decoder) {
	a.FH, a.Name = decodeFH(d), d.String(MaxNameBytes)
}

func (a *NameArgs) Append(b []byte) []byte {
	return rpc.AppendOpaque(rpc.AppendOpaque(b, a.FH), a.Name)
}

// SetAttrArgs are SETATTR's (RFC 1813 §3.3.2). Guard, when set, is the ctime the file must have.
type SetAttrArgs struct {
	FH    []byte
	Set   SetAttrs
	Guard *Time
}

func (a *SetAttrArgs) Decode(b []byte) error {
	d := rpc.NewDecoder(b)
	a.FH = decodeFH(&d)
	a.Set.decode(&d)
	a.Guard = nil
	if d.Bool() {
		a.Guard = new(decodeTime(&d))
	}
	return d.End()
}

func (a *SetAttrArgs) Append(b []byte) []byte {
	b = a.Set.append(rpc.AppendOpaque(b, a.FH))
	b = rpc.AppendBool(b, a.Guard != nil)
	if a.Guard != nil {
		b = a.Guard.append(b)
	}
	return b
}

// AccessArgs are ACCESS's (RFC 1813 §3.3.4).
type AccessArgs struct {
	FH     []byte
	Access uint32
}

func (a *AccessArgs) Decode(b []byte) error {
	d := rpc.NewDecoder(b)
	a.FH, a.Access = decodeFH(&d), d.Uint32()
	return d.End()
}

func (a *AccessArgs) Append(b []byte) []byte {
	return rpc.AppendUint32(rpc.AppendOpaque(b, a.FH), a.Access)
}

// ReadArgs are READ's (RFC 1813 §3.3.6); COMMIT's have the same form (§3.3.21).
type ReadArgs struct {
	FH     []byte
	Offset uint64
	Count  uint32
}

func (a *ReadArgs) Decode(b []byte) error {
	d := rpc.NewDecoder(b)
	a.FH, a.Offset, a.Count = decodeFH(&d), d.Uint64(), d.Uint32()
	return d.End()
}

func (a *ReadArgs) Append(b []byte) []byte {
	b = rpc.AppendUint64(rpc.AppendOpaque(b, a.FH), a.Offset)
	return rpc.AppendUint32(b, a.Count)
}

// Stable is stable_how (RFC 1813 §3.3.7).
type Stable uint32

const (
	Unstable Stable = 0
	DataSync Stable = 1
	FileSync Stable = 2
)

// WriteArgs are WRITE's (RFC 1813 §3.3.7). The count that stands beside the data must be its
// length.
type WriteArgs struct {
	FH     []byte
	Offset uint64
	Stable Stable
	Data   []byte
}

func (a *WriteArgs) Decode(b []byte) error {
	d := rpc.NewDecoder(b)
	a.FH, a.Offset = decodeFH(&d), d.Uint64()
	count := d.Uint32()
	a.Stable = Stable(d.Uint32())
	a.Data = d.Opaque(len(b))
	if a.Stable > FileSync || uint64(count) != uint64(len(a.Data)) {
		d.Fail()
	}
	return d.End()
}

func (a *WriteArgs) Append(b []byte) []byte {
	b = rpc.AppendUint64(rpc.AppendOpaque(b, a.FH), a.Offset)
	b = rpc.AppendUint32(b, uint32(len(a.Data)))
	b = rpc.AppendUint32(b, uint32(a.Stable))
	return rpc.AppendOpaque(b, a.Data)
}

// CreateHow is createmode3 (RFC 1813 §3.3.8).
type CreateHow uint32

const (
	Unchecked CreateHow = 0
	Guarded   CreateHow = 1
	Exclusive CreateHow = 2
)

// CreateArgs are CREATE's (RFC 1813 §3.3.8). Verifier counts when How is Exclusive, else Set.
type CreateArgs struct {
	NameArgs
	How      CreateHow
	Set      SetAttrs
	Verifier uint64
}

func (a *CreateArgs) Decode(b []byte) error {
	d := rpc.NewDecoder(b)
	a.NameArgs.decode(&d)
	a.How, a.Set, a.Verifier = CreateHow(d.Uint32()), SetAttrs{}, 0
	switch a.How {
	case Unchecked, Guarded:
		a.Set.decode(&d)
	case Exclusive:
		a.Verifier = d.Uint64()
	default:
		d.Fail()
	}
	return d.End()
}

func (a *CreateArgs) Append(b []byte) []byte {
	b = rpc.AppendUint32(a.NameArgs.Append(b), uint32(a.How))
	if a.How == Exclusive {
		return rpc.AppendUint64(b, a.Verifier)
	}
	return a.Set.append(b)
}

// MkDirArgs are MKDIR's (RFC 1813 §3.3.9).
type MkDirArgs struct {
	NameArgs
	Set SetAttrs
}

func (a *MkDirArgs) Decode(b []byte) error {
	d := rpc.NewDecoder(b)
	a.NameArgs.decode(&d)
	a.Set.decode(&d)
	return d.End()
}

func (a *MkDirArgs) Append(b []byte) []byte { return a.Set.append(a.NameArgs.Append(b)) }

// SymlinkArgs are SYMLINK's (RFC 1813 §3.3.10).
type SymlinkArgs struct {
	NameArgs
	Set    SetAttrs
	Target string
}

func (a *SymlinkArgs) Decode(b []byte) error {
	d := rpc.NewDecoder(b)
	a.NameArgs.decode(&d)
	a.Set.decode(&d)
	a.Target = d.String(MaxPathBytes)
	return d.End()
}

func (a *SymlinkArgs) Append(b []byte) []byte {
	return rpc.AppendOpaque(a.Set.append(a.NameArgs.Append(b)), a.Target)
}

// MkNodArgs are MKNOD's (RFC 1813 §3.3.11). Set counts for devices, sockets and FIFOs, Rdev for
// devices; other types decode with neither, for NFS3ERR_BADTYPE.
type MkNodArgs struct {
	NameArgs
	Type nfs.FileType
	Set  SetAttrs
	Rdev [2]uint32
}

func (a *MkNodArgs) Decode(b []byte) error {
	d := rpc.NewDecoder(b)
	a.NameArgs.decode(&d)
	a.Type, a.Set, a.Rdev = nfs.FileType(d.Uint32()), SetAttrs{}, [2]uint32{}
	switch a.Type {
	case nfs.FileTypeBlock, nfs.FileTypeCharacter:
		a.Set.decode(&d)
		a.Rdev = [2]uint32{d.Uint32(), d.Uint32()}
	case nfs.FileTypeSocket, nfs.FileTypeFIFO:
		a.Set.decode(&d)
	}
	return d.End()
}

func (a *MkNodArgs) Append(b []byte) []byte {
	b = rpc.AppendUint32(a.NameArgs.Append(b), uint32(a.Type))
	switch a.Type {
	case nfs.FileTypeBlock, nfs.FileTypeCharacter:
		b = a.Set.append(b)
		return rpc.AppendUint32(rpc.AppendUint32(b, a.Rdev[0]), a.Rdev[1])
	case nfs.FileTypeSocket, nfs.FileTypeFIFO:
		return a.Set.append(b)
	}
	return b
}

// RenameArgs are RENAME's (RFC 1813 §3.3.14).
type RenameArgs struct{ From, To NameArgs }

func (a *RenameArgs) Decode(b []byte) error {
	d := rpc.NewDecoder(b)
	a.From.decode(&d)
	a.To.decode(&d)
	return d.End()
}

func (a *RenameArgs) Append(b []byte) []byte { return a.To.Append(a.From.Append(b)) }

// LinkArgs are LINK's (RFC 1813 §3.3.15): the file, and the name it gets.
type LinkArgs struct {
	FH []byte
	To NameArgs
}

func (a *LinkArgs) Decode(b []byte) error {
	d := rpc.NewDecoder(b)
	a.FH = decodeFH(&d)
	a.To.decode(&d)
	return d.End()
}

func (a *LinkArgs) Append(b []byte) []byte { return a.To.Append(rpc.AppendOpaque(b, a.FH)) }

// ReadDirArgs are READDIR's (RFC 1813 §3.3.16). Count bounds the bytes of the results after the
// status.
type ReadDirArgs struct {
	FH               []byte
	Cookie, Verifier uint64
	Count            uint32
}

func (a *ReadDirArgs) Decode(b []byte) error {
	d := rpc.NewDecoder(b)
	a.FH, a.Cookie, a.Verifier, a.Count = decodeFH(&d), d.Uint64(), d.Uint64(), d.Uint32()
	return d.End()
}

func (a *ReadDirArgs) Append(b []byte) []byte {
	b = rpc.AppendUint64(rpc.AppendOpaque(b, a.FH), a.Cookie)
	return rpc.AppendUint32(rpc.AppendUint64(b, a.Verifier), a.Count)
}

// ReadDirPlusArgs are READDIRPLUS's (RFC 1813 §3.3.17). DirCount bounds the bytes of file ids,
// names and cookies, MaxCount those of the results after the status.
type ReadDirPlusArgs struct {
	FH                 []byte
	Cookie, Verifier   uint64
	DirCount, MaxCount uint32
}

func (a *ReadDirPlusArgs) Decode(b []byte) error {
	d := rpc.NewDecoder(b)
	a.FH, a.Cookie, a.Verifier = decodeFH(&d), d.Uint64(), d.Uint64()
	a.DirCount, a.MaxCount = d.Uint32(), d.Uint32()
	return d.End()
}

func (a *ReadDirPlusArgs) Append(b []byte) []byte {
	b = rpc.AppendUint64(rpc.AppendOpaque(b, a.FH), a.Cookie)
	b = rpc.AppendUint64(b, a.Verifier)
	return rpc.AppendUint32(rpc.AppendUint32(b, a.DirCount), a.MaxCount)
}
