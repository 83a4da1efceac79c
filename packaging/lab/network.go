package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// network joins hosts by a bridge. The bridge has a namespace of its own, so that nothing appears
// in the machine's network and none of its firewall rules apply.
//
//	trinas-PID-n1: lo, eth0 10.77.0.1 --+
//	trinas-PID-n2: lo, eth0 10.77.0.2 --+-- trinas-PID-switch: br0
//	trinas-PID-n3: lo, eth0 10.77.0.3 --+
type network struct {
	lab   string // part of the namespaces' names, see Options.Name
	hub   *Host
	hosts []*Host // in the order of their names
}

// Subnet is the lab's network, of nodes and guests.
const Subnet = "10.77.0.0/24"

// hostAddress is the address of the network's host number i, from 0.
func hostAddress(i int) string { return fmt.Sprintf("10.77.0.%d", i+1) }

func openNetwork(ctx context.Context, lab string, names []string) (*network, error) {
	removeStale()
	hub, err := openHost(ctx, lab, "switch")
	if err != nil {
		return nil, err
	}
	w := &network{lab: lab, hub: hub}
	if err := w.connect(ctx, names); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

func (w *network) connect(ctx context.Context, names []string) error {
	if err := runAll(ctx,
		"ip -n "+w.hub.NS+" link add br0 type bridge",
		"ip -n "+w.hub.NS+" link set br0 up",
	); err != nil {
		return err
	}
	for _, name := range names {
		if _, err := w.attach(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// attach makes the network's next host.
func (w *network) attach(ctx context.Context, name string) (*Host, error) {
	host, err := openHost(ctx, w.lab, name)
	if err != nil {
		return nil, err
	}
	w.hosts = append(w.hosts, host)
	number := len(w.hosts)
	port := fmt.Sprintf("port%d", number)
	return host, runAll(ctx,
		"ip -n "+host.NS+" link add eth0 type veth peer name "+port+" netns "+w.hub.NS,
		"ip -n "+w.hub.NS+" link set dev "+port+" master br0 up",
		"ip -n "+host.NS+" addr add "+hostAddress(number-1)+"/24 dev eth0",
		"ip -n "+host.NS+" link set eth0 up",
	)
}

// plug pulls a host's cable out of the bridge (down) or puts it back (up). The host's interface keeps
// its addresses and routes and loses its carrier, as a machine's does: nothing is refused, all is lost.
func (w *network) plug(ctx context.Context, host *Host, state string) error {
	port := fmt.Sprintf("port%d", slices.Index(w.hosts, host)+1)
	return runAll(ctx, "ip -n "+w.hub.NS+" link set "+port+" "+state)
}

// close removes all hosts. May be called twice.
func (w *network) close() error {
	var errs []error
	for _, host := range append(w.hosts, w.hub) {
		if host != nil {
			errs = append(errs, host.Close())
		}
	}
	w.hosts, w.hub = nil, nil
	return errors.Join(errs...)
}
