package replica

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"trinas/replica/transport"
	"trinas/replica/volume"
)

// reachTimeout bounds how long a member tries to connect to a node that wants to join. It and the
// command that admits the node have to fit into the time that the transport gives a join.
const reachTimeout = 3 * time.Second

// admit answers a node that wants to join (transport.Options.Join). Everything that can be wrong
// is looked for before the cluster is told: a refusal changes nothing.
func (n *Node) admit(ctx context.Context, remote net.Addr, raw []byte) ([]byte, error) {
	var r joinRequest
	if err := json.Unmarshal(raw, &r); err != nil {
		return nil, errors.New("the request cannot be decoded: install the same version of trinas on both nodes")
	}
	if err := n.checkJoin(r); err != nil {
		return nil, err
	}
	before := n.cluster.view()
	// A key that cannot be signed must not use up the token: sign with the number it would get.
	if _, err := transport.SignNode([]byte(before.CA), []byte(before.CAKey), []byte(r.CSR), before.NextNode, n.identity.transport().Cluster); err != nil {
		return nil, fmt.Errorf("sign the node's key: %w", err)
	}
	reach, cancel := context.WithTimeout(ctx, reachTimeout)
	err := n.opt.Reach(reach, r.Address)
	cancel()
	if err != nil {
		return nil, fmt.Errorf("node %q cannot connect back to %s: %w: open the port in the firewall, or set peer.advertise "+
			"to an address that the other nodes reach", n.identity.Name, r.Address, err)
	}
	hash := hashSecret(r.Secret)
	index, errno, err := n.command(ctx, clusterCommand{Do: cmdAddNode,
		Node: &Member{Name: r.Name, Address: r.Address}, Token: &joinToken{Hash: hash}})
	if err != nil {
		return nil, err
	}
	if err := n.group(clusterGroup).applied.wait(ctx, index); err != nil {
		return nil, errors.New("this node has not caught up: try again")
	}
	s := n.cluster.view()
	switch errno {
	case volume.OK:
	case volume.EACCES:
		return nil, s.refusal(hash, r.Name, time.Now())
	case volume.EEXIST:
		return nil, s.conflict(r)
	default:
		return nil, fmt.Errorf("the cluster has its most of %d nodes", maxNodes)
	}
	t := s.token(hash)
	if t == nil || s.node(t.Node) == nil {
		return nil, fmt.Errorf("node %q was removed meanwhile: try again", r.Name)
	}
	cert, err := transport.SignNode([]byte(s.CA), []byte(s.CAKey), []byte(r.CSR), t.Node, n.identity.transport().Cluster)
	if err != nil {
		return nil, fmt.Errorf("sign the node's key: %w", err)
	}
	n.log.Info("node admitted", "event", "node-joined", "name", r.Name, "address", r.Address, "from", remote.String())
	return json.Marshal(joinAnswer{Cluster: s.Cluster, ClusterName: s.Name, Node: t.Node, CA: s.CA,
		Cert: string(cert), Peers: s.Nodes})
}

// checkJoin looks at what can be judged by the request alone. Versions come first: the rest of a
// request in another format may mean something else.
func (n *Node) checkJoin(r joinRequest) error {
	if r.Format != joinFormat {
		older := "this node"
		if r.Format > joinFormat {
			older = "node " + n.identity.Name
		}
		return fmt.Errorf("this node runs trinas %s, node %s runs %s, and they cannot join with each other: upgrade %s",
			orUnknown(r.Version), n.identity.Name, orUnknown(n.opt.Version), older)
	}
	if d := time.Until(time.Unix(0, r.Time)); d.Abs() > mostClockDifference {
		way := "ahead of"
		if d < 0 {
			way = "behind"
		}
		return fmt.Errorf("the clock of this node is %s %s node %s's: set them right (timedatectl, chrony), then join again",
			d.Abs().Round(time.Second), way, n.identity.Name)
	}
	if r.Secret == "" { // the clocks agree, so its complaint about the time is right
		return fmt.Errorf("the certificate of node %s is not good now, and the clocks of both nodes agree: set both clocks right, "+
			"or join through a node whose certificate is good (trinas check there)", n.identity.Name)
	}
	if err := checkName("node", r.Name); err != nil {
		return err
	}
	if _, _, err := net.SplitHostPort(r.Address); err != nil {
		return fmt.Errorf("address %q: set peer.advertise to host:port", r.Address)
	}
	return nil
}

// conflict says which member has the name or the address that a joining node wants.
func (s *clusterState) conflict(r joinRequest) error {
	for _, m := range s.Nodes {
		if strings.EqualFold(m.Name, r.Name) {
			return fmt.Errorf("a node named %q is a member already, at %s: choose another name (--node), or see trinas status",
				m.Name, m.Address)
		}
		if m.Address == r.Address {
			return fmt.Errorf("the address %s is member %q's: set peer.advertise to this node's own, or see trinas status",
				m.Address, m.Name)
		}
	}
	return errors.New("the name or the address was a member's: try again")
}

func orUnknown(version string) string {
	if version == "" {
		return "of an unknown version"
	}
	return version
}

// dialOnce is how a member finds out whether a node that wants to join can be reached.
func dialOnce(ctx context.Context, addr string) error {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return c.Close()
}
