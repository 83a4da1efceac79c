package nfs3

import (
	"github.com/willscott/go-nfs"

	"trinas/nfsgw/rpc"
)

// Program and version of MOUNT (RFC 1813 §5).
const (
	MountProgram = 100005
	MountVersion = 3
)

// MaxMountPathBytes and MaxMountNameBytes bound paths and host names (RFC 1813 §5.1.1).
const (
	MaxMountPathBytes = 1024
	MaxMountNameBytes = 255
)

// PathArgs are the arguments of MNT and UMNT (RFC 1813 §5.2.1, §5.2.3).
type PathArgs struct{ Path string }

func (a *PathArgs) Decode(b []byte) error {
	d := rpc.NewDecoder(b)
	a.Path = d.String(MaxMountPathBytes)
	return d.End()
}

func (a *PathArgs) Append(b []byte) []byte { return rpc.AppendOpaque(b, a.Path) }

// MntRes are MNT's results (RFC 1813 §5.2.1).
type MntRes struct {
	Status  nfs.MountStatus
	FH      []byte
	Flavors []uint32
}

func (r *MntRes) Append(b []byte) []byte {
	b = rpc.AppendUint32(b, uint32(r.Status))
	if r.Status != nfs.MountStatusOk {
		return b
	}
	b = rpc.AppendUint32(rpc.AppendOpaque(b, r.FH), uint32(len(r.Flavors)))
	for _, f := range r.Flavors {
		b = rpc.AppendUint32(b, f)
	}
	return b
}

func (r *MntRes) Decode(b []byte) error {
	d := rpc.NewDecoder(b)
	r.Status, r.FH, r.Flavors = nfs.MountStatus(d.Uint32()), nil, nil
	if r.Status == nfs.MountStatusOk {
		r.FH = decodeFH(&d)
		for n := d.Uint32(); n > 0 && d.Err() == nil; n-- {
			r.Flavors = append(r.Flavors, d.Uint32())
		}
	}
	return d.End()
}

// Mount is one row of DUMP: who has mounted what (RFC 1813 §5.2.2).
type Mount struct{ Host, Path string }

// DumpRes are DUMP's results.
type DumpRes struct{ Mounts []Mount }

func (r *DumpRes) Append(b []byte) []byte {
	for _, m := range r.Mounts {
		b = rpc.AppendOpaque(rpc.AppendOpaque(rpc.AppendBool(b, true), m.Host), m.Path)
	}
	return rpc.AppendBool(b, false)
}

func (r *DumpRes) Decode(b []byte) error {
	d := rpc.NewDecoder(b)
	r.Mounts = nil
	for d.Bool() {
		r.Mounts = append(r.Mounts, Mount{d.String(MaxMountNameBytes), d.String(MaxMountPathBytes)})
	}
	return d.End()
}

// Export is one row of EXPORT: a path, and who may mount it; no groups means everyone (RFC 1813
// §5.2.5).
type Export struct {
	Path   string
	Groups []string
}

// ExportRes are EXPORT's results.
type ExportRes struct{ Exports []Export }

func (r *ExportRes) Append(b []byte) []byte {
	for _, e := range r.Exports {
		b = rpc.AppendOpaque(rpc.AppendBool(b, true), e.Path)
		for _, g := range e.Groups {
			b = rpc.AppendOpaque(rpc.AppendBool(b, true), g)
		}
		b = rpc.AppendBool(b, false)
	}
	return rpc.AppendBool(b, false)
}

func (r *ExportRes) Decode(b []byte) error {
	d := rpc.NewDecoder(b)
	r.Exports = nil
	for d.Bool() {
		e := Export{Path: d.String(MaxMountPathBytes)}
		for d.Bool() {
			e.Groups = append(e.Groups, d.String(MaxMountNameBytes))
		}
		r.Exports = append(r.Exports, e)
	}
	return d.End()
}
