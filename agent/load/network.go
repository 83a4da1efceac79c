package load

import (
	"net/netip"
	"os"
	"path/filepath"
	"time"

	stdnet "net"

	"github.com/shirou/gopsutil/v3/net"
)

// role is what an interface is for.
type role struct {
	physical bool // it has a device
	peer     bool // it leads to another node
}

// rolesFor is how long roles are taken for true: addresses and cards seldom change.
const rolesFor = time.Minute

// network fills in the interfaces' rates, and gives those of all interfaces by name.
func (s *Sampler) network(r *Report, span float64) map[string]Rate {
	all, err := net.IOCountersWithContext(s.ctx, true)
	if err != nil {
		s.nets = nil
		return nil
	}
	rates := make(map[string]Rate, len(all))
	now := make(map[string]net.IOCountersStat, len(all))
	if r.Time.After(s.rolesUntil) {
		s.findRoles(all)
		s.rolesUntil = r.Time.Add(rolesFor)
	}
	var physical, other Rate
	hasPhysical := false
	for _, c := range all {
		now[c.Name] = c
		before, known := s.nets[c.Name]
		if !known {
			before = c
		}
		i := Interface{Name: c.Name, Rate: Rate{In: rate(before.BytesRecv, c.BytesRecv, span), Out: rate(before.BytesSent, c.BytesSent, span)},
			ErrorsPerSec: rate(before.Errin+before.Dropin+before.Errout+before.Dropout, c.Errin+c.Dropin+c.Errout+c.Dropout, span)}
		rates[c.Name] = i.Rate
		role := s.roles[c.Name]
		i.Peer = role.peer
		switch {
		case role.physical:
			physical.add(i.Rate)
			hasPhysical = true
		case c.Name != "lo":
			other.add(i.Rate)
		}
		if role.peer {
			r.PeerNetwork.add(i.Rate)
		}
		if role.physical || role.peer {
			r.Interfaces = append(r.Interfaces, i)
		}
	}
	r.Network = other
	if hasPhysical {
		r.Network = physical
	}
	s.nets = now
	return rates
}

// findRoles looks up which interfaces are cards, and which lead to other nodes.
func (s *Sampler) findRoles(all []net.IOCountersStat) {
	s.roles = map[string]role{}
	for _, c := range all {
		if _, err := os.Stat(filepath.Join(s.opt.Sys, "class/net", c.Name, "device")); err == nil {
			s.roles[c.Name] = role{physical: true}
		}
	}
	if s.opt.Peers == nil {
		return
	}
	from := map[netip.Addr]bool{}
	for _, peer := range s.opt.Peers() {
		if a, ok := sourceTo(peer); ok {
			from[a] = true
		}
	}
	interfaces, err := stdnet.Interfaces()
	if err != nil || len(from) == 0 {
		return
	}
	for _, i := range interfaces {
		addrs, _ := i.Addrs()
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && from[p.Addr().Unmap()] {
				role := s.roles[i.Name]
				role.peer = true
				s.roles[i.Name] = role
			}
		}
	}
}

// sourceTo is the address of this machine from which it reaches another: a UDP socket is told by
// connect(2), and nothing is sent.
func sourceTo(peer string) (netip.Addr, bool) {
	to, err := netip.ParseAddrPort(peer)
	if err != nil {
		return netip.Addr{}, false
	}
	conn, err := stdnet.DialUDP("udp", nil, stdnet.UDPAddrFromAddrPort(to))
	if err != nil {
		return netip.Addr{}, false
	}
	defer conn.Close()
	return conn.LocalAddr().(*stdnet.UDPAddr).AddrPort().Addr().Unmap(), true
}
