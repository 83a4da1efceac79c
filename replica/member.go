package replica

import (
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"trinas/replica/transport"
)

// Init makes a new cluster with this node as its first, in an unused data directory, and returns
// a token with which another node can join (see NewToken).
func Init(opt Options, clusterName, nodeName string) (token string, err error) {
	opt = opt.withDefaults()
	if err := errors.Join(checkName("cluster", clusterName), checkName("node", nodeName)); err != nil {
		return "", err
	}
	if err := unused(opt); err != nil {
		return "", err
	}
	if err := checkAdvertise(opt.Advertise); err != nil {
		return "", err
	}
	if err := prepare(opt); err != nil {
		return "", undo(opt, err)
	}
	if token, err = found(opt, clusterName, nodeName); err != nil {
		return "", undo(opt, err)
	}
	return token, nil
}

// found makes the cluster's authority, its state and the first node's identity.
func found(opt Options, clusterName, nodeName string) (token string, err error) {
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
	m := &clusterMachine{fs: opt.Disk, saving: make(chan struct{}, 1)}
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

// followPeers makes connections and sessions what the cluster's state says.
func (n *Node) followPeers() {
	peers := n.peers()
	n.net.SetPeers(peers)
	n.sessions.follow(peers, n.opt.Clock())
}

// PeerAddresses are the other nodes' addresses, "host:port".
func (n *Node) PeerAddresses() []string { return slices.Collect(maps.Values(n.peers())) }

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
