package transport

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// ClusterID names a cluster for ever; it is drawn at random when the cluster is made.
type ClusterID [16]byte

func (id ClusterID) String() string { return hex.EncodeToString(id[:]) }

// Identity is what a node shows to the others: its certificate and key, and the CA that it and
// they were signed by. All PEM.
type Identity struct {
	Cluster ClusterID
	Node    NodeID
	CA      []byte
	Cert    []byte
	Key     []byte
}

// Lifetimes of certificates. A node's clock may be behind the one that signed: certificates are
// good from clockSlack before they were made.
const (
	caYears    = 30
	nodeYears  = 10
	clockSlack = 24 * time.Hour

	uriScheme = "trinas"
)

// NewCA makes a cluster's certificate authority (ECDSA P-256). Whoever has keyPEM can add nodes.
func NewCA(cluster ClusterID, name string) (certPEM, keyPEM []byte, err error) {
	key, keyPEM, err := newKey()
	if err != nil {
		return nil, nil, fmt.Errorf("make the cluster's CA: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: name, Organization: []string{uriScheme}},
		URIs:                  []*url.URL{{Scheme: uriScheme, Host: cluster.String(), Path: "/ca"}},
		NotBefore:             now.Add(-clockSlack),
		NotAfter:              now.AddDate(caYears, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	certPEM, err = sign(template, template, &key.PublicKey, key)
	if err != nil {
		return nil, nil, fmt.Errorf("make the cluster's CA: %w", err)
	}
	return certPEM, keyPEM, nil
}

// NewKey makes a node's key and the request that SignNode signs. The key stays on the node.
func NewKey() (keyPEM, csrPEM []byte, err error) {
	key, keyPEM, err := newKey()
	if err != nil {
		return nil, nil, fmt.Errorf("make the node's key: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, nil, fmt.Errorf("make the node's certificate request: %w", err)
	}
	return keyPEM, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// SignNode makes the certificate of one node. Of the request only the public key counts, so that
// a node cannot choose who it is.
func SignNode(caCert, caKey, csrPEM []byte, node NodeID, cluster ClusterID) ([]byte, error) {
	if node == 0 {
		return nil, errors.New("sign a node's certificate: node id is 0")
	}
	ca, err := parseCA(caCert, cluster)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(caCert, caKey)
	if err != nil {
		return nil, fmt.Errorf("CA certificate and key: %w", err)
	}
	der, err := pemBlock(csrPEM, "CERTIFICATE REQUEST")
	if err != nil {
		return nil, fmt.Errorf("certificate request of node %d: %w", node, err)
	}
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("certificate request of node %d: %w", node, err)
	}
	if err := request.CheckSignature(); err != nil {
		return nil, fmt.Errorf("certificate request of node %d: %w", node, err)
	}
	public, ok := request.PublicKey.(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() {
		return nil, fmt.Errorf("certificate request of node %d: key is not ECDSA P-256", node)
	}
	now := time.Now()
	template := &x509.Certificate{
		Subject: pkix.Name{
			CommonName:   fmt.Sprintf("node %d", node),
			Organization: []string{uriScheme},
		},
		URIs:                  []*url.URL{nodeURI(cluster, node)},
		NotBefore:             now.Add(-clockSlack),
		NotAfter:              now.AddDate(nodeYears, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	cert, err := sign(template, ca, public, pair.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate of node %d: %w", node, err)
	}
	return cert, nil
}

// Fingerprint is the hex SHA-256 of a CA certificate, by which a joining node knows its cluster.
// It is empty when caPEM holds no certificate.
func Fingerprint(caPEM []byte) string {
	der, err := pemBlock(caPEM, "CERTIFICATE")
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// Validate checks that the parts belong together, and to a certificate that is good now.
func (id Identity) Validate() error {
	_, err := newTrust(id)
	return err
}

func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func sign(template, parent *x509.Certificate, public, signer any) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

func parseCA(caPEM []byte, cluster ClusterID) (*x509.Certificate, error) {
	der, err := pemBlock(caPEM, "CERTIFICATE")
	if err != nil {
		return nil, fmt.Errorf("CA certificate: %w", err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("CA certificate: %w", err)
	}
	return ca, checkCA(ca, cluster)
}

func checkCA(ca *x509.Certificate, cluster ClusterID) error {
	if !ca.IsCA {
		return errors.New("CA certificate: it is not a CA's")
	}
	if len(ca.URIs) != 1 || ca.URIs[0].Host != cluster.String() {
		return fmt.Errorf("CA certificate: it is not the CA of cluster %s", cluster)
	}
	return nil
}

func pemBlock(text []byte, kind string) ([]byte, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("no PEM block %q in it", kind)
	}
	return block.Bytes, nil
}

// nodeURI is the name in a node's certificate: trinas://<cluster id, hex>/node/<id, decimal>.
func nodeURI(cluster ClusterID, node NodeID) *url.URL {
	return &url.URL{
		Scheme: uriScheme,
		Host:   cluster.String(),
		Path:   "/node/" + strconv.FormatUint(node, 10),
	}
}

// parseNodeURI reads what nodeURI wrote, and nothing else.
func parseNodeURI(cert *x509.Certificate) (cluster ClusterID, node NodeID, err error) {
	if len(cert.URIs) != 1 {
		return cluster, 0, errors.New("certificate names no trinas node")
	}
	uri := cert.URIs[0]
	id, isNode := strings.CutPrefix(uri.Path, "/node/")
	raw, hexErr := hex.DecodeString(uri.Host)
	node, numErr := strconv.ParseUint(id, 10, 64)
	if !isNode || hexErr != nil || len(raw) != len(cluster) || numErr != nil || node == 0 {
		return cluster, 0, fmt.Errorf("certificate names no trinas node but %q", uri)
	}
	copy(cluster[:], raw)
	if uri.String() != nodeURI(cluster, node).String() {
		return cluster, 0, fmt.Errorf("certificate names no trinas node but %q", uri)
	}
	return cluster, node, nil
}
