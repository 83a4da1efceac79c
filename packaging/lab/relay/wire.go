package relay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/willscott/go-nfs"

	"trinas/nfsgw/nfs3"
	"trinas/nfsgw/rpc"
)

// maxRecordBytes bounds a record, so that a peer that speaks something else fills no memory.
const maxRecordBytes = 2 << 20

// maxAuthBytes bounds a credential and a verifier (RFC 5531 §8.2).
const maxAuthBytes = 400

// Kinds of messages (RFC 5531 §9).
const (
	msgCall  = 0
	msgReply = 1
)

// readRecord reads one record (RFC 5531 §11): raw with its marks, as it is passed on, and message
// without.
func readRecord(in io.Reader) (raw, message []byte, err error) {
	for {
		var mark [4]byte
		if _, err := io.ReadFull(in, mark[:]); err != nil {
			return nil, nil, err
		}
		v := binary.BigEndian.Uint32(mark[:])
		length := int(v &^ (1 << 31))
		if length > maxRecordBytes-len(message) {
			return nil, nil, fmt.Errorf("a record of more than %d bytes", maxRecordBytes)
		}
		at := len(message)
		message = append(message, make([]byte, length)...)
		if _, err := io.ReadFull(in, message[at:]); err != nil {
			return nil, nil, err
		}
		raw = append(append(raw, mark[:]...), message[at:]...)
		if v != uint32(length) {
			return raw, message, nil
		}
	}
}

// call is what the relay knows of a call: its name in Drop, empty unless it is one of NFS.
type call struct {
	xid  uint32
	name string
}

var errNoCall = errors.New("a client sent something that is no RPC call")

func decodeCall(message []byte) (call, error) {
	d := rpc.NewDecoder(message)
	c := call{xid: d.Uint32()}
	kind := d.Uint32()
	d.Uint32() // RPC version
	program := d.Uint32()
	d.Uint32() // program version
	proc := nfs.NFSProcedure(d.Uint32())
	for range 2 { // credential, verifier
		d.Uint32()
		d.Opaque(maxAuthBytes)
	}
	if d.Err() != nil || kind != msgCall {
		return c, errNoCall
	}
	if program == nfs3.Program {
		c.name = nameOf(proc, d.Rest())
	}
	return c, nil
}

// nameOf names a call by its procedure, and by the form of it where a procedure has several that
// differ in what a repetition does: CREATE, CREATE/GUARDED, CREATE/EXCLUSIVE, SETATTR,
// SETATTR/GUARDED.
func nameOf(proc nfs.NFSProcedure, args []byte) string {
	name := strings.ToUpper(proc.String())
	switch proc {
	case nfs.NFSProcedureCreate:
		var a nfs3.CreateArgs
		switch err := a.Decode(args); {
		case err != nil:
		case a.How == nfs3.Guarded:
			return name + "/GUARDED"
		case a.How == nfs3.Exclusive:
			return name + "/EXCLUSIVE"
		}
	case nfs.NFSProcedureSetAttr:
		var a nfs3.SetAttrArgs
		if a.Decode(args) == nil && a.Guard != nil {
			return name + "/GUARDED"
		}
	}
	return name
}

// decodeReply returns a reply's xid and the NFS status that its results begin with. The error is for
// a reply without one: the call was refused by RPC.
func decodeReply(message []byte) (xid uint32, status nfs.NFSStatus, err error) {
	d := rpc.NewDecoder(message)
	xid = d.Uint32()
	kind, denied := d.Uint32(), d.Uint32()
	d.Uint32() // the verifier's flavor
	d.Opaque(maxAuthBytes)
	accept := d.Uint32()
	status = nfs.NFSStatus(d.Uint32())
	if d.Err() != nil || kind != msgReply || denied != 0 || accept != 0 {
		return xid, status, fmt.Errorf("no NFS status in the reply (denied %d, accept_stat %d)", denied, accept)
	}
	return xid, status, nil
}
