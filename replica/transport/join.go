package transport

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
)

// Outcomes of a join.
const (
	joinOK     = 0
	joinFailed = 1
)

// JoinRequest is what a joining node sends. Each part has at most MaxJoinBytes.
type JoinRequest struct {
	Body []byte
	// WrongTime is sent instead of Body to a member whose certificate is the cluster's, but not
	// good at the time that this node's clock shows. It must hold no secret: the member compares
	// the clocks, and says which of them is off.
	WrongTime []byte
}

// RequestJoin sends one request to a member at addr ("host:port") on behalf of a node that has no
// certificate yet, and returns the answer. The member must show a chain that ends in the CA with
// the fingerprint (see Fingerprint); nothing is sent before that is checked. The member's refusal
// is a *RemoteError; other errors say what answers at addr, or why nobody does, and what to do.
func RequestJoin(ctx context.Context, addr string, caFingerprint string, request JoinRequest) ([]byte, error) {
	if most := max(len(request.Body), len(request.WrongTime)); most > MaxJoinBytes {
		return nil, fmt.Errorf("request has %d bytes, at most %d are allowed", most, MaxJoinBytes)
	}
	config, wrongTime, err := joinConfig(caFingerprint)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, joinTimeout, errJoinTimeout)
	defer cancel()
	answer, err := requestJoin(ctx, addr, config, func() []byte {
		if *wrongTime {
			return request.WrongTime
		}
		return request.Body
	})
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return answer, err
}

var errJoinTimeout = fmt.Errorf("no answer within %s: a firewall may drop the packets, or the node there has no "+
	"majority; see trinas status there, or try another node of the cluster", joinTimeout)

func requestJoin(ctx context.Context, addr string, config *tls.Config, request func() []byte) ([]byte, error) {
	raw, err := dialTCP(ctx, addr)
	if err != nil {
		return nil, unreachable(err)
	}
	defer raw.Close()
	defer context.AfterFunc(ctx, func() { raw.Close() })()
	if err := tune(raw); err != nil {
		return nil, err
	}
	peer := tls.Client(raw, config)
	if err := peer.HandshakeContext(ctx); err != nil {
		return nil, strange(err)
	}
	if _, err := peer.Write(appendJoin(nil, request())); err != nil {
		return nil, err
	}
	return readJoinAnswer(bufio.NewReader(peer))
}

// unreachable words a failed connection.
func unreachable(err error) error {
	dns := (*net.DNSError)(nil)
	switch {
	case errors.As(err, &dns):
		return fmt.Errorf("%w: check the name, or use the node's IP address", err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: the agent there is not running or belongs to no cluster yet, or this is not its peer "+
			"address; see trinas status there", err)
	}
	return fmt.Errorf("%w: check the address, the network and the firewall", err)
}

// strange words a failed handshake: what answers is not what speaks this version's protocol, or
// is of another cluster.
func strange(err error) error {
	foreign := foreignError("")
	plain := tls.RecordHeaderError{}
	op := (*net.OpError)(nil)
	switch {
	case errors.As(err, &foreign):
		return foreign
	case errors.As(err, &plain), errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return fmt.Errorf("what answers there is no trinas agent (%w): use the address that trinas status shows on a member", err)
	case errors.As(err, &op) && op.Op == "remote error": // what crypto/tls makes of an alert
		return fmt.Errorf("what answers there is no trinas agent, or one of a version that this one cannot speak to "+
			"(%w): check the address, and install the same version on all nodes", err)
	}
	return fmt.Errorf("TLS handshake: %w", err)
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
