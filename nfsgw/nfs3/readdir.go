package nfs3

import (
	"github.com/willscott/go-nfs"

	"trinas/nfsgw/rpc"
)

// Entry is one name of a directory. FH and Attr are READDIRPLUS's only; FH nil: not told.
type Entry struct {
	FileID uint64
	Name   string
	Cookie uint64
	Attr   PostOp
	FH     []byte
}

// ReadDirRes are the results of READDIR, and with Plus those of READDIRPLUS (RFC 1813 §3.3.16,
// §3.3.17).
type ReadDirRes struct {
	Plus     bool
	Status   nfs.NFSStatus
	Dir      PostOp
	Verifier uint64
	Entries  []Entry
	EOF      bool
}

// DirWriter encodes directory results entry by entry and keeps to the client's limits, counted
// exactly as RFC 1813 says: dirBytes over each entry's file id, name and cookie, maxBytes over all
// that follows the status.
//
//	| status 4 | dir attributes | verifier 8 | entries | false 4 | eof 4 |
//	entry: | true 4 | fileid 8 | name <> | cookie 8 | with plus: attributes, handle |
type DirWriter struct {
	b                  []byte
	start              int // of what maxBytes counts
	plus               bool
	dirBytes, maxBytes int
	dirUsed            int
	entries            int
}

// NewDirWriter starts successful results at the end of b. Without plus dirBytes means nothing.
func NewDirWriter(b []byte, plus bool, dir *PostOp, verifier uint64, dirBytes, maxBytes int) *DirWriter {
	b = appendStatus(b, nfs.NFSStatusOk)
	w := &DirWriter{start: len(b), plus: plus, dirBytes: dirBytes, maxBytes: maxBytes}
	w.b = rpc.AppendUint64(dir.append(b), verifier)
	return w
}

// dirEnd is the end of the list and eof.
const dirEnd = 8

// Add appends e, or reports false when it does not fit.
func (w *DirWriter) Add(e *Entry) bool {
	before := len(w.b)
	b := rpc.AppendBool(w.b, true)
	b = rpc.AppendUint64(b, e.FileID)
	b = rpc.AppendOpaque(b, e.Name)
	b = rpc.AppendUint64(b, e.Cookie)
	dirUsed := w.dirUsed + len(b) - before - 4
	if w.plus {
		b = e.Attr.append(b)
		b = rpc.AppendBool(b, e.FH != nil)
		if e.FH != nil {
			b = rpc.AppendOpaque(b, e.FH)
		}
	}
	// The first entry is not held to dirBytes: it is a hint (Linux sends less than one long
	// name takes), and a listing that cannot go on helps nobody.
	tooMuch := w.plus && w.entries > 0 && dirUsed > w.dirBytes
	if tooMuch || len(b)-w.start+dirEnd > w.maxBytes {
		w.b = b[:before]
		return false
	}
	w.b, w.dirUsed = b, dirUsed
	w.entries++
	return true
}

// End ends the list and returns the results. ok is false when the limits left no room even for
// the first entry, or for an empty list (NFS3ERR_TOOSMALL).
func (w *DirWriter) End(eof bool) (b []byte, ok bool) {
	b = rpc.AppendBool(rpc.AppendBool(w.b, false), eof)
	return b, (w.entries > 0 || eof) && len(b)-w.start <= w.maxBytes
}

// AppendDirError appends unsuccessful results.
func AppendDirError(b []byte, status nfs.NFSStatus, dir *PostOp) []byte {
	return dir.append(appendStatus(b, status))
}

// Append encodes all of r, whatever its size.
func (r *ReadDirRes) Append(b []byte) []byte {
	if r.Status != nfs.NFSStatusOk {
		return AppendDirError(b, r.Status, &r.Dir)
	}
	const noLimit = 1 << 40
	w := NewDirWriter(b, r.Plus, &r.Dir, r.Verifier, noLimit, noLimit)
	for i := range r.Entries {
		w.Add(&r.Entries[i])
	}
	b, _ = w.End(r.EOF)
	return b
}

// Decode decodes results; Plus says which.
func (r *ReadDirRes) Decode(b []byte) error {
	d := rpc.NewDecoder(b)
	r.Status = decodeStatus(&d)
	r.Dir.decode(&d)
	r.Verifier, r.Entries, r.EOF = 0, nil, false
	if r.Status != nfs.NFSStatusOk {
		return d.End()
	}
	r.Verifier = d.Uint64()
	for d.Bool() {
		e := Entry{FileID: d.Uint64(), Name: d.String(MaxNameBytes), Cookie: d.Uint64()}
		if r.Plus {
			if e.Attr.decode(&d); d.Bool() {
				e.FH = decodeFH(&d)
			}
		}
		r.Entries = append(r.Entries, e)
	}
	r.EOF = d.Bool()
	return d.End()
}
