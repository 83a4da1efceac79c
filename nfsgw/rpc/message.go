package rpc

import (
	"encoding/binary"
	"net/netip"
)

// Version is the version of the RPC protocol (RFC 5531 §9).
const Version = 2

// Message and reply kinds (RFC 5531 §9).
const (
	msgCall       = 0
	msgReply      = 1
	replyAccepted = 0
	replyDenied   = 1
	rpcMismatch   = 0
	authError     = 1
)

// AcceptStat is how a call that was accepted ended (RFC 5531 §9, accept_stat).
type AcceptStat uint32

const (
	Success      AcceptStat = 0 // the procedure ran; its own status is in the results
	ProgUnavail  AcceptStat = 1 // the program is not served here
	ProgMismatch AcceptStat = 2 // not this version of it
	ProcUnavail  AcceptStat = 3 // the program has no such procedure
	GarbageArgs  AcceptStat = 4 // the arguments cannot be decoded
	SystemErr    AcceptStat = 5 // the server failed
)

// AuthStat says why a call's credential was refused (RFC 5531 §9, auth_stat).
type AuthStat uint32

const (
	AuthBadCred      AuthStat = 1 // malformed, or of a flavor that is not spoken
	AuthRejectedCred AuthStat = 2 // the client must begin anew
	AuthBadVerf      AuthStat = 3 // malformed verifier
	AuthTooWeak      AuthStat = 5 // for security reasons: the source port is not privileged
)

// Authentication flavors (RFC 5531 §8.2).
const (
	AuthNone  = 0
	AuthSys   = 1
	AuthShort = 2
)

// Limits of credentials (RFC 5531 §8.2 and appendix A).
const (
	maxAuthBytes    = 400
	maxMachineBytes = 255
	MaxGroups       = 16
)

// Cred is a caller's identity. With AUTH_NONE everything but Flavor is zero.
type Cred struct {
	Flavor   uint32
	UID, GID uint32
	Groups   []uint32 // at most MaxGroups
	Machine  []byte   // the caller's own name for itself; aliases the record
}

// Call is one call. It and all it refers to are good until its handler returns.
type Call struct {
	XID              uint32
	Prog, Vers, Proc uint32
	Cred             Cred
	Args             []byte         // the procedure's arguments, undecoded
	Remote           netip.AddrPort // zero for clients without an IP address

	mem     []byte // the record's buffer, headroom included
	groups  [MaxGroups]uint32
	request *request // whose call this is
}

// Room returns the memory whose end is data, a part of Args: at least Headroom bytes stand before
// data, and the handler may overwrite all of it. That destroys Args before data and Cred.Machine.
// It is nil when data is empty or no part of Args.
func (c *Call) Room(data []byte) []byte {
	at := cap(c.mem) - cap(data)
	if len(data) == 0 || at < Headroom || &c.mem[at] != &data[0] {
		return nil
	}
	return c.mem[:at+len(data)]
}

// verdict is what a call's header says to do.
type verdict uint8

const (
	verdictServe    verdict = iota
	verdictDrop             // no call at all: nothing can be answered
	verdictMismatch         // another RPC version
	verdictAuth             // refused credential
)

// decode reads a call's header (RFC 5531 §9) and leaves the arguments in Args:
//
//	| xid 4 | CALL 4 | rpcvers 4 | prog 4 | vers 4 | proc 4 |
//	| cred flavor 4 | length 4 | body | verf flavor 4 | length 4 | body | args |
func (c *Call) decode(record []byte) (verdict, AuthStat) {
	d := NewDecoder(record)
	c.XID = d.Uint32()
	kind, version := d.Uint32(), d.Uint32()
	if d.Err() != nil || kind != msgCall {
		return verdictDrop, 0
	}
	if version != Version {
		return verdictMismatch, 0
	}
	c.Prog, c.Vers, c.Proc = d.Uint32(), d.Uint32(), d.Uint32()
	flavor, length := d.Uint32(), d.Uint32()
	if d.Err() != nil {
		return verdictDrop, 0
	}
	if length > maxAuthBytes {
		return verdictAuth, AuthBadCred
	}
	body := d.Fixed(int(length))
	if d.Err() != nil {
		return verdictDrop, 0
	}
	if stat := c.decodeCred(flavor, body); stat != 0 {
		return verdictAuth, stat
	}
	_, length = d.Uint32(), d.Uint32()
	if d.Err() == nil && length > maxAuthBytes {
		return verdictAuth, AuthBadVerf
	}
	d.Fixed(int(length))
	if d.Err() != nil {
		return verdictDrop, 0
	}
	c.Args = d.Rest()
	return verdictServe, 0
}

// decodeCred reads a credential's body; 0 when it is good. AUTH_SYS (RFC 5531 appendix A) is
//
//	| stamp 4 | machine name <255> | uid 4 | gid 4 | gids <16> |
func (c *Call) decodeCred(flavor uint32, body []byte) AuthStat {
	c.Cred = Cred{Flavor: flavor}
	switch flavor {
	case AuthNone:
		return 0
	case AuthShort: // a shorthand that was never handed out
		return AuthRejectedCred
	case AuthSys:
	default:
		return AuthBadCred
	}
	d := NewDecoder(body)
	d.Uint32()
	c.Cred.Machine = d.Opaque(maxMachineBytes)
	c.Cred.UID, c.Cred.GID = d.Uint32(), d.Uint32()
	n := d.Uint32()
	if n > MaxGroups {
		return AuthBadCred
	}
	for i := range c.groups[:n] {
		c.groups[i] = d.Uint32()
	}
	c.Cred.Groups = c.groups[:n:n]
	if d.End() != nil {
		return AuthBadCred
	}
	return 0
}

// markBytes and replyBytes are the record mark and the header of an accepted reply:
//
//	| mark 4 | xid 4 | REPLY 4 | ACCEPTED 4 | AUTH_NONE 4 | 0 4 | accept_stat 4 |
const (
	markBytes  = 4
	replyBytes = markBytes + 24
)

// putAccepted writes an accepted reply's header, without the mark, into b[4:28].
func putAccepted(b []byte, xid uint32, stat AcceptStat) {
	_ = b[replyBytes-1]
	binary.BigEndian.PutUint32(b[4:], xid)
	binary.BigEndian.PutUint32(b[8:], msgReply)
	binary.BigEndian.PutUint32(b[12:], replyAccepted)
	binary.BigEndian.PutUint64(b[16:], AuthNone) // the verifier: no flavor, no bytes
	binary.BigEndian.PutUint32(b[24:], uint32(stat))
}

// appendDenied appends a denied reply, without a mark: RPC_MISMATCH with the versions spoken, or
// AUTH_ERROR with the reason.
func appendDenied(b []byte, xid uint32, why verdict, stat AuthStat) []byte {
	b = AppendUint32(b, xid)
	b = AppendUint32(b, msgReply)
	b = AppendUint32(b, replyDenied)
	if why == verdictMismatch {
		b = AppendUint32(b, rpcMismatch)
		b = AppendUint32(b, Version)
		return AppendUint32(b, Version)
	}
	b = AppendUint32(b, authError)
	return AppendUint32(b, uint32(stat))
}

// appendCall appends a call's header, without a mark; sys nil is AUTH_NONE.
func appendCall(b []byte, xid, prog, vers, proc uint32, sys *Cred) []byte {
	for _, v := range [...]uint32{xid, msgCall, Version, prog, vers, proc} {
		b = AppendUint32(b, v)
	}
	if sys == nil || sys.Flavor == AuthNone {
		b = AppendUint64(b, AuthNone)
	} else {
		b = AppendUint32(b, AuthSys)
		at := len(b)
		b = AppendUint32(b, 0)
		b = AppendUint32(b, 0) // stamp
		b = AppendOpaque(b, sys.Machine)
		b = AppendUint32(b, sys.UID)
		b = AppendUint32(b, sys.GID)
		b = AppendUint32(b, uint32(len(sys.Groups)))
		for _, g := range sys.Groups {
			b = AppendUint32(b, g)
		}
		binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	}
	return AppendUint64(b, AuthNone) // the verifier
}
