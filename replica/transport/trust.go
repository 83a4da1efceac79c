package transport

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ALPN protocols: they tell members from nodes that ask to become one, on one port.
const (
	peerALPN = "trinas-peer/1"
	joinALPN = "trinas-join/1"
)

// trust is an Identity made ready: what the node shows, and how it checks what others show.
type trust struct {
	cluster ClusterID
	node    NodeID
	roots   *x509.CertPool
	own     tls.Certificate // leaf and CA, so that a joining node can compare the CA's fingerprint
	at      time.Time       // when certificates must be good; zero: now
}

// WrongTimeError: a certificate is of the cluster, but not good at the time that this node's clock
// shows.
type WrongTimeError struct{ From, To time.Time }

func (e *WrongTimeError) Error() string {
	return fmt.Sprintf("the certificate is good from %s to %s, and the clock of this node shows %s: set the clocks right",
		e.From.UTC().Format(time.DateTime), e.To.UTC().Format(time.DateTime), time.Now().UTC().Format(time.DateTime))
}

func newTrust(id Identity) (*trust, error) {
	if id.Node == 0 {
		return nil, errors.New("identity: node id is 0")
	}
	ca, err := parseCA(id.CA, id.Cluster)
	if err != nil {
		return nil, fmt.Errorf("identity of node %d: %w", id.Node, err)
	}
	own, err := tls.X509KeyPair(id.Cert, id.Key)
	if err != nil {
		return nil, fmt.Errorf("identity of node %d: certificate and key: %w", id.Node, err)
	}
	own.Certificate = [][]byte{own.Certificate[0], ca.Raw}
	t := &trust{cluster: id.Cluster, node: id.Node, roots: x509.NewCertPool(), own: own}
	t.roots.AddCert(ca)
	chain := []*x509.Certificate{own.Leaf}
	if _, err := t.verify(chain, id.Node, x509.ExtKeyUsageServerAuth); err != nil {
		return nil, fmt.Errorf("identity of node %d: %w", id.Node, err)
	}
	return t, nil
}

// verify checks a chain that another node showed and returns which node that is. want 0: any.
func (t *trust) verify(chain []*x509.Certificate, want NodeID, usage x509.ExtKeyUsage) (NodeID, error) {
	if len(chain) == 0 {
		return 0, errors.New("no certificate shown")
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots:       t.roots,
		KeyUsages:   []x509.ExtKeyUsage{usage},
		CurrentTime: t.at,
	})
	if invalid := (x509.CertificateInvalidError{}); errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		return 0, &WrongTimeError{From: invalid.Cert.NotBefore, To: invalid.Cert.NotAfter}
	}
	if err != nil {
		return 0, fmt.Errorf("certificate is not of this cluster: %w", err)
	}
	cluster, node, err := parseNodeURI(chain[0])
	if err != nil {
		return 0, err
	}
	if cluster != t.cluster {
		return 0, fmt.Errorf("certificate is of cluster %s, this is cluster %s", cluster, t.cluster)
	}
	if want != 0 && node != want {
		return 0, fmt.Errorf("certificate is node %d's, not node %d's: check the node's address", node, want)
	}
	return node, nil
}

func baseConfig(alpn string) *tls.Config {
	return &tls.Config{
		MinVersion:                  tls.VersionTLS13,
		NextProtos:                  []string{alpn},
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true, // whole records from the first byte: fewer of them
	}
}

// dialConfig expects one node.
func (t *trust) dialConfig(node NodeID) *tls.Config {
	config := baseConfig(peerALPN)
	config.Certificates = []tls.Certificate{t.own}
	config.InsecureSkipVerify = true // names are no host names: VerifyConnection checks them
	config.VerifyConnection = func(s tls.ConnectionState) error {
		_, err := t.verify(s.PeerCertificates, node, x509.ExtKeyUsageServerAuth)
		return err
	}
	return config
}

// listenConfig expects any node of the cluster, or one that asks to join.
func (t *trust) listenConfig() *tls.Config {
	peers := baseConfig(peerALPN)
	peers.Certificates = []tls.Certificate{t.own}
	peers.ClientAuth = tls.RequireAnyClientCert // VerifyConnection checks it
	peers.VerifyConnection = func(s tls.ConnectionState) error {
		_, err := t.verify(s.PeerCertificates, 0, x509.ExtKeyUsageClientAuth)
		return err
	}
	joins := baseConfig(joinALPN)
	joins.Certificates = []tls.Certificate{t.own}

	config := baseConfig(peerALPN)
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		switch {
		case slices.Contains(hello.SupportedProtos, peerALPN):
			return peers, nil
		case slices.Contains(hello.SupportedProtos, joinALPN):
			return joins, nil
		default:
			return nil, fmt.Errorf("neither a node nor a join: protocols %q", hello.SupportedProtos)
		}
	}
	return config
}

// joinConfig expects any node whose chain ends in the CA with the fingerprint (hex SHA-256).
// wrongTime is set in the handshake when the chain is good but for the time.
func joinConfig(fingerprint string) (config *tls.Config, wrongTime *bool, err error) {
	want, err := hex.DecodeString(strings.TrimSpace(fingerprint))
	if err != nil || len(want) != sha256.Size {
		return nil, nil, fmt.Errorf("CA fingerprint %q is not 64 hex digits: copy it from the cluster", fingerprint)
	}
	wrongTime = new(bool)
	config = baseConfig(joinALPN)
	config.InsecureSkipVerify = true // the fingerprint says whom to trust: VerifyConnection
	config.VerifyConnection = func(s tls.ConnectionState) error {
		if s.NegotiatedProtocol != joinALPN {
			return foreignError("what answers there speaks TLS, but is no trinas agent: use the address that trinas status " +
				"shows on a member")
		}
		err := verifyFingerprint(s.PeerCertificates, want, time.Time{})
		if late := (*WrongTimeError)(nil); errors.As(err, &late) {
			// A time inside of both lives, for a node's is the shorter and the later.
			*wrongTime = true
			err = verifyFingerprint(s.PeerCertificates, want, late.From.Add(clockSlack))
		}
		return err
	}
	return config, wrongTime, nil
}

// foreignError: what answered a join is not of the cluster that the fingerprint names.
type foreignError string

func (e foreignError) Error() string { return string(e) }

// verifyFingerprint checks a chain against a CA's fingerprint, as of the time at (zero: now).
func verifyFingerprint(chain []*x509.Certificate, want []byte, at time.Time) error {
	for _, ca := range chain {
		sum := sha256.Sum256(ca.Raw)
		if !bytes.Equal(sum[:], want) {
			continue
		}
		cluster, _, err := parseNodeURI(chain[0])
		if err != nil {
			return err
		}
		if err := checkCA(ca, cluster); err != nil {
			return err
		}
		found := &trust{cluster: cluster, roots: x509.NewCertPool(), at: at}
		found.roots.AddCert(ca)
		_, err = found.verify(chain, 0, x509.ExtKeyUsageServerAuth)
		return err
	}
	return foreignError("the node there is of another cluster than the token (its CA has another fingerprint): use an " +
		"address of the token's cluster, or make a token on that node (trinas token)")
}
