package transport

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"slices"
	"strings"
)

// Records of TLS 1.3 (RFC 8446 §5.2). The header is also what the cipher authenticates beside the content:
//
//	0      1         3        5
//	+------+---------+--------+---------------------------------------+-----+
//	| 23   | 0x0303  | length | enciphered: content, its type, zeros  | tag |
//	+------+---------+--------+---------------------------------------+-----+
const (
	recordHeaderBytes  = 5
	recordContentBytes = 16 << 10 // most content of one record
	recordTagBytes     = 16
	recordMostBytes    = recordHeaderBytes + recordContentBytes + 256 // what others may send

	typeAlert = 21
	typeData  = 23

	alertCloseNotify = 0
)

// records are the records of a connection whose handshake crypto/tls has done. crypto/tls could go on with them; it
// copies everything once more on its way out and twice more on its way in. Here a payload is enciphered where the
// socket takes it from, and deciphered from where the socket has put it to where it is to be kept.
//
// One goroutine reads and one writes at a time. After an error nothing more can be read.
type records struct {
	wire    *wire
	in, out direction
	rest    []byte // of the last record's content, not read yet; in the wire's memory
	err     error  // the reader's, final
}

// direction is one direction's key. The nth record's nonce is iv xor n: never the same twice.
type direction struct {
	aead  cipher.AEAD
	iv    [12]byte
	n     uint64
	nonce [12]byte // of the record at hand
}

// newRecords goes on after a handshake, in which s heard the secrets; nil where the peers agreed on another cipher
// than AES-GCM (a processor without AES has ChaCha20).
func newRecords(w *wire, suite uint16, s *secrets, client bool) (*records, error) {
	if suite != tls.TLS_AES_128_GCM_SHA256 && suite != tls.TLS_AES_256_GCM_SHA384 {
		return nil, nil
	}
	r := &records{wire: w}
	in, out := s.client, s.server
	if client {
		in, out = out, in
	}
	return r, errors.Join(r.in.init(suite, in), r.out.init(suite, out))
}

// init derives key and iv from a traffic secret (RFC 8446 §7.3).
func (d *direction) init(suite uint16, secret []byte) error {
	sum, keyBytes := sha256.New, 16
	if suite == tls.TLS_AES_256_GCM_SHA384 {
		sum, keyBytes = sha512.New384, 32
	}
	if len(secret) != sum().Size() {
		return fmt.Errorf("TLS: a traffic secret of %d bytes", len(secret))
	}
	key, err := expandLabel(sum, secret, "key", keyBytes)
	iv, err2 := expandLabel(sum, secret, "iv", len(d.iv))
	if err := errors.Join(err, err2); err != nil {
		return fmt.Errorf("TLS: derive keys: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	if d.aead, err = cipher.NewGCM(block); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	copy(d.iv[:], iv)
	return nil
}

// expandLabel is HKDF-Expand-Label without a context (RFC 8446 §7.1).
func expandLabel(sum func() hash.Hash, secret []byte, label string, n int) ([]byte, error) {
	label = "tls13 " + label
	info := append([]byte{byte(n >> 8), byte(n), byte(len(label))}, label...)
	return hkdf.Expand(sum, secret, string(append(info, 0)), n)
}

// next is the nonce of the next record.
func (d *direction) next() []byte {
	d.nonce = d.iv
	tail := d.nonce[len(d.nonce)-8:]
	binary.BigEndian.PutUint64(tail, binary.BigEndian.Uint64(tail)^d.n)
	d.n++
	return d.nonce[:]
}

// seal appends a record with the content.
func (d *direction) seal(to, content []byte) []byte {
	n := len(content) + 1 + recordTagBytes
	to = slices.Grow(to, recordHeaderBytes+n)
	head := len(to)
	to = append(to, typeData, 3, 3, byte(n>>8), byte(n))
	body := len(to)
	to = append(append(to, content...), typeData)
	return d.aead.Seal(to[:body], d.next(), to[body:], to[head:body])
}

// open deciphers a record to the start of p, which has room for it without its header and tag, and returns its content.
func (d *direction) open(p, record []byte) ([]byte, error) {
	inner, err := d.aead.Open(p[:0], d.next(), record[recordHeaderBytes:], record[:recordHeaderBytes])
	if err != nil {
		return nil, fmt.Errorf("TLS: a record was changed on its way: %w", err)
	}
	end := len(inner) - 1
	for end >= 0 && inner[end] == 0 {
		end--
	}
	switch {
	case end < 0:
		return nil, errors.New("TLS: a record without a type")
	case inner[end] == typeAlert && end == 2 && inner[1] == alertCloseNotify:
		return nil, io.EOF
	case inner[end] == typeAlert && end == 2:
		return nil, &net.OpError{Op: "remote error", Err: tls.AlertError(inner[1])}
	case inner[end] != typeData:
		return nil, fmt.Errorf("TLS: a record of type %d after the handshake", inner[end])
	}
	return inner[:end], nil
}

// Read returns bytes of one record at most. It may use all of p.
func (r *records) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		record, err := r.wire.record()
		if err != nil {
			r.err = err
			continue
		}
		straight := len(p) >= len(record)-recordHeaderBytes-recordTagBytes
		to := record[recordHeaderBytes:] // where it stands
		if straight {
			to = p
		}
		if r.rest, r.err = r.in.open(to, record); straight && len(r.rest) > 0 {
			n := len(r.rest)
			r.rest = nil
			return n, nil
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// Write sends p, or keeps it when the wire is to hold it.
func (r *records) Write(p []byte) (n int, err error) {
	w := r.wire
	w.mu.Lock()
	defer w.mu.Unlock()
	for n < len(p) {
		content := p[n:min(len(p), n+recordContentBytes)]
		if len(w.out)+recordHeaderBytes+len(content)+1+recordTagBytes > wireWriteBytes {
			if err := w.flushLocked(); err != nil {
				return n, err
			}
		}
		w.out = r.out.seal(w.out, content)
		n += len(content)
	}
	if w.holding {
		return n, nil
	}
	return n, w.flushLocked()
}

// secrets hears the traffic secrets of one connection, as tls.Config.KeyLogWriter, which is the one way to learn
// them. They go nowhere else.
type secrets struct{ client, server []byte }

// heard gives config to one connection, whose secrets s hears.
func (s *secrets) heard(config *tls.Config) *tls.Config {
	config = config.Clone()
	config.KeyLogWriter = s
	if choose := config.GetConfigForClient; choose != nil {
		config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			chosen, err := choose(hello)
			if err != nil {
				return nil, err
			}
			return s.heard(chosen), nil
		}
	}
	return config
}

// Write takes a line: label, the client's random number, secret.
func (s *secrets) Write(line []byte) (int, error) {
	words := strings.Fields(string(line))
	if len(words) != 3 {
		return 0, errors.New("TLS: a secret in another form")
	}
	secret, err := hex.DecodeString(words[2])
	if err != nil {
		return 0, fmt.Errorf("TLS: a secret in another form: %w", err)
	}
	switch words[0] {
	case "CLIENT_TRAFFIC_SECRET_0":
		s.client = secret
	case "SERVER_TRAFFIC_SECRET_0":
		s.server = secret
	}
	return len(line), nil
}
