package lab

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"trinas/packaging/lab/guest"
)

// maxGuests is how many guests a lab may run in its life: what host numbers are left.
const maxGuests = 250 - MaxNodes

// RunGuest runs a machine with a kernel of its own and returns the exit status of its program. With a
// node it is that node's kernel, as far as NFS can see: the guest's 127.0.0.0/8 is the node's. Without
// one (nil) it is one more host on the nodes' network. Either way it reaches every node by its address.
// The lab fills in what places the machine: Dir, Prefix, Tap and Network; prepare is called before
// the boot, when Dir is known.
func (l *Lab) RunGuest(ctx context.Context, m *guest.Machine, on *Node, prepare func() error) (status int, err error) {
	number := int(l.guests.Add(1))
	if number > maxGuests {
		return 0, fmt.Errorf("a lab runs %d guests at most", maxGuests)
	}
	m.Tap = fmt.Sprintf("guest%d", number)
	m.Dir = filepath.Join(l.Dir, m.Tap)
	ns, plug := l.net.hub.NS, plugIntoBridge
	if on != nil {
		ns, plug = on.NS, on.plug
	}
	m.Prefix = []string{"ip", "netns", "exec", ns}
	if err := prepare(); err != nil {
		return 0, err
	}
	// The tap device has to offer checksums and segments of the virtio kind (vnet_hdr), which the
	// kernel's vector driver uses.
	if err := runAll(ctx, "ip -n "+ns+" tuntap add dev "+m.Tap+" mode tap vnet_hdr"); err != nil {
		return 0, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
		defer cancel()
		err = errors.Join(err, runAll(ctx, "ip -n "+ns+" link del "+m.Tap))
	}()
	var outside []string
	outside, m.Network = plug(ns, m.Tap, MaxNodes+number)
	if err := runAll(ctx, outside...); err != nil {
		return 0, err
	}
	return m.Run(ctx)
}

// plugIntoBridge returns the commands, outside of the guest and inside, that make a guest one more
// host of the network.
func plugIntoBridge(ns, tap string, number int) (outside, inside []string) {
	outside = []string{"ip -n " + ns + " link set " + tap + " master br0 up"}
	inside = []string{
		"ip link set lo up",
		fmt.Sprintf("ip addr add 10.77.0.%d/24 dev vec0", number),
		"ip link set vec0 up",
	}
	return outside, inside
}

// plug returns the commands, outside of the guest and inside, that make the node's loopback the
// guest's, and the guest a host of the network whose packets the node forwards. No address is
// translated and nothing relays: the agent sees a client on the loopback, 127.0.0.101 or above,
// and the guest's kernel gets the RST or FIN that the node's kernel sends when the agent is killed.
//
// Linux keeps 127.0.0.0/8 on lo, unless an interface has route_localnet.
func (n *Node) plug(ns, tap string, number int) (outside, inside []string) {
	loopback, address := fmt.Sprintf("127.0.0.%d", number), fmt.Sprintf("10.77.0.%d", number)
	in := "ip netns exec " + ns + " "
	outside = []string{
		"ip -n " + ns + " link set " + tap + " up",
		in + "sysctl -q -w net.ipv4.conf." + tap + ".route_localnet=1",
		// In table local, which is asked first: there it wins over 127.0.0.0/8.
		"ip -n " + ns + " route add " + loopback + "/32 dev " + tap + " table local",
		"ip -n " + ns + " route add " + address + "/32 dev " + tap,
		in + "sysctl -q -w net.ipv4.ip_forward=1 net.ipv4.conf.eth0.proxy_arp=1 net.ipv4.neigh.eth0.proxy_delay=0",
	}
	inside = []string{
		"ip link set lo up",
		"ip addr flush dev lo", // its own 127.0.0.1
		"sysctl -q -w net.ipv4.conf.vec0.route_localnet=1",
		"ip addr add " + loopback + "/32 dev vec0",
		"ip addr add " + address + "/32 dev vec0",
		"ip link set vec0 up",
		"ip route add 127.0.0.0/8 dev vec0 src " + loopback,
		"ip route add 10.77.0.0/24 via " + n.Addr + " dev vec0 onlink src " + address,
	}
	return outside, inside
}
