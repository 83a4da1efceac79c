package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"trinas/agent/config"
	"trinas/agent/notify"
	"trinas/nfsgw"
	"trinas/nfsgw/rpc"
	"trinas/replica"
)

// listenNFS takes the socket from systemd, which stands for the loopback addresses of nfs.listen,
// or opens those: early, so that clients that come back while the log is replayed wait instead of
// being refused (the Linux client then pauses for 3 s). All other addresses are left to the
// gateway: that one of them cannot be had must not keep the node's own guests waiting.
func (d *daemon) listenNFS() error {
	socket, err := notify.Listener("nfs")
	if err != nil {
		return err
	}
	if socket != nil {
		d.nfs = append(d.nfs, socket)
	}
	for _, address := range d.config.NFS.Listen {
		ip := netip.MustParseAddrPort(address).Addr() // Validate has seen it
		switch {
		case socket != nil && (ip.IsLoopback() || address == socket.Addr().String()):
		case socket == nil && (ip.IsLoopback() || ip.IsUnspecified()):
			l, err := net.Listen("tcp", address)
			if err != nil {
				return fmt.Errorf("nfs.listen: %w: stop the other NFS server there, or set another address", err)
			}
			d.nfs = append(d.nfs, l)
		default:
			d.further = append(d.further, address)
		}
	}
	return nil
}

// serveNFS starts to answer on the listeners, which are the gateway's from here on.
func (d *daemon) serveNFS(node *replica.Node) error {
	own := d.nfs
	d.nfs = nil
	gateway, err := nfsgw.Listen(node, nfsgw.Options{
		Listeners: own,
		Further:   d.further,
		Portmap:   d.config.NFS.Portmap,
		RPC: rpc.Options{
			MaxConns: d.config.NFS.MaxConnections, PrivilegedPorts: d.config.NFS.PrivilegedPorts,
			MaxTotalBytes: d.config.Memory.Share(4, 256*config.MiB), MaxConnBytes: d.config.Memory.Share(8, 32*config.MiB),
		},
		NoVolume: replica.ErrNoVolume,
		Log:      d.log.With("node", node.Name()),
	})
	if err != nil {
		return err
	}
	d.gateway = gateway
	d.setServing(gateway)
	return nil
}

func (d *daemon) setServing(gateway *nfsgw.Server) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.serving = gateway
}

func (d *daemon) currentGateway() *nfsgw.Server {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.serving
}

// stopNFS takes no more requests and waits for those under way.
func (d *daemon) stopNFS(ctx context.Context) error {
	if d.gateway == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	d.setServing(nil)
	if err := d.gateway.Shutdown(ctx); err != nil {
		d.log.Warn("requests under way were dropped: their clients send them again", "event", "requests-dropped", "cause", err)
	}
	return nil
}

func (d *daemon) closeListeners() error {
	var errs []error
	for _, l := range d.nfs {
		errs = append(errs, l.Close())
	}
	d.nfs = nil
	return errors.Join(errs...)
}

// addressesText is addresses with commas between.
func addressesText(addrs []net.Addr) string {
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.String()
	}
	return strings.Join(texts, ",")
}
