package replica

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"trinas/replica/transport"
	"trinas/replica/volume"
)

// TokenLife is how long a token can admit a node.
const TokenLife = time.Hour

const (
	tokenPrefix = "trinas1"
	// tokenMemory is how long the cluster can still tell why a token is not good any more.
	tokenMemory = 24 * time.Hour
)

// joinToken admits one node until it expires. Only its hash is kept. It stays for a while after
// that, so that whoever types it again hears why it is refused.
type joinToken struct {
	Hash    string `json:"hash"`               // hex SHA-256
	Expires int64  `json:"expires"`            // nanoseconds since 1970
	For     string `json:"for,omitempty"`      // the only node that it admits; "": any
	Node    uint64 `json:"admitted,omitempty"` // whom it has admitted; 0: nobody yet

	Replaces uint64 `json:"replaces,omitempty"` // the node whose place whoever joins takes; 0: nobody's
}

// good reports whether t can admit a node: it is in time, and nobody, or nobody who has arrived,
// was admitted by it.
func (s *clusterState) good(t *joinToken, now int64) bool {
	if t.Expires < now {
		return false
	}
	m := s.node(t.Node)
	return t.Node == 0 || m != nil && m.Pending != 0
}

// addToken keeps a new token. One for a node replaces the former one for it.
func (s *clusterState) addToken(t joinToken, now int64) volume.Errno {
	s.dropTokens(now)
	if t.For != "" {
		s.Tokens = slices.DeleteFunc(s.Tokens, func(old joinToken) bool { return old.Node == 0 && strings.EqualFold(old.For, t.For) })
	}
	unused := 0
	for i := range s.Tokens {
		if s.good(&s.Tokens[i], now) {
			unused++
		}
	}
	if unused >= maxTokens {
		return volume.ENOSPC
	}
	s.Tokens = append(s.Tokens, t)
	return volume.OK
}

// dropTokens forgets those that have been of no use for long, and of the others that are of no use
// all but the newest maxTokens.
func (s *clusterState) dropTokens(now int64) {
	s.Tokens = slices.DeleteFunc(s.Tokens, func(t joinToken) bool { return t.Expires+int64(tokenMemory) < now })
	bad := 0
	for i := len(s.Tokens) - 1; i >= 0; i-- {
		if s.good(&s.Tokens[i], now) {
			continue
		}
		if bad++; bad > maxTokens {
			s.Tokens = slices.Delete(s.Tokens, i, i+1)
		}
	}
}

func (s *clusterState) token(hash string) *joinToken {
	i := slices.IndexFunc(s.Tokens, func(t joinToken) bool { return t.Hash == hash })
	if i < 0 {
		return nil
	}
	return &s.Tokens[i]
}

// refusal says why a token did not admit the node name.
func (s *clusterState) refusal(hash, name string, now time.Time) error {
	const next = "make a new one with trinas token on a member"
	t := s.token(hash)
	switch {
	case t == nil:
		return errors.New("the token is wrong, or older than a day: copy it whole, or " + next)
	case t.For != "" && !strings.EqualFold(t.For, name):
		return fmt.Errorf("the token is for node %q, and this node is %q: %s", t.For, name, next)
	case t.Node != 0:
		who := "a node that was removed since"
		if m := s.node(t.Node); m != nil {
			who = fmt.Sprintf("node %q", m.Name)
		}
		return fmt.Errorf("the token was used already, by %s: %s", who, next)
	case t.Expires < now.UnixNano():
		return fmt.Errorf("the token expired %s ago (it is good for %s): %s",
			now.Sub(time.Unix(0, t.Expires)).Round(time.Second), TokenLife, next)
	}
	return errors.New("the token was refused: " + next)
}

// newToken makes a token: the prefix, a secret, and the fingerprint of the cluster's authority,
// by which the joining node knows that it talks to the right cluster.
func newToken(ca []byte, now time.Time) (text string, tok joinToken) {
	var secret [16]byte
	rand.Read(secret[:])
	s := hex.EncodeToString(secret[:])
	return strings.Join([]string{tokenPrefix, s, transport.Fingerprint(ca)}, "."), joinToken{
		Hash: hashSecret(s), Expires: now.Add(TokenLife).UnixNano()}
}

func hashSecret(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// NewToken makes a token with which one node can join within an hour. node: the only one that may
// use it, in place of the former token for it; "": any.
func (n *Node) NewToken(ctx context.Context, node string) (string, error) {
	return n.makeToken(ctx, node, 0)
}

// makeToken makes a token for node ("": any) that takes the place of replaces (0: of nobody).
func (n *Node) makeToken(ctx context.Context, node string, replaces uint64) (string, error) {
	text, tok := newToken([]byte(n.identity.CA), time.Now())
	tok.For, tok.Replaces = node, replaces
	_, errno, err := n.command(ctx, clusterCommand{Do: cmdAddToken, Token: &tok})
	if err != nil {
		return "", fmt.Errorf("make a token: %w", err)
	}
	if errno != volume.OK {
		return "", fmt.Errorf("make a token: %d are unused already; use one of them, or wait an hour", maxTokens)
	}
	return text, nil
}
