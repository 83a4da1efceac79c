package volume

import (
	"encoding/binary"
	"fmt"
)

// decoder reads little-endian fields off a byte slice. Reading past the end sets short and gives
// zeros from then on, so that callers check once.
type decoder struct {
	b     []byte
	off   int
	short bool
}

func (d *decoder) left() int { return len(d.b) - d.off }

// bytes gives the next n bytes, aliasing the input; nil when there are fewer.
func (d *decoder) bytes(n int) []byte {
	if d.short || n < 0 || n > d.left() {
		d.short = true
		return nil
	}
	p := d.b[d.off : d.off+n : d.off+n]
	d.off += n
	return p
}

func (d *decoder) u8() uint8 {
	if p := d.bytes(1); p != nil {
		return p[0]
	}
	return 0
}

func (d *decoder) u16() uint16 {
	if p := d.bytes(2); p != nil {
		return binary.LittleEndian.Uint16(p)
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if p := d.bytes(4); p != nil {
		return binary.LittleEndian.Uint32(p)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if p := d.bytes(8); p != nil {
		return binary.LittleEndian.Uint64(p)
	}
	return 0
}

func (d *decoder) i64() int64 { return int64(d.u64()) }

// str16 reads a string behind its 16-bit length.
func (d *decoder) str16() string { return string(d.bytes(int(d.u16()))) }

// done reports an input that was too short or has bytes left over.
func (d *decoder) done(what string) error {
	if d.short {
		return fmt.Errorf("%s is cut short: %d bytes", what, len(d.b))
	}
	if d.left() != 0 {
		return fmt.Errorf("%s has %d bytes too many after byte %d", what, d.left(), d.off)
	}
	return nil
}

func appendU16(b []byte, v uint16) []byte { return binary.LittleEndian.AppendUint16(b, v) }
func appendU32(b []byte, v uint32) []byte { return binary.LittleEndian.AppendUint32(b, v) }
func appendU64(b []byte, v uint64) []byte { return binary.LittleEndian.AppendUint64(b, v) }

// appendStr16 appends a string behind its 16-bit length; the caller has checked that it fits.
func appendStr16(b []byte, s string) []byte {
	return append(appendU16(b, uint16(len(s))), s...)
}
