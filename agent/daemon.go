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
	"trinas/agent/drill"
	"trinas/agent/journal"
	"trinas/agent/notify"
	"trinas/agent/web"
	"trinas/nfsgw"
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

func (d *daemon) setState(state string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state = state
}
