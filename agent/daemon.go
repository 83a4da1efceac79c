package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"trinas/agent/config"
	"trinas/agent/control"
	"trinas/agent/datadir"
	"trinas/agent/notify"
	"trinas/nfsgw"
	"trinas/nfsgw/rpc"
	"trinas/replica"
	"trinas/replica/disk"
)

// A stop may take stopTimeout; systemd would kill the agent much later.
const (
	stopTimeout     = 10 * time.Second
	handOverTimeout = 3 * time.Second
	requestTimeout  = 5 * time.Second
)

// daemon is one run of the agent. Run starts its parts in the order of the fields; Close stops
// them in reverse.
type daemon struct {
	config  config.Config
	pprof   string // address, "": none
	log     *slog.Logger
	systemd *notify.Systemd
	started time.Time

	lock     *datadir.Lock
	profiles *profiles
	listener net.Listener // for NFS; the gateway's once it serves
	control  *control.Server
	gateway  *nfsgw.Server

	// member has the node once the data directory has an identity, from the start or by Init or
	// Join.
	member chan *replica.Node
	// entering is held by Init and Join, so that only one of them makes the identity.
	entering sync.Mutex

	mu    sync.Mutex
	state string
	node  *replica.Node
	nfs   string // address that the gateway serves at
}

func newDaemon(cfg config.Config, pprof string, log *slog.Logger) *daemon {
	return &daemon{
		config: cfg, pprof: pprof, log: log, systemd: notify.New(log), started: time.Now(),
		member: make(chan *replica.Node, 1), state: "starting",
	}
}

// Run starts the agent, waits until ctx ends or a part of it fails, and stops it. It returns nil
// only after a stop that was asked for.
func (d *daemon) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, d.Close()) }()

	if err := d.lockDataDir(); err != nil {
		return err
	}
	if err := d.serveProfiles(); err != nil {
		return err
	}
	if err := d.listenNFS(); err != nil {
		return err
	}
	if err := d.openNode(); err != nil {
		return err
	}
	if err := d.serveControl(); err != nil {
		return err
	}
	node, err := d.waitForMembership(ctx)
	if node == nil {
		return err
	}
	if err := d.serveNFS(node); err != nil {
		return err
	}
	d.setState(control.Running)
	d.systemd.Ready(control.Running)
	d.log.Info("agent is ready", "version", versionText(), "node", node.Name(), "nfs", d.gateway.Addrs()[0].String())

	select {
	case <-ctx.Done():
		d.log.Info("agent was asked to stop")
		return nil
	case <-node.Done():
		return fmt.Errorf("the node has stopped itself: %w", node.Err())
	case err := <-d.gateway.Failed():
		return err
	}
}

// Close hands primaries over, finishes requests under way and stops every part, in stopTimeout at
// most. It may be called twice.
func (d *daemon) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	d.setState(control.Stopping)
	d.systemd.Stopping(control.Stopping)
	// First the others lead, while this node's own clients are still served, through them. The
	// control API, which can tell how far the stop is, outlives the gateway.
	d.handOver(ctx)
	return errors.Join(
		d.stopNFS(ctx),
		d.stopControl(ctx),
		d.stopNode(ctx),
		d.closeListener(),
		d.stopProfiles(),
		d.unlockDataDir(),
	)
}

func (d *daemon) lockDataDir() error {
	if err := os.MkdirAll(d.config.DataDir, 0o700); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	var err error
	d.lock, err = datadir.Exclusive(d.config.DataDir)
	if errors.Is(err, datadir.ErrInUse) {
		return fmt.Errorf("%w: another agent or a trinas rescue has it: stop that first", err)
	}
	return err
}

func (d *daemon) unlockDataDir() error {
	if d.lock == nil {
		return nil
	}
	return d.lock.Release()
}

// listenNFS takes the socket from systemd, or opens it: early, so that clients that come back
// while the log is replayed wait instead of being refused (the Linux client then pauses for 3 s).
func (d *daemon) listenNFS() error {
	l, err := notify.Listener("nfs")
	if err != nil {
		return err
	}
	if l == nil {
		if l, err = net.Listen("tcp", d.config.NFS.Listen); err != nil {
			return fmt.Errorf("nfs.listen: %w: stop the other NFS server there, or set another address", err)
		}
	}
	d.listener = l
	return nil
}

// serveNFS starts to answer on the listener, which is the gateway's from here on.
func (d *daemon) serveNFS(node *replica.Node) error {
	l := d.listener
	d.listener = nil
	gateway, err := nfsgw.Listen(node, nfsgw.Options{
		Listeners: []net.Listener{l},
		Portmap:   d.config.NFS.Portmap,
		RPC: rpc.Options{
			MaxConns: d.config.NFS.MaxConnections, PrivilegedPorts: d.config.NFS.PrivilegedPorts,
			MaxTotalBytes: d.config.Memory.Share(2, 256*config.MiB), MaxConnBytes: d.config.Memory.Share(8, 32*config.MiB),
		},
		NoVolume: replica.ErrNoVolume,
		Log:      d.log,
	})
	if err != nil {
		return err
	}
	d.gateway = gateway
	d.mu.Lock()
	d.nfs = l.Addr().String()
	d.mu.Unlock()
	return nil
}

// stopNFS takes no more requests and waits for those under way.
func (d *daemon) stopNFS(ctx context.Context) error {
	if d.gateway == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	d.mu.Lock()
	d.nfs = ""
	d.mu.Unlock()
	if err := d.gateway.Shutdown(ctx); err != nil {
		d.log.Warn("requests under way were dropped: their clients send them again", "cause", err)
	}
	return nil
}

func (d *daemon) closeListener() error {
	if d.listener == nil {
		return nil
	}
	err := d.listener.Close()
	d.listener = nil
	return err
}

// replicaOptions are the node's, without the address for the other nodes: only Init and Join need
// one, and a host may have none that can be found out before it is configured.
func (d *daemon) replicaOptions() replica.Options {
	c := d.config
	name := ""
	if c.Node.Given {
		name = c.Node.Name
	}
	return replica.Options{
		Name:               name,
		Disk:               disk.OS(c.DataDir),
		Listen:             c.Peer.Listen,
		LogBytes:           int64(c.Log.Limit),
		SegmentBytes:       int64(c.Log.Segment),
		LogCacheBytes:      c.Memory.Share(8, c.Log.Cache),
		UnderWayBytes:      c.Memory.Share(8, 32*config.MiB),
		CheckpointInterval: time.Duration(c.Checkpoint.Interval),

		ResyncBytesPerSecond: int64(c.Resync.Rate),
		Heartbeat:            time.Duration(c.Raft.Heartbeat),
		Election:             time.Duration(c.Raft.Election),
		Lease:                time.Duration(c.Raft.Lease),
		Log:                  d.log,
	}
}

// openNode opens the data directory. Without an identity there is no node yet.
func (d *daemon) openNode() error {
	node, err := replica.Open(d.replicaOptions())
	if errors.Is(err, replica.ErrNoIdentity) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open data directory %s: %w", d.config.DataDir, err)
	}
	d.setNode(node)
	return nil
}

// handOver gives away what the node leads. A volume that no other node could take over waits for
// one, or for this one to come back.
func (d *daemon) handOver(ctx context.Context) {
	node := d.currentNode()
	if node == nil || node.Err() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, handOverTimeout)
	defer cancel()
	if err := node.HandOver(ctx); err != nil {
		d.log.Warn("not everything was handed over", "cause", err)
	}
}

// stopNode stops the node.
func (d *daemon) stopNode(ctx context.Context) error {
	// A node that Init or Join is making right now must not be left behind.
	d.entering.Lock()
	defer d.entering.Unlock()
	node := d.currentNode()
	if node == nil {
		return nil
	}
	node.Close()
	return nil
}

func (d *daemon) serveControl() error {
	l, err := control.Listen(d.config.Control.Socket)
	if err != nil {
		return err
	}
	d.control = control.Serve(l, d, d.log)
	return nil
}

func (d *daemon) stopControl(ctx context.Context) error {
	if d.control == nil {
		return nil
	}
	return d.control.Shutdown(ctx)
}

// waitForMembership returns the node; nil when ctx ended before there was one.
func (d *daemon) waitForMembership(ctx context.Context) (*replica.Node, error) {
	select {
	case node := <-d.member:
		return node, nil
	default:
	}
	d.setState(control.Waiting)
	d.systemd.Ready(control.Waiting)
	d.log.Info("this node belongs to no cluster yet: waiting for trinas init or trinas join")
	select {
	case node := <-d.member:
		return node, nil
	case <-ctx.Done():
		return nil, nil
	}
}

func (d *daemon) setState(state string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state = state
}

// setNode publishes the node, once.
func (d *daemon) setNode(node *replica.Node) {
	d.mu.Lock()
	d.node = node
	d.mu.Unlock()
	d.member <- node
}

func (d *daemon) currentNode() *replica.Node {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.node
}
