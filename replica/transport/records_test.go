package transport

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Goal: keys are derived as TLS 1.3 has it. Method: the server's traffic secret, key and iv of RFC 8448 §3.
func TestRecords_Keys(t *testing.T) {
	secret := unhex(t, "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643")
	var d direction
	if err := d.init(tls.TLS_AES_128_GCM_SHA256, secret); err != nil {
		t.Fatal(err)
	}
	if want := unhex(t, "cf782b88dd83549aadf1e984"); !bytes.Equal(d.iv[:], want) {
		t.Errorf("iv %x, want %x", d.iv, want)
	}
	if err := d.init(tls.TLS_AES_128_GCM_SHA256, secret[1:]); err == nil {
		t.Error("a secret that is too short was taken")
	}
	first, second := bytes.Clone(d.next()), bytes.Clone(d.next())
	if !bytes.Equal(first, d.iv[:]) || bytes.Equal(first, second) {
		t.Errorf("nonces %x, %x", first, second)
	}
}

// ends is a pair of connections with the handshake done; the first is the client, and each is records or
// crypto/tls as asked.
func ends(t *testing.T, clientRecords, serverRecords bool) (client, server *conn) {
	t.Helper()
	ca := newAuthority(t, 1)
	one, err := newTrust(ca.identity(1))
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	client, server = newConn(near, readAheadBytes), newConn(far, readAheadBytes)
	done := make(chan error, 1)
	go func() { done <- client.handshake(one.dialConfig(1), true) }()
	if err := errors.Join(server.handshake(one.listenConfig(), false), <-done); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		*conn
		records bool
	}{{client, clientRecords}, {server, serverRecords}} {
		if _, ok := c.stream.(*records); !ok {
			t.Fatalf("%T after the handshake", c.stream)
		}
		if !c.records {
			c.stream = c.tls
		}
	}
	return client, server
}

// Goal: records are TLS 1.3's, in both directions, whatever the sizes of what is written and read. Method: each pair
// of ends of which one at least is ours; the other is crypto/tls.
func TestRecords_Interoperate(t *testing.T) {
	for _, who := range []string{"both", "client", "server"} {
		t.Run(who, func(t *testing.T) {
			client, server := ends(t, who != "server", who != "client")
			carry := func(from, to *conn) {
				t.Helper()
				dice := rand.New(rand.NewPCG(1, 2))
				data := make([]byte, 600<<10)
				for i := range data {
					data[i] = byte(dice.Uint32())
				}
				go func() {
					from.wire.hold()
					for left := data; len(left) > 0; {
						n := min(len(left), 1+dice.IntN(70<<10))
						if _, err := from.stream.Write(left[:n]); err != nil {
							t.Error(err)
						}
						left = left[n:]
					}
					if err := from.wire.flush(); err != nil {
						t.Error(err)
					}
				}()
				got, sizes := make([]byte, len(data)), rand.New(rand.NewPCG(3, 4))
				for at := 0; at < len(got); {
					n, err := to.stream.Read(got[at:min(len(got), at+1+sizes.IntN(40<<10))])
					if err != nil || n == 0 {
						t.Fatalf("at %d: %d bytes, %v", at, n, err)
					}
					at += n
				}
				if !bytes.Equal(got, data) {
					t.Error("other bytes came out")
				}
			}
			carry(client, server)
			carry(server, client)
			carry(client, server)
			if who == "server" { // crypto/tls says good-bye
				go client.tls.Close()
				if _, err := server.stream.Read(make([]byte, 1)); err != io.EOF {
					t.Errorf("at the end: %v", err)
				}
			}
		})
	}
}

// Goal: AES-256, which our own ends do not agree on, and what is no good record. Method: records sealed with a known
// secret, changed in one place.
func TestRecords_Refuse(t *testing.T) {
	const suite = tls.TLS_AES_256_GCM_SHA384
	s := secrets{client: bytes.Repeat([]byte{1}, 48), server: bytes.Repeat([]byte{2}, 48)}
	var out direction
	if err := out.init(suite, s.client); err != nil {
		t.Fatal(err)
	}
	content := bytes.Repeat([]byte("data"), 100)
	first, second := out.seal(nil, content), out.seal(nil, []byte("more"))
	changed := func(at int, bit byte) []byte {
		b := bytes.Clone(first)
		b[at] ^= bit
		return b
	}
	other := func(inner ...byte) []byte { // another second record
		d := direction{aead: out.aead, iv: out.iv, n: 1}
		head := []byte{typeData, 3, 3, 0, byte(len(inner) + recordTagBytes)}
		return d.aead.Seal(head, d.next(), inner, head)
	}
	for _, c := range []struct {
		name  string
		bytes []byte
		got   int    // bytes of content before the error
		err   string // "": io.EOF
	}{
		{"good", append(bytes.Clone(first), second...), len(content) + 4, ""},
		{"content changed", changed(100, 1), 0, "changed on its way"},
		{"tag changed", changed(len(first)-1, 0x80), 0, "changed on its way"},
		{"header changed", changed(1, 1), 0, "changed on its way"},
		{"twice the same", append(bytes.Clone(first), first...), len(content), "changed on its way"},
		{"one left out", second, 0, "changed on its way"},
		{"cut short", first[:len(first)-1], 0, io.ErrUnexpectedEOF.Error()},
		{"no room for a tag", []byte{typeData, 3, 3, 0, 3, 1, 2, 3}, 0, "changed on its way"},
		{"too long", []byte{typeData, 3, 3, 0xff, 0xff}, 0, "garbage in a frame: TLS record of 65540 bytes"},
		{"alert", append(bytes.Clone(first), other(2, 42, typeAlert, 0, 0)...), len(content), "remote error: tls: bad certificate"},
		{"a new key", append(bytes.Clone(first), other(24, 0, 0, 1, 0, 22)...), len(content), "record of type 22"},
		{"no type", append(bytes.Clone(first), other(0, 0)...), len(content), "without a type"},
		{"good-bye", append(bytes.Clone(first), other(2, 0, typeAlert)...), len(content), ""},
	} {
		for _, room := range []int{1, len(content), len(content) + 1, 1000} { // in place, and straight to where it is wanted
			near, far := net.Pipe()
			go func() {
				near.Write(c.bytes)
				near.Close()
			}()
			r, err := newRecords(newWire(far, readAheadBytes), suite, &s, false)
			if err != nil {
				t.Fatal(err)
			}
			var got []byte
			p := make([]byte, room)
			for err == nil {
				var n int
				n, err = r.Read(p)
				got = append(got, p[:n]...)
			}
			if c.err == "" && err != io.EOF || c.err != "" && !bytes.Contains([]byte(err.Error()), []byte(c.err)) {
				t.Errorf("%s, %d bytes at a time: %v, want %s", c.name, room, err, c.err)
			}
			if len(got) != c.got || !bytes.HasPrefix(append(bytes.Clone(content), "more"...), got) {
				t.Errorf("%s, %d bytes at a time: %d bytes, want %d", c.name, room, len(got), c.got)
			}
			if _, again := r.Read(p); again != err {
				t.Errorf("%s: the next read gives %v after %v", c.name, again, err)
			}
			far.Close()
		}
	}
	if r, err := newRecords(nil, tls.TLS_CHACHA20_POLY1305_SHA256, &s, false); r != nil || err != nil {
		t.Errorf("ChaCha20: %v, %v", r, err)
	}
}
