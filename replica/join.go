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
)

// joinFormat is the version of the two messages below. Nodes join with the same one only.
const joinFormat = 1

// joinRequest is what a joining node sends, joinAnswer what it gets. Without a secret the request
// only asks to compare clocks.
type joinRequest struct {
	Format  int    `json:"format"`
	Version string `json:"version"` // of the program, for messages to people
	Secret  string `json:"secret,omitempty"`
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

// Join makes this node a member of the cluster that the node at addr (host:port) belongs to. After
// an error nothing of it is left in the data directory. What an attempt that was cut short left
// behind, here or in the cluster, the next one clears: the same token is good for the same name or
// address until the node has arrived.
func Join(ctx context.Context, opt Options, nodeName, addr, token string) error {
	opt = opt.withDefaults()
	if err := checkName("node", nodeName); err != nil {
		return err
	}
	if err := unused(opt); err != nil {
		return err
	}
	if err := checkAdvertise(opt.Advertise); err != nil {
		return err
	}
	if addr == opt.Advertise {
		return fmt.Errorf("%s is this node's own address: name a node that is a member of the cluster", addr)
	}
	parts := strings.Split(strings.TrimSpace(token), ".")
	if len(parts) != 3 || parts[0] != tokenPrefix {
		return errors.New("the token is not one that trinas token prints: copy it whole")
	}
	if err := prepare(opt); err != nil {
		return undo(opt, err)
	}
	id, err := askToJoin(ctx, opt, nodeName, addr, parts[1], parts[2])
	if err != nil {
		return undo(opt, fmt.Errorf("join through %s: %w", addr, err))
	}
	if err := id.write(opt); err != nil {
		return undo(opt, err)
	}
	return nil
}

func askToJoin(ctx context.Context, opt Options, nodeName, addr, secret, fingerprint string) (identity, error) {
	key, csr, err := transport.NewKey()
	if err != nil {
		return identity{}, err
	}
	r := joinRequest{Format: joinFormat, Version: opt.Version, Name: nodeName, Address: opt.Advertise,
		CSR: string(csr), Time: time.Now().UnixNano()}
	clockOnly, err := json.Marshal(r)
	if err != nil {
		return identity{}, err
	}
	r.Secret = secret
	whole, err := json.Marshal(r)
	if err != nil {
		return identity{}, err
	}
	raw, err := opt.RequestJoin(ctx, addr, fingerprint, transport.JoinRequest{Body: whole, WrongTime: clockOnly})
	if err != nil {
		return identity{}, err
	}
	var a joinAnswer
	if err := json.Unmarshal(raw, &a); err != nil {
		return identity{}, fmt.Errorf("decode its answer: %w: install the same version of trinas on both nodes", err)
	}
	id := identity{Format: identityFormat, Cluster: a.Cluster, ClusterName: a.ClusterName, Node: a.Node,
		Name: nodeName, CA: a.CA, Cert: a.Cert, Key: string(key), Peers: a.Peers}
	if err := id.transport().Validate(); err != nil {
		return identity{}, fmt.Errorf("its answer does not hold together: %w", err)
	}
	return id, nil
}

func checkAdvertise(addr string) error {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return fmt.Errorf("address for the other nodes %q: %w; set peer.advertise to host:port", addr, err)
	}
	return nil
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
