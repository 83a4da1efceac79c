package transport

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Outcomes of a join.
const (
	joinOK     = 0
	joinFailed = 1
)

// RequestJoin sends one request to a member at addr ("host:port") on behalf of a node that has no
// certificate yet, and returns the answer. The member must show a chain that ends in the CA with
// the fingerprint (see Fingerprint); nothing is sent before that is checked. request has at most
// MaxJoinBytes. The member's refusal is a *RemoteError.
func RequestJoin(ctx context.Context, addr string, caFingerprint string, request []byte) ([]byte, error) {
	fail := func(err error) ([]byte, error) {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("join by way of %s: %w", addr, err)
	}
	if len(request) > MaxJoinBytes {
		return fail(fmt.Errorf("request has %d bytes, at most %d are allowed", len(request), MaxJoinBytes))
	}
	config, err := joinConfig(caFingerprint)
	if err != nil {
		return fail(err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, joinTimeout, errors.New("no answer in time: try another node"))
	defer cancel()
	raw, err := dialTCP(ctx, addr)
	if err != nil {
		return fail(err)
	}
	defer raw.Close()
	defer context.AfterFunc(ctx, func() { raw.Close() })()
	if err := tune(raw); err != nil {
		return fail(err)
	}
	peer := tls.Client(raw, config)
	if err := peer.HandshakeContext(ctx); err != nil {
		return fail(fmt.Errorf("TLS handshake: %w", err))
	}
	if _, err := peer.Write(appendJoin(nil, request)); err != nil {
		return fail(err)
	}
	answer, err := readJoinAnswer(bufio.NewReader(peer))
	if err != nil {
		return fail(err)
	}
	return answer, nil
}

// appendJoin encodes a join's request, little-endian:
//
//	0        4
//	+--------+---------+
//	| length | request |
//	+--------+---------+
func appendJoin(b, request []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(request)))
	return append(b, request...)
}

func readJoin(r io.Reader) ([]byte, error) {
	return readBody(r, MaxJoinBytes)
}

// writeJoinAnswer sends a join's answer, or the text of why there is none:
//
//	0         1        5
//	+---------+--------+----------------+
//	| outcome | length | answer or text |
//	+---------+--------+----------------+
func writeJoinAnswer(w io.Writer, body []byte, err error) error {
	outcome := byte(joinOK)
	if err == nil && len(body) > MaxJoinAnswerBytes {
		err = fmt.Errorf("answer of %d bytes: %w", len(body), ErrTooLarge)
	}
	if err != nil {
		text := err.Error()
		outcome, body = joinFailed, []byte(text[:min(len(text), maxFailureBytes)])
	}
	_, err = w.Write(appendJoin([]byte{outcome}, body))
	return err
}

func readJoinAnswer(r *bufio.Reader) ([]byte, error) {
	outcome, err := r.ReadByte()
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	body, err := readBody(r, MaxJoinAnswerBytes)
	switch {
	case err != nil:
		return nil, err
	case outcome == joinFailed:
		return nil, &RemoteError{Text: string(body)}
	case outcome != joinOK:
		return nil, fmt.Errorf("%w: outcome %d of a join", errGarbage, outcome)
	}
	return body, nil
}

func readBody(r io.Reader, limit uint32) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("read a join: %w", err)
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n > limit {
		return nil, fmt.Errorf("%w: join of %d bytes, at most %d are allowed", errGarbage, n, limit)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, fmt.Errorf("read a join: %w", err)
	}
	return body, nil
}
