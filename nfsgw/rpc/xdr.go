package rpc

import (
	"encoding/binary"
	"errors"
)

// ErrXDR says that bytes are not the XDR that was expected: they end too early, go on after the
// end, hold a length above its limit or a boolean that is neither 0 nor 1.
var ErrXDR = errors.New("malformed XDR")

// Pad is the number of zero bytes that follow n bytes of opaque data (RFC 4506 §4.10).
func Pad(n int) int { return -n & 3 }

// AppendUint32 appends an unsigned integer (RFC 4506 §4.2).
func AppendUint32(b []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(b, v) }

// AppendUint64 appends an unsigned hyper (RFC 4506 §4.5).
func AppendUint64(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(b, v) }

// AppendBool appends a boolean (RFC 4506 §4.4).
func AppendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 0, 0, 0, 1)
	}
	return append(b, 0, 0, 0, 0)
}

// AppendOpaque appends variable-length opaque data or a string (RFC 4506 §4.10, §4.11):
//
//	| length 4 | bytes | 0 to 3 zero bytes, to a multiple of 4 |
func AppendOpaque[T []byte | string](b []byte, v T) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(v)))
	b = append(b, v...)
	return append(b, zeros[:Pad(len(v))]...)
}

// AppendFixed appends fixed-length opaque data (RFC 4506 §4.9).
func AppendFixed(b, v []byte) []byte {
	b = append(b, v...)
	return append(b, zeros[:Pad(len(v))]...)
}

const zeros = "\x00\x00\x00"

// Decoder consumes XDR from the front of a byte slice. After the first value that is not there
// or not valid every further one is zero, and End and Err report ErrXDR: callers decode all
// fields and check once. The zero Decoder is at the end.
type Decoder struct {
	b   []byte
	bad bool
}

// NewDecoder decodes b. Opaque values alias b and keep its capacity (Call.Room relies on that), so
// nobody may append to them.
func NewDecoder(b []byte) Decoder { return Decoder{b: b} }

// take consumes n bytes, or none and marks the decoder bad.
func (d *Decoder) take(n int) []byte {
	if d.bad || n > len(d.b) {
		d.b, d.bad = nil, true
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

// Uint32 consumes an unsigned integer.
func (d *Decoder) Uint32() uint32 {
	if v := d.take(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

// Uint64 consumes an unsigned hyper.
func (d *Decoder) Uint64() uint64 {
	if v := d.take(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

// Bool consumes a boolean: 0 or 1 and nothing else.
func (d *Decoder) Bool() bool {
	v := d.Uint32()
	if v > 1 {
		d.Fail()
		return false
	}
	return v == 1
}

// Opaque consumes variable-length opaque data of at most limit bytes. The content of the padding
// is not looked at: it carries no meaning, and some clients leave rubbish there.
func (d *Decoder) Opaque(limit int) []byte {
	n := d.Uint32()
	if uint64(n) > uint64(limit) {
		d.Fail()
		return nil
	}
	v := d.take(int(n))
	d.take(Pad(int(n)))
	if d.bad {
		return nil
	}
	return v
}

// String consumes a string of at most limit bytes and copies it.
func (d *Decoder) String(limit int) string { return string(d.Opaque(limit)) }

// Fixed consumes n bytes of fixed-length opaque data; nil when they are not there.
func (d *Decoder) Fixed(n int) []byte {
	v := d.take(n)
	d.take(Pad(n))
	if d.bad {
		return nil
	}
	return v
}

// Rest is what has not been consumed.
func (d *Decoder) Rest() []byte { return d.b }

// Fail marks the decoder bad: the caller found a value that its protocol does not allow.
func (d *Decoder) Fail() { d.b, d.bad = nil, true }

// Err reports ErrXDR when anything so far was not valid.
func (d *Decoder) Err() error {
	if d.bad {
		return ErrXDR
	}
	return nil
}

// End reports ErrXDR when anything was not valid or bytes are left over.
func (d *Decoder) End() error {
	if d.bad || len(d.b) != 0 {
		return ErrXDR
	}
	return nil
}
