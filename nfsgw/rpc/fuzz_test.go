package rpc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// byteConn is a connection that gives what it holds, step bytes at a time.
type byteConn struct {
	net.Conn
	b    []byte
	step int
}

func (c *byteConn) Read(p []byte) (int, error) {
	if len(c.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.b[:min(len(c.b), c.step)])
	c.b = c.b[n:]
	return n, nil
}

// records reads all records of b, and checks that what was reserved is what buffers take.
func records(t *testing.T, b []byte, step, limit int) (out [][]byte, err error) {
	p := newPools(limit)
	reserved := 0
	r := recordReader{
		conn: &byteConn{b: b, step: step}, chunk: make([]byte, chunkBytes), limit: limit, pools: p,
		reserve:  func(n int) bool { reserved += n; return true },
		deadline: func(time.Time) {},
	}
	for {
		buf, n, size, err := r.next()
		if size != reserved || buf != nil && size != len(buf.mem) {
			t.Fatalf("%d bytes reserved, %d reported", reserved, size)
		}
		reserved = 0
		if err != nil {
			return out, err
		}
		if n > limit {
			t.Fatalf("record of %d bytes, limit %d", n, limit)
		}
		out = append(out, bytes.Clone(buf.mem[Headroom:Headroom+n]))
		p.put(buf)
	}
}

// FuzzRecords reads a stream in pieces of any size: the same records, and the same end, as when
// it is taken apart the plain way (RFC 5531 §11).
func FuzzRecords(f *testing.F) {
	f.Add(record([]byte("hello")), 1)
	f.Add(append(words(3), append([]byte("abc"), record([]byte("def"))...)...), 2)
	f.Add(words(0, 0, lastFragment, 0xffffffff), 100)
	f.Add(record(make([]byte, 2000)), 7)
	f.Add([]byte{0x80, 0, 0}, 1)
	f.Fuzz(func(t *testing.T, b []byte, step int) {
		const limit = 3000
		got, err := records(t, b, max(1, step&0xffff), limit)
		var want [][]byte
		wantErr := io.EOF
		var rec []byte
		inside := false
		for rest := b; ; {
			if len(rest) == 0 && !inside {
				break
			}
			if len(rest) < 4 {
				wantErr = io.ErrUnexpectedEOF
				break
			}
			mark := binary.BigEndian.Uint32(rest)
			n := int(mark &^ lastFragment)
			rest = rest[4:]
			if n > limit-len(rec) {
				wantErr = ErrRecordTooLong
				break
			}
			if n > len(rest) {
				wantErr = io.ErrUnexpectedEOF
				break
			}
			rec = append(rec, rest[:n]...)
			rest = rest[n:]
			if inside = mark&lastFragment == 0; !inside {
				want = append(want, rec)
				rec = nil
			}
		}
		if !errors.Is(err, wantErr) && !(wantErr == io.ErrUnexpectedEOF && errors.Is(err, io.EOF) && len(b) > 0) {
			t.Errorf("ended with %v, want %v", err, wantErr)
		}
		if len(got) != len(want) {
			t.Fatalf("%d records, want %d", len(got), len(want))
		}
		for i := range got {
			if !bytes.Equal(got[i], want[i]) {
				t.Errorf("record %d differs", i)
			}
		}
	})
}

// FuzzHeader decodes call headers: never a panic, and what is served fits its bounds.
func FuzzHeader(f *testing.F) {
	f.Add(appendCall(nil, 1, 2, 3, 4, nil))
	f.Add(appendCall(nil, 1, 2, 3, 4, &Cred{Flavor: AuthSys, UID: 5, GID: 6, Groups: []uint32{7, 8}, Machine: []byte("m")}))
	f.Add(words(1, 0, 2, 3, 4, 5, AuthSys, 20, 0, 0xffffffff, 0, 0, 0, 0, 0))
	f.Add(words(1, 0, 2, 3, 4, 5, AuthSys, 0xffffffff))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c Call
		why, stat := c.decode(b)
		if why != verdictServe {
			if why == verdictAuth && stat == 0 {
				t.Error("refused without a reason")
			}
			return
		}
		if len(c.Cred.Groups) > MaxGroups || len(c.Cred.Machine) > maxMachineBytes || len(c.Args) > len(b) {
			t.Errorf("%+v", c.Cred)
		}
		if c.Cred.Flavor == AuthSys {
			again := appendCall(nil, c.XID, c.Prog, c.Vers, c.Proc, &c.Cred)
			var c2 Call
			if why, _ := c2.decode(again); why != verdictServe || c2.Cred.UID != c.Cred.UID {
				t.Error("does not encode again")
			}
		}
	})
}

// FuzzReply decodes replies as the client does.
func FuzzReply(f *testing.F) {
	f.Add(words(1, 1, 0, 0, 0, 0, 42))
	f.Add(words(1, 1, 1, 1, 5))
	f.Add(words(1, 1, 0, 0, 0xffffffff))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = decodeReply(b) })
}
