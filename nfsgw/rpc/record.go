package rpc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// lastFragment marks a record's last fragment (RFC 5531 §11). A fragment is
//
//	| last 1 bit | length 31 bits | bytes |
const lastFragment = 1 << 31

// chunkBytes is what a connection reads ahead: enough for a 4 KiB WRITE in one system call.
const chunkBytes = 8 << 10

// ErrRecordTooLong says that a peer announced a record above the limit.
var ErrRecordTooLong = errors.New("record too long")

// errStopped says that the server stopped reading this connection.
var errStopped = errors.New("connection is being closed")

// recordReader takes records off a connection.
type recordReader struct {
	conn     net.Conn
	chunk    []byte
	from, to int // what of chunk has been read and not consumed
	limit    int // most bytes of one record
	pools    *pools

	// reserve is asked before a buffer of n bytes is taken; false ends the reading.
	reserve func(n int) bool
	// deadline sets the connection's read deadline; called only while a record is half there,
	// so that the usual record, which comes whole, does not pay for timers.
	deadline func(time.Time)
	patience time.Duration // how long one record may take
}

// next reads one record: mem[Headroom:Headroom+n] of the buffer. The caller owns the buffer, and
// size bytes of it have been reserved, also when an error is returned (the buffer is then nil).
// At the end of the connection, between records, the error is io.EOF.
func (r *recordReader) next() (buf *buffer, n, size int, err error) {
	waiting := false
	defer func() {
		if waiting {
			r.deadline(time.Time{})
		}
		if err != nil {
			r.pools.put(buf)
			buf = nil
		}
	}()
	for fragment, last := 0, false; !last; fragment++ {
		for r.to-r.from < 4 {
			if !waiting && (fragment > 0 || r.to > r.from) {
				waiting = true
				r.deadline(time.Now().Add(r.patience))
			}
			if err := r.fill(); err != nil {
				if err == io.EOF && (fragment > 0 || r.to > r.from) {
					err = io.ErrUnexpectedEOF
				}
				return buf, 0, size, err
			}
		}
		mark := binary.BigEndian.Uint32(r.chunk[r.from:])
		r.from += 4
		last = mark&lastFragment != 0
		length := int(mark &^ lastFragment)
		if length > r.limit-n {
			return buf, 0, size, fmt.Errorf("%w: fragment %d has %d bytes after %d, limit %d",
				ErrRecordTooLong, fragment, length, n, r.limit)
		}
		if buf, size, err = r.grow(buf, n, size, length); err != nil {
			return buf, 0, size, err
		}
		dst := buf.mem[Headroom+n : Headroom+n+length]
		have := copy(dst, r.chunk[r.from:r.to])
		r.from += have
		if have < length {
			if !waiting {
				waiting = true
				r.deadline(time.Now().Add(r.patience))
			}
			if _, err := io.ReadFull(r.conn, dst[have:]); err != nil {
				return buf, 0, size, err
			}
		}
		n += length
	}
	return buf, n, size, nil
}

// grow makes room for length bytes behind the first n.
func (r *recordReader) grow(buf *buffer, n, size, length int) (*buffer, int, error) {
	need := Headroom + n + length
	if buf != nil && need <= len(buf.mem) {
		return buf, size, nil
	}
	more := r.pools.round(need) - size
	if !r.reserve(more) {
		return buf, size, errStopped
	}
	bigger := r.pools.get(need)
	if buf != nil {
		copy(bigger.mem, buf.mem[:Headroom+n])
		r.pools.put(buf)
	}
	return bigger, size + more, nil
}

// fill reads more into the chunk, once.
func (r *recordReader) fill() error {
	if r.from > 0 {
		r.to = copy(r.chunk, r.chunk[r.from:r.to])
		r.from = 0
	}
	n, err := r.conn.Read(r.chunk[r.to:])
	r.to += n
	if n > 0 {
		return nil
	}
	return err
}
