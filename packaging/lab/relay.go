package lab

import (
	"errors"
	"fmt"
	"net"
	"time"

	"trinas/packaging/lab/relay"
)

// relayAddress is what a node's gateway knows the clients of its relay by: neither the node's own
// nor one that a client of the lab has.
const relayAddress = "127.0.0.3"

// relayDialTimeout bounds one attempt: on a loopback all but an instant is one lost packet.
const relayDialTimeout = 2 * time.Second

// OpenRelay starts a relay on the node, before its NFS server, for the clients of one guest. It is
// reached at any of the node's addresses, at the port returned.
func (n *Node) OpenRelay() (r *relay.Relay, port int, err error) {
	var l net.Listener
	nsErr := inNamespace(n.NS, func() { l, err = net.Listen("tcp4", "0.0.0.0:0") })
	if err = errors.Join(nsErr, err); err != nil {
		return nil, 0, fmt.Errorf("relay on %s: %w", n.Name, err)
	}
	dial := func(clientPort int) (nc net.Conn, err error) {
		from := net.Dialer{Timeout: relayDialTimeout, LocalAddr: &net.TCPAddr{IP: net.ParseIP(relayAddress), Port: clientPort}}
		nsErr := inNamespace(n.NS, func() { nc, err = from.Dial("tcp4", n.NFS()) })
		return nc, errors.Join(nsErr, err)
	}
	return relay.Open(l, dial), l.Addr().(*net.TCPAddr).Port, nil
}
