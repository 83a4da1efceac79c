package replica

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"trinas/replica/disk"
)

// Probe is what a node finds out about its connections to the others when it is asked to look.
type Probe struct {
	CertificateEnds time.Time   `json:"certificate_ends"` // this node's
	Peers           []PeerProbe `json:"peers"`            // by node number
}

// PeerProbe is one other node, as reached through the agents' own connection.
type PeerProbe struct {
	Node    string `json:"node"`
	Address string `json:"address"`
	Error   string `json:"error,omitempty"` // why it could not be asked; the rest is then empty

	RoundTrip       time.Duration `json:"round_trip_ns"`  // the shortest of some
	ClockAhead      time.Duration `json:"clock_ahead_ns"` // its clock less this node's, give or take half a round trip
	Version         string        `json:"version"`        // of the program
	Level           int           `json:"level"`          // what it can do (Options.Level); 0: it does not say
	CertificateEnds time.Time     `json:"certificate_ends"`
	BackError       string        `json:"back_error,omitempty"`  // why it cannot connect to this node
	LargeError      string        `json:"large_error,omitempty"` // why 64 KiB do not get there and back
}

// What a probe call asks for.
const (
	probeTime  = 0 // the clock, at once
	probeBack  = 1 // connect to the caller's address
	probeLarge = 2 // answer with as many bytes
)

const (
	probeRounds     = 5
	probeLargeBytes = 64 << 10
	probeTimeout    = 4 * time.Second // of a node's whole probe
	presentTimeout  = 2 * time.Second // of Present
)

type probeAnswer struct {
	Time            int64     `json:"time"` // nanoseconds since 1970
	Version         string    `json:"version"`
	Level           int       `json:"level"`
	CertificateEnds time.Time `json:"certificate_ends"`
	BackError       string    `json:"back_error,omitempty"`
}

// Probe asks every other node for its clock, its version, and whether it can connect back. It takes
// probeTimeout at most.
func (n *Node) Probe(ctx context.Context) Probe {
	return Probe{CertificateEnds: certificateEnds(n.identity.Cert), Peers: n.askPeers(ctx, probeTimeout, n.probe)}
}

// Present asks every other member, joining ones too, whether it answers, and for its Version and
// Level; the rest of the answers is empty. It takes presentTimeout at most.
func (n *Node) Present(ctx context.Context) []PeerProbe {
	return n.askPeers(ctx, presentTimeout, func(ctx context.Context, id uint64, p *PeerProbe) error {
		a, err := n.callProbe(ctx, id, []byte{probeTime})
		p.Version, p.Level = a.Version, a.Level
		return err
	})
}

// askPeers has ask find out about every other member at the same time, within timeout. By node
// number.
func (n *Node) askPeers(ctx context.Context, timeout time.Duration,
	ask func(ctx context.Context, id uint64, p *PeerProbe) error) []PeerProbe {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	members := slices.DeleteFunc(slices.Clone(n.cluster.view().Nodes), func(m Member) bool { return m.ID == n.id })
	out := make([]PeerProbe, len(members))
	var asking sync.WaitGroup
	for i, m := range members {
		p := &out[i]
		*p = PeerProbe{Node: m.Name, Address: m.Address}
		asking.Go(func() {
			if err := ask(ctx, m.ID, p); err != nil {
				*p = PeerProbe{Node: p.Node, Address: p.Address, Error: err.Error()}
			}
		})
	}
	asking.Wait()
	return out
}

func (n *Node) probe(ctx context.Context, id uint64, p *PeerProbe) error {
	for round := range probeRounds {
		sent := time.Now()
		a, err := n.callProbe(ctx, id, []byte{probeTime})
		if err != nil {
			return err
		}
		trip := time.Since(sent)
		if round == 0 || trip < p.RoundTrip {
			p.RoundTrip = trip
			p.ClockAhead = time.Unix(0, a.Time).Sub(sent.Add(trip / 2).Round(0))
		}
		p.Version, p.Level, p.CertificateEnds = a.Version, a.Level, a.CertificateEnds
	}
	large := make([]byte, probeLargeBytes)
	large[0] = probeLarge
	if _, err := n.callProbe(ctx, id, large); err != nil {
		p.LargeError = err.Error()
	}
	a, err := n.callProbe(ctx, id, []byte{probeBack})
	if err != nil {
		a.BackError = err.Error()
	}
	p.BackError = a.BackError
	return nil
}

func (n *Node) callProbe(ctx context.Context, id uint64, what []byte) (a probeAnswer, err error) {
	raw, err := n.net.Call(ctx, id, []byte{callProbe}, what)
	if err != nil {
		return a, err
	}
	raw, _, _ = bytes.Cut(raw, []byte{0}) // a large answer is followed by its padding
	if err := json.Unmarshal(raw, &a); err != nil {
		return a, fmt.Errorf("decode its answer: %w", err)
	}
	return a, nil
}

// answerProbe answers a probe of node from.
func (n *Node) answerProbe(ctx context.Context, from uint64, req, reply []byte) ([]byte, error) {
	if len(req) < 2 || len(req) > 1+probeLargeBytes {
		return nil, errors.New("call has the wrong length")
	}
	a := probeAnswer{Version: n.opt.Version, Level: n.opt.Level, CertificateEnds: certificateEnds(n.identity.Cert)}
	if req[1] == probeBack {
		a.BackError = n.reachBack(ctx, from)
	}
	a.Time = time.Now().UnixNano()
	raw, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	reply = append(reply, raw...)
	if req[1] == probeLarge {
		reply = append(reply, make([]byte, len(req))...)
	}
	return reply, nil
}

func (n *Node) reachBack(ctx context.Context, node uint64) string {
	s := n.cluster.view()
	m := s.node(node)
	if m == nil {
		return "this node is not a member"
	}
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	if err := n.opt.Reach(ctx, m.Address); err != nil {
		return err.Error()
	}
	return ""
}

// certificateEnds is when a certificate (PEM) stops being good; zero when it is none.
func certificateEnds(text string) time.Time {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return time.Time{}
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return time.Time{}
	}
	return cert.NotAfter
}

// Membership is what a data directory says of its node, its agent running or not. Members and
// volumes are as of the cluster's last checkpoint there, or of joining.
type Membership struct {
	Cluster         string // name
	Node            string // name
	ID              uint64
	CertificateEnds time.Time
	Members         []Member // this node too, where it has heard from the cluster
	Volumes         []VolumeInfo
}

// Inspect reads a data directory without opening the node. ErrNoIdentity when it is nobody's.
func Inspect(fsys disk.FS) (Membership, error) {
	id, err := readIdentity(fsys)
	if errors.Is(err, ErrNoIdentity) {
		if err := noOrphan(fsys); err != nil {
			return Membership{}, err
		}
	}
	if err != nil {
		return Membership{}, err
	}
	out := Membership{Cluster: id.ClusterName, Node: id.Name, ID: id.Node, CertificateEnds: certificateEnds(id.Cert), Members: id.Peers}
	m, err := openCluster(fsys)
	if err != nil {
		return out, err
	}
	if s := m.view(); len(s.Nodes) > 0 {
		out.Members, out.Volumes = s.Nodes, s.Volumes
	}
	return out, nil
}
