package replica

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"trinas/replica/disk"
	"trinas/replica/transport"
	"trinas/replica/volume"
	"trinas/replica/wal"
)

// identity is node.json: who this data directory is. Written last by Init and Join: without it
// the directory belongs to nobody.
type identity struct {
	Format      int      `json:"format"`
	Cluster     string   `json:"cluster"` // 32 hex digits
	ClusterName string   `json:"cluster_name"`
	Node        uint64   `json:"node"`
	Name        string   `json:"name"`
	CA          string   `json:"ca"`
	Cert        string   `json:"cert"`
	Key         string   `json:"key"`
	Peers       []Member `json:"peers"` // as of joining; the cluster's own list replaces it
}

const (
	identityFormat = 1
	firstNode      = 1 // the node that made the cluster
	tokenLife      = time.Hour
	tokenPrefix    = "trinas1"
)

func readIdentity(fsys disk.FS) (identity, error) {
	raw, err := readFile(fsys, identityFile)
	if errors.Is(err, fs.ErrNotExist) {
		return identity{}, ErrNoIdentity
	}
	if err != nil {
		return identity{}, fmt.Errorf("read the node's identity: %w", err)
	}
	path := fsys.Path(identityFile)
	var id identity
	if err := json.Unmarshal(raw, &id); err != nil {
		return identity{}, fmt.Errorf("decode %s: %w; bring the file back from a backup, or join again with an empty data directory", path, err)
	}
	if id.Format != identityFormat {
		return identity{}, fmt.Errorf("%s has format %d, this version knows %d: install the trinas version that wrote it", path, id.Format, identityFormat)
	}
	if err := id.transport().Validate(); err != nil {
		return identity{}, fmt.Errorf("%s: %w", path, err)
	}
	return id, nil
}

func (id identity) transport() transport.Identity {
	t := transport.Identity{Node: id.Node, CA: []byte(id.CA), Cert: []byte(id.Cert), Key: []byte(id.Key)}
	hex.Decode(t.Cluster[:], []byte(id.Cluster)) // a bad one does not fit the certificate: Validate
	return t
}

// write makes the data directory this identity's: an empty log first, so that a later start can
// tell a lost log from a new node.
func (id identity) write(opt Options) error {
	l, err := wal.Open(opt.Disk.Sub(logDir), wal.Options{SegmentBytes: opt.SegmentBytes}, opt.Log)
	if err != nil {
		return fmt.Errorf("make the log: %w", err)
	}
	if err := l.Close(); err != nil {
		return fmt.Errorf("make the log: %w", err)
	}
	raw, err := json.MarshalIndent(id, "", " ")
	if err != nil {
		return err
	}
	return replaceFile(opt.Disk, identityFile, append(raw, '\n'))
}

// unused fails unless the data directory is nobody's.
func unused(opt Options) error {
	id, err := readIdentity(opt.Disk)
	if errors.Is(err, ErrNoIdentity) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("data directory %s belongs to node %q of cluster %q already: use an empty one",
		opt.Disk.Path("."), id.Name, id.ClusterName)
}

// Init makes a new cluster with this node as its first, in an unused data directory, and returns
// a token with which another node can join (see NewToken).
func Init(opt Options, clusterName, nodeName string) (token string, err error) {
	opt = opt.withDefaults()
	if err := errors.Join(checkName("cluster", clusterName), checkName("node", nodeName), unused(opt)); err != nil {
		return "", err
	}
	if _, _, err := net.SplitHostPort(opt.Advertise); err != nil {
		return "", fmt.Errorf("address for the other nodes %q: %w; set peer.advertise to host:port", opt.Advertise, err)
	}
	var cluster transport.ClusterID
	rand.Read(cluster[:])
	ca, caKey, err := transport.NewCA(cluster, clusterName)
	if err != nil {
		return "", err
	}
	key, csr, err := transport.NewKey()
	if err != nil {
		return "", err
	}
	cert, err := transport.SignNode(ca, caKey, csr, firstNode, cluster)
	if err != nil {
		return "", err
	}
	text, tok := newToken(ca, time.Now())
	conf, err := proto.Marshal(&raftpb.ConfState{Voters: []uint64{firstNode}})
	if err != nil {
		return "", err
	}
	m := &clusterMachine{fs: opt.Disk.Sub(clusterDir)}
	if err := m.save(savedCluster{Index: 1, Term: 1, Conf: conf, State: clusterState{
		Format: firstFormat, Cluster: cluster.String(), Name: clusterName, CA: string(ca), CAKey: string(caKey),
		NextNode: firstNode + 1, Tokens: []joinToken{tok},
		Nodes: []Member{{ID: firstNode, Name: nodeName, Address: opt.Advertise}},
	}}); err != nil {
		return "", fmt.Errorf("write the cluster's state: %w", err)
	}
	err = identity{Format: identityFormat, Cluster: cluster.String(), ClusterName: clusterName, Node: firstNode,
		Name: nodeName, CA: string(ca), Cert: string(cert), Key: string(key)}.write(opt)
	return text, err
}

// newToken makes a token: the prefix, a secret, and the fingerprint of the cluster's authority,
// by which the joining node knows that it talks to the right cluster.
func newToken(ca []byte, now time.Time) (text string, tok joinToken) {
	var secret [16]byte
	rand.Read(secret[:])
	s := hex.EncodeToString(secret[:])
	return strings.Join([]string{tokenPrefix, s, transport.Fingerprint(ca)}, "."), joinToken{
		Hash: hashSecret(s), Expires: now.Add(tokenLife).UnixNano()}
}

func hashSecret(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// NewToken makes a token with which one node can join within an hour.
func (n *Node) NewToken(ctx context.Context) (string, error) {
	text, tok := newToken([]byte(n.identity.CA), time.Now())
	_, errno, err := n.command(ctx, clusterCommand{Do: cmdAddToken, Token: &tok})
	if err != nil {
		return "", fmt.Errorf("make a token: %w", err)
	}
	if errno != volume.OK {
		return "", fmt.Errorf("make a token: %d are unused already; use one of them, or wait an hour", maxTokens)
	}
	return text, nil
}

// joinRequest is what a joining node sends, joinAnswer what it gets.
type joinRequest struct {
	Secret  string `json:"secret"`
	Name    string `json:"name"`
	Address string `json:"address"`
	CSR     string `json:"csr"`
	Time    int64  `json:"time"` // nanoseconds since 1970
}

type joinAnswer struct {
	Cluster     string   `json:"cluster"`
	ClusterName string   `json:"cluster_name"`
	Node        uint64   `json:"node"`
	CA          string   `json:"ca"`
	Cert        string   `json:"cert"`
	Peers       []Member `json:"peers"`
}

// mostClockDifference is how far a joining node's clock may be off: file times come from whichever
// node is primary, so clocks must roughly agree.
const mostClockDifference = time.Minute

// Join makes this node a member of the cluster that the node at addr belongs to. Nothing is
// written unless the cluster has admitted it.
func Join(ctx context.Context, opt Options, nodeName, addr, token string) error {
	opt = opt.withDefaults()
	if err := errors.Join(checkName("node", nodeName), unused(opt)); err != nil {
		return err
	}
	if _, _, err := net.SplitHostPort(opt.Advertise); err != nil {
		return fmt.Errorf("address for the other nodes %q: %w; set peer.advertise to host:port", opt.Advertise, err)
	}
	parts := strings.Split(strings.TrimSpace(token), ".")
	if len(parts) != 3 || parts[0] != tokenPrefix {
		return errors.New("the token is not one that trinas token prints: copy it whole")
	}
	key, csr, err := transport.NewKey()
	if err != nil {
		return err
	}
	req, err := json.Marshal(joinRequest{Secret: parts[1], Name: nodeName, Address: opt.Advertise,
		CSR: string(csr), Time: time.Now().UnixNano()})
	if err != nil {
		return err
	}
	raw, err := opt.RequestJoin(ctx, addr, parts[2], req)
	if err != nil {
		return fmt.Errorf("join through %s: %w", addr, err)
	}
	var a joinAnswer
	if err := json.Unmarshal(raw, &a); err != nil {
		return fmt.Errorf("join through %s: decode its answer: %w", addr, err)
	}
	id := identity{Format: identityFormat, Cluster: a.Cluster, ClusterName: a.ClusterName, Node: a.Node,
		Name: nodeName, CA: a.CA, Cert: a.Cert, Key: string(key), Peers: a.Peers}
	if err := id.transport().Validate(); err != nil {
		return fmt.Errorf("join through %s: its answer does not hold together: %w", addr, err)
	}
	return id.write(opt)
}

// Welcomed returns when this node knows the cluster and has a vote in it, some seconds after Join.
// Until then the cluster cannot yet lose another node on its account.
func (n *Node) Welcomed(ctx context.Context) error {
	for {
		if g := n.group(clusterGroup); g != nil {
			st, ok := g.raftStatus()
			if _, votes := st.Config.Voters.IDs()[n.id]; ok && votes {
				return nil
			}
		}
		if err := n.pause(ctx, nil, 4); err != nil {
			return fmt.Errorf("node %s was admitted, but has not caught up with the cluster: %w; see trinas status here and on another node, and whether %s can be reached from there",
				n.identity.Name, err, n.opt.Advertise)
		}
	}
}

// admit answers a node that wants to join (transport.Options.Join).
func (n *Node) admit(ctx context.Context, remote net.Addr, raw []byte) ([]byte, error) {
	var r joinRequest
	if err := json.Unmarshal(raw, &r); err != nil {
		return nil, errors.New("the request cannot be decoded: install the same version of trinas on both nodes")
	}
	if err := checkName("node", r.Name); err != nil {
		return nil, err
	}
	if _, _, err := net.SplitHostPort(r.Address); err != nil {
		return nil, fmt.Errorf("address %q: set peer.advertise to host:port", r.Address)
	}
	if d := time.Since(time.Unix(0, r.Time)); d.Abs() > mostClockDifference {
		return nil, fmt.Errorf("the clocks differ by %s: set them right (chrony), then join again", d.Abs().Round(time.Second))
	}
	before := n.cluster.view()
	// A key that cannot be signed must not use up the token: sign with the number it would get.
	if _, err := transport.SignNode([]byte(before.CA), []byte(before.CAKey), []byte(r.CSR), before.NextNode, n.identity.transport().Cluster); err != nil {
		return nil, fmt.Errorf("sign the node's key: %w", err)
	}
	index, errno, err := n.command(ctx, clusterCommand{Do: cmdAddNode,
		Node: &Member{Name: r.Name, Address: r.Address}, Token: &joinToken{Hash: hashSecret(r.Secret)}})
	if err != nil {
		return nil, err
	}
	switch errno {
	case volume.OK:
	case volume.EACCES:
		return nil, errors.New("the token is wrong, used or expired: make a new one with trinas token")
	case volume.EEXIST:
		return nil, fmt.Errorf("a node with the name %q or the address %s is a member already: choose another, or see trinas status", r.Name, r.Address)
	default:
		return nil, fmt.Errorf("the cluster has its most of %d nodes", maxNodes)
	}
	if err := n.group(clusterGroup).applied.wait(ctx, index); err != nil {
		return nil, errors.New("this node has not caught up: try again")
	}
	s := n.cluster.view()
	for _, m := range s.Nodes {
		if m.Name != r.Name {
			continue
		}
		cert, err := transport.SignNode([]byte(s.CA), []byte(s.CAKey), []byte(r.CSR), m.ID, n.identity.transport().Cluster)
		if err != nil {
			return nil, fmt.Errorf("sign the node's key: %w", err)
		}
		n.log.Info("node joined", "event", "node-joined", "name", m.Name, "address", m.Address, "from", remote.String())
		return json.Marshal(joinAnswer{Cluster: s.Cluster, ClusterName: s.Name, Node: m.ID, CA: s.CA,
			Cert: string(cert), Peers: s.Nodes})
	}
	return nil, fmt.Errorf("node %q was removed meanwhile", r.Name)
}

// peers are the other nodes' addresses: as the cluster knows them, or, until this node has heard
// from it, as they were when it joined.
func (n *Node) peers() map[uint64]string {
	members := n.cluster.view().Nodes
	if len(members) == 0 {
		members = n.identity.Peers
	}
	out := map[uint64]string{}
	for _, m := range members {
		if m.ID != n.id {
			out[m.ID] = m.Address
		}
	}
	return out
}
