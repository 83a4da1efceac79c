package config

import (
	"fmt"
	"net"
	"net/netip"
)

// AdvertiseAddress returns the address and port that other nodes reach this one at:
// peer.advertise where it is set, else the address of peer.listen, else, when that is a wildcard,
// the address that the host's name stands for (as Proxmox has it in /etc/hosts), else the one
// global unicast address this host has. Only to be called after Validate.
func (c *Config) AdvertiseAddress() (string, error) {
	if c.Peer.Advertise != "" {
		return c.Peer.Advertise, nil
	}
	listen, err := netip.ParseAddrPort(c.Peer.Listen)
	if err != nil {
		return "", fmt.Errorf("peer.listen: %w", err)
	}
	if !listen.Addr().IsUnspecified() {
		return listen.String(), nil
	}
	candidates := append(named(c.Node.Name), assigned()...)
	if len(candidates) == 0 {
		return "", fmt.Errorf("no address of this host is known that other nodes could reach: set peer.advertise")
	}
	return netip.AddrPortFrom(candidates[0], listen.Port()).String(), nil
}

// named returns the IPv4 addresses that name resolves to, without loopback (Debian's installer
// gives a host without a fixed address 127.0.1.1).
func named(name string) []netip.Addr {
	found, err := net.LookupIP(name)
	if err != nil {
		return nil
	}
	return usable(found)
}

// assigned returns this host's only IPv4 address, or none when there are several: which of them
// the cluster uses is then the admin's to say.
func assigned() []netip.Addr {
	nets, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var all []net.IP
	for _, n := range nets {
		if p, ok := n.(*net.IPNet); ok {
			all = append(all, p.IP)
		}
	}
	if found := usable(all); len(found) == 1 {
		return found
	}
	return nil
}

func usable(ips []net.IP) []netip.Addr {
	var out []netip.Addr
	for _, ip := range ips {
		if a, ok := netip.AddrFromSlice(ip); ok && a.Unmap().Is4() && a.Unmap().IsGlobalUnicast() {
			out = append(out, a.Unmap())
		}
	}
	return out
}
