package nfs3

import (
	"encoding/binary"
	"errors"
)

// HandleBytes is the length of our file handles. RFC 1813 §2.3.3 allows up to 64 bytes.
const HandleBytes = 24

// handleVersion is the first byte of every handle. Clients keep handles across restarts, upgrades
// and changes of primary: another layout needs another version, and this one stays readable.
const handleVersion = 1

// ErrBadHandle says that bytes are no handle of ours (NFS3ERR_BADHANDLE).
var ErrBadHandle = errors.New("malformed file handle")

// Handle names a file for ever, on every node: volume, file and generation as in
// replica/volume.Handle.
type Handle struct {
	Volume, File uint64
	Gen          uint32
}

// Append appends the handle's bytes, without a length:
//
//	| version 1 | zero 3 | volume id 8 | file id 8 | generation 4 |
func (h Handle) Append(b []byte) []byte {
	b = append(b, handleVersion, 0, 0, 0)
	b = binary.BigEndian.AppendUint64(b, h.Volume)
	b = binary.BigEndian.AppendUint64(b, h.File)
	return binary.BigEndian.AppendUint32(b, h.Gen)
}

// Bytes is the handle as a client gets it.
func (h Handle) Bytes() []byte { return h.Append(make([]byte, 0, HandleBytes)) }

// ParseHandle reads a handle that a client sent; any other length, version or filling is
// ErrBadHandle.
func ParseHandle(b []byte) (Handle, error) {
	if len(b) != HandleBytes || binary.BigEndian.Uint32(b) != handleVersion<<24 {
		return Handle{}, ErrBadHandle
	}
	return Handle{
		Volume: binary.BigEndian.Uint64(b[4:]),
		File:   binary.BigEndian.Uint64(b[12:]),
		Gen:    binary.BigEndian.Uint32(b[20:]),
	}, nil
}
