package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"trinas/agent/config"
	"trinas/agent/control"
	"trinas/agent/datadir"
	"trinas/agent/drill"
	"trinas/agent/journal"
	"trinas/agent/notify"
	"trinas/agent/pve"
	"trinas/agent/web"
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
	besidesTimeout  = time.Second
	abandonTimeout  = time.Second // when the log hangs
)

// daemon is one run of the agent. Run starts its parts in the order of the fields; Close stops
// them in reverse.
type daemon struct {
	config  config.Config
	pprof   string  // address, "": none
	files   disk.FS // the data directory
	ring    *journal.Ring
	log     *slog.Logger
	systemd *notify.Systemd
	started time.Time

	lock     *datadir.Lock
	profiles *webServer
	metrics  *webServer
	nfs      []net.Listener // the node's own; the gateway's once it serves
	further  []string       // addresses for other hosts, which the gateway opens
	control  *control.Server
	pulse    *pulse
	gateway  *nfsgw.Server
	throttle drill.Throttle
	drills   *drill.Host
	lease    time.Duration // of drills; tests shorten it
	hung     bool          // the disk does not answer: nothing that needs it can be waited for

	// member has the node once the data directory has an identity, from the start or by Init or
	// Join.
	member chan *replica.Node
	// besides is what runs beside Run: keeping or taking up invitations of Proxmox. It ends with
	// stopBesides.
	besides     sync.WaitGroup
	stopBesides context.CancelFunc
	// entering is held by Init and Join, so that only one of them makes the identity.
	entering sync.Mutex
	founded  bool // by Init; set before member has the node

	mu      sync.Mutex
	state   string
	node    *replica.Node
	serving *nfsgw.Server // gateway, while it serves
	load    *loadKeeper   // once there is a node
	drilled *drill.Host   // drills, while they may be asked
	page    *web.Server   // while it serves
}

func newDaemon(cfg config.Config, pprof string, log *slog.Logger) *daemon {
	ring := journal.NewRing(cfg.Node.Name)
	log = slog.New(ring.Over(log.Handler()))
	d := &daemon{
		config: cfg, pprof: pprof, ring: ring, log: log, systemd: notify.New(log), started: time.Now(),
		member: make(chan *replica.Node, 1), state: "starting", lease: drill.LeaseTime,
	}
	d.files = d.throttle.Over(disk.OS(cfg.DataDir), replica.LogDir)
	return d
}

// Run starts the agent, waits until ctx ends or a part of it fails, and stops it. It returns nil
// only after a stop that was asked for.
func (d *daemon) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, d.Close()) }()
	beside, stop := context.WithCancel(ctx)
	d.stopBesides = stop

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
	d.serveMetrics()
	d.awaitInvitation(beside)
	node, err := d.waitForMembership(ctx)
	if node == nil {
		return err
	}
	d.keepEvents(beside)
	d.keepInvitations(beside, node)
	d.watchHA(beside, node)
	d.keepLoad(node)
	if err := d.serveNFS(node); err != nil {
		return err
	}
	d.takePartInDrills(node)
	d.servePage(node)
	d.setState(control.Running)
	d.startPulse()
	d.besides.Go(func() { d.readyWhenServing(beside, node) })

	select {
	case <-ctx.Done():
		d.log.Info("agent was asked to stop", "event", "agent-stopping")
		return nil
	case <-node.Done():
		return fmt.Errorf("the node has stopped itself: %w", node.Err())
	case err := <-d.gateway.Failed():
		return err
	case err := <-d.pulse.stuck:
		d.log.Error("log hangs", "event", "log-stuck", "path", d.files.Path("."))
		d.hung = true
		return err
	}
}

// Close hands primaries over, finishes requests under way and stops every part, in stopTimeout at
// most; when the log hangs, it abandons them. It may be called twice.
func (d *daemon) Close() error {
	if d.hung {
		d.abandon()
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	d.setState(control.Stopping)
	d.systemd.Stopping(control.Stopping)
	// First the others lead, while this node's own clients are still served, through them. The
	// control API, which can tell how far the stop is, outlives the gateway.
	d.handOver(ctx)
	d.endBesides(ctx)
	d.stopLoad(ctx)
	d.leaveDrills()
	d.stopPage(ctx)
	return errors.Join(
		d.stopNFS(ctx),
		d.stopControl(ctx),
		d.stopNode(ctx),
		d.closeListeners(),
		d.metrics.stop(),
		d.profiles.stop(),
		d.unlockDataDir(),
		d.stopPulse(),
	)
}

// abandon leaves everything to the other nodes, in twice abandonTimeout at most: they lead, clients
// and nodes lose their connections, and the process is to end. Nothing that touches the disk is
// waited for; the lock on the data directory stays until the process is gone, which the kernel may
// hold until the disk answers.
func (d *daemon) abandon() {
	d.setState(control.Stopping)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		d.systemd.Stopping("the log hangs: the other nodes go on")
		ctx, cancel := context.WithTimeout(context.Background(), abandonTimeout)
		defer cancel()
		d.handOver(ctx)
		at, done := context.WithCancel(ctx)
		done() // requests under way can only wait
		_ = d.gateway.Shutdown(at)
		d.currentNode().Abandon()
	}()
	select {
	case <-gone:
	case <-time.After(2 * abandonTimeout):
	}
}

// How READY waits until the node serves (readyWhenServing).
const (
	readyLook = 50 * time.Millisecond
	readyWait = 2 * time.Minute
)

// readyWhenServing says READY once this node serves its volumes, its own replicas up to date or catching up: what is
// ordered after the agent, HA before all, would only fail before. It says so after readyWait in any case: a
// node whose others do not come is to have its local guests and its web interface all the same.
func (d *daemon) readyWhenServing(ctx context.Context, node *replica.Node) {
	tick := time.NewTicker(readyLook)
	defer tick.Stop()
	for begun := time.Now(); ; {
		missing := node.Unserved()
		if len(missing) == 0 {
			break
		}
		if time.Since(begun) >= readyWait {
			d.log.Warn("agent says that it is ready although it does not serve yet", "event", "agent-not-serving", "reason", strings.Join(missing, "; "))
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
	d.systemd.Ready()
	d.log.Info("agent is ready", "event", "agent-ready", "version", versionText(), "node", node.Name(), "nfs", addressesText(d.gateway.Addrs()))
}

// startPulse begins to watch, once.
func (d *daemon) startPulse() {
	if d.pulse == nil {
		d.pulse = startPulse(d.systemd, d.currentNode, time.Duration(d.config.Log.StuckAfter))
	}
}

func (d *daemon) stopPulse() error {
	if d.pulse != nil {
		d.pulse.stop()
		d.pulse = nil
	}
	return nil
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
	if d.lock == nil || d.hung {
		return nil // the lock goes with the last thread that could write
	}
	return d.lock.Release()
}

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
		Disk:               d.files,
		Listen:             c.Peer.Listen,
		LogBytes:           int64(c.Log.Limit),
		SegmentBytes:       int64(c.Log.Segment),
		LogIndexBytes:      c.Memory.Share(8, 64*config.MiB),
		LogCacheBytes:      c.Memory.Share(8, c.Log.Cache),
		UnderWayBytes:      c.Memory.Share(8, 32*config.MiB),
		ReceivedBytes:      c.Memory.Share(16, 32*config.MiB),
		QueueBytes:         c.Memory.Share(8, 32*config.MiB),
		AnsweringBytes:     c.Memory.Share(8, 64*config.MiB),
		CheckpointInterval: time.Duration(c.Checkpoint.Interval),

		ResyncBytesPerSecond: int64(c.Resync.Rate),
		ReplaceAfter:         time.Duration(c.Placement.ReplaceAfter),
		VerifyInterval:       time.Duration(c.Verify.Interval),
		VerifyBytesPerSecond: int64(c.Verify.Rate),
		VerifyRepair:         c.Verify.Repair,
		Heartbeat:            time.Duration(c.Raft.Heartbeat),
		Election:             time.Duration(c.Raft.Election),
		Lease:                time.Duration(c.Raft.Lease),
		Log:                  d.log,
		Version:              versionText(),
		Level:                control.Level,
		Answer:               d.answer,
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
		d.log.Warn("not everything was handed over", "event", "hand-over-failed", "cause", err)
	}
}

// stopNode stops the node. One that the disk holds up is left to the process's end.
func (d *daemon) stopNode(ctx context.Context) error {
	// A node that Init or Join is making right now must not be left behind.
	d.entering.Lock()
	defer d.entering.Unlock()
	node := d.currentNode()
	if node == nil {
		return nil
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		node.Close()
	}()
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		d.hung = true
		return fmt.Errorf("the node did not stop within %s: the disk under the data directory hangs; "+
			"what was acknowledged is safe, the log is replayed at the next start", stopTimeout)
	}
}

// awaitInvitation lets a node without a cluster join by an invitation in Proxmox's cluster file
// system.
func (d *daemon) awaitInvitation(ctx context.Context) {
	if d.config.PVE.Dir == "" || d.currentNode() != nil {
		return
	}
	v := &invitee{dir: pve.Dir(d.config.PVE.Dir), name: d.config.Node.Name, log: d.log,
		join: func(ctx context.Context, address, token string) error { return d.Join(ctx, "", address, token) }}
	d.besides.Go(func() { v.run(ctx) })
}

// keepInvitations invites the other nodes of Proxmox.
func (d *daemon) keepInvitations(ctx context.Context, node *replica.Node) {
	if d.config.PVE.Dir == "" {
		return
	}
	i := &inviter{dir: pve.Dir(d.config.PVE.Dir), log: d.log, founded: d.founded}
	d.besides.Go(func() { i.run(ctx, node) })
}

// endBesides stops it. A cluster file system that hangs cannot be waited for.
func (d *daemon) endBesides(ctx context.Context) {
	if d.stopBesides == nil {
		return
	}
	d.stopBesides()
	ctx, cancel := context.WithTimeout(ctx, besidesTimeout)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		d.besides.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		d.log.Warn("a join is under way, or Proxmox's cluster file system does not answer; going on", "event", "pve-hangs", "dir", d.config.PVE.Dir)
	}
}

// keepLoad begins to measure.
func (d *daemon) keepLoad(node *replica.Node) {
	keeper := startLoadKeeper(time.Duration(d.config.Load.Interval), d.config.DataDir, node, d.currentGateway, d.log)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.load = keeper
}

// stopLoad ends that. What was measured can still be asked for.
func (d *daemon) stopLoad(ctx context.Context) {
	if d.load != nil {
		ctx, cancel := context.WithTimeout(ctx, besidesTimeout)
		defer cancel()
		d.load.stop(ctx)
	}
}

func (d *daemon) currentGateway() *nfsgw.Server {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.serving
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
	d.systemd.Status(control.Waiting)
	d.systemd.Ready()
	d.startPulse()
	d.log.Info("this node belongs to no cluster yet: waiting for trinas init or trinas join", "event", "agent-waiting")
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

// keepEvents takes up the events that an earlier run has kept, and keeps those of this one from now on: a
// directory without an identity stays empty.
func (d *daemon) keepEvents(ctx context.Context) {
	d.ring.Load(d.config.DataDir)
	d.besides.Go(func() {
		if err := d.ring.Keep(ctx, d.config.DataDir); err != nil {
			d.log.Warn("events are not kept over the next restart of the agent", "event", "events-not-kept", "err", err)
		}
	})
}

// setNode publishes the node, once.
func (d *daemon) setNode(node *replica.Node) {
	d.ring.Name(node.Name())
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
