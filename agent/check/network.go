package check

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"trinas/replica"
)

// Bounds of the checks between nodes.
const (
	connectTimeout   = 2 * time.Second
	roundTripWarning = 5 * time.Millisecond
)

// eachPeer looks at all other nodes at once and keeps their order.
func eachPeer(s Subject, look func(replica.Member, *replica.PeerProbe) []Finding) []Finding {
	found := make([][]Finding, len(s.Peers))
	var all sync.WaitGroup
	for i, m := range s.Peers {
		all.Go(func() { found[i] = look(m, s.probeOf(m.Name)) })
	}
	all.Wait()
	var out []Finding
	for _, f := range found {
		out = append(out, f...)
	}
	return out
}

// probeOf is what the agent found out about a node; nil when it could not be asked.
func (s Subject) probeOf(name string) *replica.PeerProbe {
	if s.Probe == nil {
		return nil
	}
	for i := range s.Probe.Peers {
		if s.Probe.Peers[i].Node == name {
			return &s.Probe.Peers[i]
		}
	}
	return nil
}

// checkNetwork connects to every other node's agent, and has it connect back.
func checkNetwork(ctx context.Context, s Subject, h Host) []Finding {
	if len(s.Peers) == 0 {
		return []Finding{{Check: "network", Text: "no other node is known yet"}}
	}
	return eachPeer(s, func(m replica.Member, p *replica.PeerProbe) []Finding {
		name := fmt.Sprintf("%s (%s)", m.Name, m.Address)
		dialing, cancel := context.WithTimeout(ctx, connectTimeout)
		defer cancel()
		start := time.Now()
		c, err := h.Dial(dialing, "tcp", m.Address)
		took := time.Since(start)
		if err != nil {
			return []Finding{{"network", Error, fmt.Sprintf("%s cannot be connected to: %v", name, err), connectRemedy(err, m)}}
		}
		c.Close()
		switch {
		case p == nil:
			return []Finding{roundTrip(name+" takes connections; the way back is not tested, since the agent here does not run", took)}
		case p.Error != "":
			return []Finding{{"network", Error, fmt.Sprintf("%s takes connections, but the agents do not talk: %s", name, p.Error),
				"journalctl -u trinas says why, on both nodes"}}
		case p.BackError != "":
			return []Finding{{"network", Error, fmt.Sprintf("%s cannot connect back to this node at %s: %s", name, s.Address, p.BackError),
				"open that port here in the firewall (nft list ruleset; on Proxmox the node's firewall), or set peer.advertise right"}}
		}
		return []Finding{roundTrip(name+" takes connections, and connects back", p.RoundTrip)}
	})
}

func connectRemedy(err error, m replica.Member) string {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Sprintf("start the agent on %s (systemctl start trinas), or see whether its firewall rejects", m.Name)
	}
	return fmt.Sprintf("see that %s is up, that the address is its own, and that no firewall drops TCP to it", m.Name)
}

func roundTrip(text string, took time.Duration) Finding {
	f := Finding{Check: "network", Text: fmt.Sprintf("%s; a round trip takes %s", text, took.Round(time.Microsecond))}
	if took > roundTripWarning {
		f.Level, f.Do = Warning, "every write waits for one: give the nodes a nearer or less busy network"
	}
	return f
}
