package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime/metrics"
	"strings"
	"time"

	"trinas/agent/config"
	"trinas/agent/control"
	"trinas/replica"
)

// This file is the daemon as the control API sees it (control.Agent).

// About describes the daemon.
func (d *daemon) About() control.About {
	memory := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/total:bytes"}}
	metrics.Read(memory)
	d.mu.Lock()
	defer d.mu.Unlock()
	nfs := ""
	if d.serving != nil {
		nfs = addressesText(d.serving.Addrs())
	}
	return control.About{
		Version: versionText(), Level: control.Level, State: d.state, DataDir: d.config.DataDir, NFS: nfs,
		PID: os.Getpid(), UptimeSec: int64(time.Since(d.started) / time.Second),
		HeapBytes: memory[0].Value.Uint64(), MemoryBytes: memory[1].Value.Uint64(),
	}
}

// Cluster returns the node, or replica.ErrNoIdentity.
func (d *daemon) Cluster() (control.Cluster, error) {
	node := d.currentNode()
	if node == nil {
		return nil, replica.ErrNoIdentity
	}
	return node, nil
}

// Load gives what is known of all nodes' load.
func (d *daemon) Load(history time.Duration) (control.Load, error) {
	d.mu.Lock()
	keeper := d.load
	d.mu.Unlock()
	if keeper == nil {
		return control.Load{}, replica.ErrNoIdentity
	}
	return keeper.load(history), nil
}

// Init makes this node the first of a new cluster.
func (d *daemon) Init(ctx context.Context, cluster, name string) (control.Invitation, error) {
	if cluster == "" || len(cluster) > 63 {
		return control.Invitation{}, fmt.Errorf("name of the cluster = %q: must be 1 to 63 bytes", cluster)
	}
	var token string
	node, err := d.enter(ctx, name, func(opt replica.Options, name string) (err error) {
		token, err = replica.Init(opt, cluster, name)
		d.founded = err == nil
		return err
	})
	if err != nil {
		return control.Invitation{}, err
	}
	return control.NewInvitation(node.Status(ctx), token), nil
}

// Join makes this node a member of the cluster that the node at address belongs to. Without a port
// it is the one that agents listen on where nothing else is configured.
func (d *daemon) Join(ctx context.Context, name, address, token string) error {
	if _, _, err := net.SplitHostPort(address); err != nil {
		address = net.JoinHostPort(strings.Trim(address, "[]"), config.PeerPort)
	}
	_, err := d.enter(ctx, name, func(opt replica.Options, name string) error {
		return replica.Join(ctx, opt, name, address, token)
	})
	return err
}

// enter gives the data directory an identity by makeIdentity, opens the node, and lets Run go on.
// name "": as configured.
func (d *daemon) enter(ctx context.Context, name string, makeIdentity func(replica.Options, string) error) (*replica.Node, error) {
	if name == "" {
		name = d.config.Node.Name
	}
	if d.config.Node.Given && name != d.config.Node.Name {
		return nil, fmt.Errorf("name of the node = %q: node.name is configured as %q; leave one of them out", name, d.config.Node.Name)
	}
	if err := config.ValidName("name of the node", name); err != nil {
		return nil, err
	}
	d.entering.Lock()
	defer d.entering.Unlock()
	if node := d.currentNode(); node != nil {
		st := node.Status(ctx)
		return nil, &control.Error{
			Text: fmt.Sprintf("this node belongs to cluster %s already, as %s", st.Cluster.Name, st.Node.Name),
			Hint: "another cluster needs an empty data directory: set data_dir, or stop the agent and see trinas wipe",
		}
	}
	node, err := d.openNew(name, makeIdentity)
	if err != nil {
		return nil, err
	}
	d.setNode(node)
	if err := node.Welcomed(ctx); err != nil {
		return nil, err
	}
	return node, nil
}

// openNew makes the identity and opens the node. The port for the other nodes is taken before the
// cluster hears of this node: one that is in use must not leave a member that cannot be reached,
// and the cluster connects back before it admits a node.
func (d *daemon) openNew(name string, makeIdentity func(replica.Options, string) error) (*replica.Node, error) {
	opt := d.replicaOptions()
	var err error
	if opt.Advertise, err = d.config.AdvertiseAddress(); err != nil {
		return nil, err
	}
	opt.Listener, err = net.Listen("tcp", d.config.Peer.Listen)
	if err != nil {
		return nil, fmt.Errorf("peer.listen: %w: stop what listens there (trinas check names it), or set another address", err)
	}
	if err := makeIdentity(opt, name); err != nil {
		opt.Listener.Close()
		return nil, err
	}
	node, err := replica.Open(opt)
	if err != nil {
		opt.Listener.Close()
		return nil, fmt.Errorf("this node is a member of the cluster now, but it cannot be opened: %w; mend that and restart the agent", err)
	}
	return node, nil
}
