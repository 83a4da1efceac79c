package replica

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"trinas/replica/transport"
	"trinas/replica/volume"
	"trinas/replica/wal"
)

// Folders and files of a data directory.
const (
	logDir       = "log"     // replica/wal
	clusterDir   = "cluster" // the cluster's own state
	volumesDir   = "volumes" // one folder each, named by the volume's id in 16 hex digits: replica/volume
	identityFile = "node.json"
)

// VolumeDir is the folder of a volume in a data directory.
func VolumeDir(id volume.ID) string { return fmt.Sprintf("%s/%016x", volumesDir, uint64(id)) }

// LogDir is the folder of the log in a data directory.
const LogDir = logDir

// Node is this machine's part of the cluster: its log, its replicas, its connections. Open starts
// it, HandOver lets others lead, Close stops it.
type Node struct {
	id       uint64
	opt      Options
	log      *slog.Logger
	identity identity
	net      Network
	wal      *wal.Log
	cluster  *clusterMachine

	mu       sync.RWMutex
	groups   map[uint64]*group
	broken   map[volume.ID]*outOfService // volumes whose replica here could not be opened, or has failed
	setbacks map[volume.ID]*outOfService // the same, and what has come back since
	rebuilds map[volume.ID]*rebuild      // volumes whose replica here is being made anew

	sessions sessions
	fenced   fencedNotes
	space    knownSpace
	speed    slowLog
	current  currency // with the cluster's state
	outages  outages
	waiting  waiting
	heard    heard
	counters counters

	away      map[uint64]time.Duration // since when nodes are out of touch; maintain's own
	free      atomic.Uint64            // bytes the data directory can still take
	changed   chan struct{}            // the cluster's state changed (1 buffered)
	failed    chan *group
	closing   chan struct{}
	closeOnce sync.Once
	done      chan struct{} // the node stopped by itself
	doneOnce  sync.Once
	err       error
	running   sync.WaitGroup
}

// Open starts the node of a data directory that init or join has made. It returns as soon as its
// replicas are open; they serve when their groups have a primary. ErrNoIdentity when the data
// directory is empty.
func Open(opt Options) (*Node, error) {
	opt = opt.withDefaults()
	id, err := readIdentity(opt.Disk)
	if errors.Is(err, ErrNoIdentity) {
		if err := noOrphan(opt.Disk); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, err
	}
	if opt.Name != "" && opt.Name != id.Name {
		return nil, fmt.Errorf("data directory %s belongs to node %q of cluster %q, and this node is to be %q (node.name): set node.name to %q, or use another data directory",
			opt.Disk.Path("."), id.Name, id.ClusterName, opt.Name, id.Name)
	}
	n := &Node{
		id: id.Node, identity: id, opt: opt, log: opt.Log.With("node", id.Name),
		groups:   map[uint64]*group{},
		broken:   map[volume.ID]*outOfService{},
		setbacks: map[volume.ID]*outOfService{},
		rebuilds: map[volume.ID]*rebuild{},
		away:     map[uint64]time.Duration{},
		space:    knownSpace{by: map[volume.ID]volume.Space{}},
		changed:  make(chan struct{}, 1),
		failed:   make(chan *group, maxVolumes),
		closing:  make(chan struct{}),
		done:     make(chan struct{}),
		current:  currency{asking: make(chan struct{}, 1)},
		heard:    heard{by: map[uint64]report{}, when: map[uint64]time.Duration{}, silent: map[uint64]bool{}},
		speed:    slowLog{every: opt.Heartbeat},
	}
	n.opt.Log = n.log
	if err := n.open(); err != nil {
		n.stop()
		return nil, err
	}
	return n, nil
}

// open is the boot order; stop undoes it.
func (n *Node) open() error {
	names, err := n.opt.Disk.List(logDir)
	if err != nil || len(names) == 0 {
		return fmt.Errorf("the log %s is missing (%v): without it this node could break promises it made; "+
			"bring it back from where it went", n.opt.Disk.Path(logDir), err)
	}
	if err := finish(n.opt.Disk); err != nil {
		return err
	}
	n.measureSpace()
	n.wal, err = wal.Open(n.opt.Disk.Sub(logDir), wal.Options{
		SegmentBytes: n.opt.SegmentBytes, CacheBytes: n.opt.LogCacheBytes, QueueBytes: n.opt.ReceivedBytes,
		OnSync: func(took time.Duration, bytes, _ int) {
			n.speed.synced(took, n.opt.Clock())
			n.counters.synced(took, bytes)
		},
	}, n.log)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	n.cluster, err = openCluster(n.opt.Disk)
	if err != nil {
		return err
	}
	// The run before may have ended between the rename of the cluster's state and its sync.
	if err := n.opt.Disk.SyncDir(clusterDir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("open the cluster's state: %w", err)
	}
	n.cluster.changed = func() {
		select {
		case n.changed <- struct{}{}:
		default:
		}
	}
	if n.net, err = n.connect(); err != nil {
		return err
	}
	n.followPeers()
	g, err := openGroup(clusterGroup, "cluster", n.id, n.opt, n.net, n.wal, n.cluster, n)
	if err != nil {
		return err
	}
	n.setGroup(g)
	if err := n.loadRebuilds(); err != nil {
		return err
	}
	n.openVolumes()
	n.running.Go(n.tickLoop)
	n.running.Go(n.followCluster)
	n.running.Go(n.maintain)
	n.running.Go(n.verifyLoop)
	return nil
}

func (n *Node) connect() (Network, error) {
	if n.opt.Network != nil {
		return n.opt.Network(n.id, n, n.admit)
	}
	return transport.Listen(transport.Options{Listen: n.opt.Listen, Listener: n.opt.Listener, Self: n.id,
		Identity: n.identity.transport(), Handler: n, Log: n.log, Join: n.admit,
		QueueBytes: int(n.opt.QueueBytes), AnsweringBytes: int(n.opt.AnsweringBytes)})
}

// stop undoes open, in reverse.
func (n *Node) stop() {
	n.closeOnce.Do(func() { close(n.closing) })
	for _, g := range n.snapshotGroups() {
		g.resign() // the clock stands: nothing else would end what waits for a majority that is not there
	}
	n.running.Wait()
	n.mu.Lock()
	groups := n.groups
	n.groups = map[uint64]*group{}
	n.mu.Unlock()
	for _, g := range groups {
		if err := g.close(); err != nil {
			n.log.Error("close a replica", "event", "replica-not-closed", "volume", g.name, "err", err)
		}
	}
	if n.net != nil {
		if err := n.net.Close(); err != nil {
			n.log.Debug("close the transport", "err", err)
		}
	}
	if n.wal != nil {
		if err := n.wal.Close(); err != nil {
			n.log.Error("close the log", "event", "log-not-closed", "err", err)
		}
	}
}

// HandOver gives away every leadership that this node holds and returns when others lead, or ctx
// ends. Operations go on, through the new primaries.
func (n *Node) HandOver(ctx context.Context) error {
	var all sync.WaitGroup
	var mu sync.Mutex
	var joined error
	for _, g := range n.snapshotGroups() {
		all.Go(func() {
			if err := g.handOver(ctx, 0); err != nil {
				mu.Lock()
				joined = errors.Join(joined, err)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return joined
}

// Close stops the node as it is; call HandOver before. What was durable stays so. May be called
// twice.
func (n *Node) Close() { n.stop() }

// Done is closed when the node has stopped by itself, because its log failed; Err says why. The
// process must end then.
func (n *Node) Done() <-chan struct{} { return n.done }

// Err is the reason after Done.
func (n *Node) Err() error {
	select {
	case <-n.done:
		return n.err
	default:
		return nil
	}
}

// logFailed: a write or sync of the log failed. Nothing more may be promised (owner).
func (n *Node) logFailed(err error) {
	select {
	case <-n.closing:
		return // the log was closed by us
	default:
	}
	n.doneOnce.Do(func() {
		n.err = fmt.Errorf("the log of this node has failed: %w; mend the disk, then start the agent again", err)
		n.log.Error("log failed", "event", "log-failed", "err", err)
		close(n.done)
	})
}

// replicaFailed takes a group out of service (owner).
func (n *Node) replicaFailed(g *group) {
	select {
	case n.failed <- g:
	default: // bounded by the number of groups; each fails once
	}
}

func (n *Node) slowLog() bool { return n.speed.isSlow() }

func (n *Node) freeBytes() uint64 { return n.free.Load() }

// ID is the node's number in the cluster.
func (n *Node) ID() uint64 { return n.id }

// Name is the node's name in the cluster.
func (n *Node) Name() string { return n.identity.Name }

// ClusterID is the id of the node's cluster.
func (n *Node) ClusterID() string { return n.identity.Cluster }

// Certificate is the node's, with its key: what it shows to whoever connects to it.
func (n *Node) Certificate() (tls.Certificate, error) {
	return tls.X509KeyPair([]byte(n.identity.Cert), []byte(n.identity.Key))
}

// Node is the node's number as operations carry it.
func (n *Node) Node() uint16 { return uint16(n.id) }

func (n *Node) group(id uint64) *group {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.groups[id]
}

// leads reports whether this node is the group's leader.
func (n *Node) leads(id uint64) bool {
	g := n.group(id)
	return g != nil && g.leads()
}

func (n *Node) setGroup(g *group) {
	n.mu.Lock()
	n.groups[g.id] = g
	n.mu.Unlock()
}

func (n *Node) snapshotGroups() []*group {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return slices.SortedFunc(maps.Values(n.groups), func(a, b *group) int {
		if a.id < b.id {
			return -1
		}
		return 1
	})
}

// route finds the way to a volume: this node's replica of it when there is one that works, else
// the other nodes that have one: nobody, while the only replica is this node's and not open yet, or
// out of service. The request then waits. That a volume does not exist is only said once this node has caught up
// with the cluster: a node that just started may not have heard of it yet.
func (n *Node) route(ctx context.Context, vol volume.ID) (*group, []uint64, error) {
	if g := n.group(uint64(vol)); g != nil && g.vol != nil {
		return g, nil, nil
	}
	for asked := false; ; asked = true {
		select {
		case <-n.closing:
			return nil, nil, ErrClosed
		default:
		}
		s := n.cluster.view()
		i := slices.IndexFunc(s.Volumes, func(v VolumeInfo) bool { return v.ID == vol })
		if i >= 0 {
			return nil, slices.DeleteFunc(slices.Clone(s.Volumes[i].Replicas), func(id uint64) bool { return id == n.id }), nil
		}
		if asked {
			return nil, nil, ErrNoVolume
		}
		g := n.group(clusterGroup)
		if g == nil {
			return nil, nil, ErrClosed
		}
		if err := n.catchUp(ctx, g); err != nil {
			return nil, nil, err
		}
	}
}

// Raft gets messages from another node (transport.Handler). Entries are taken in only as fast as the log
// writes them: else that node's memory, and not this one's, would say how many wait here.
func (n *Node) Raft(from uint64, ms []transport.Message) {
	if slices.ContainsFunc(ms, func(m transport.Message) bool { return len(m.Raft.GetEntries()) > 0 }) {
		n.wal.AwaitRoom()
	}
	for i := 0; i < len(ms); {
		id := ms[i].Group
		var events []event
		for ; i < len(ms) && ms[i].Group == id; i++ {
			if m := ms[i].Raft; m.GetFrom() == from && m.GetTo() == n.id {
				events = append(events, event{msg: m, round: ms[i].Round, free: ms[i].Free, slow: ms[i].Slow})
			}
		}
		g := n.group(id)
		switch {
		case g == nil || len(events) == 0:
		case len(events) == 1 && bulk(events[0].msg):
			g.work(events...)
		default:
			g.post(events...)
		}
	}
}

// bulk reports whether a message came on a lane that may wait for the disk.
func bulk(m *raftpb.Message) bool {
	return m.GetType() == raftpb.MsgApp || m.GetType() == raftpb.MsgAppResp
}

// PeerUp: a node can be reached (transport.Handler).
func (n *Node) PeerUp(node uint64) {
	n.sessions.connected(node)
	n.log.Info("connected", "event", "peer-up", "peer", n.nameOf(node))
}

// PeerDown: a node cannot be reached any more; when connecting is refused its process is
// probably gone (transport.Handler).
func (n *Node) PeerDown(node uint64, refused bool) {
	n.log.Warn("connection lost", "event", "peer-down", "peer", n.nameOf(node), "refused", refused)
	for _, g := range n.snapshotGroups() {
		// A snapshot that was on its way may be lost: Raft would wait for its end.
		g.post(event{call: func() { g.raft.ReportSnapshot(node, raft.SnapshotFailure) }})
		if refused {
			g.leaderGone(node)
		}
	}
}

func (n *Node) nameOf(id uint64) string {
	s := n.cluster.view()
	if m := s.node(id); m != nil {
		return m.Name
	}
	return fmt.Sprintf("node %d", id)
}

// volumeName is for messages.
func (n *Node) volumeName(id volume.ID) string {
	for _, v := range n.cluster.view().Volumes {
		if v.ID == id {
			return v.Name
		}
	}
	return fmt.Sprintf("volume %d", id)
}

// tickLoop is Raft's clock for all groups. What one round sends to one node leaves together.
func (n *Node) tickLoop() {
	t := time.NewTicker(n.opt.Heartbeat)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-n.closing:
			return
		}
		n.watchLog()
		n.sessions.touch(n.net.Connected, n.opt.Clock())
		for _, g := range n.snapshotGroups() {
			g.post(event{tick: true})
		}
	}
}

// measureSpace looks how much the data directory can still take; an error counts as nothing.
func (n *Node) measureSpace() {
	s, err := n.opt.Disk.Space()
	if err != nil {
		n.log.Error("cannot see the free space of the data directory", "event", "space-unknown", "path", n.opt.Disk.Path("."), "err", err)
	}
	n.free.Store(s.FreeBytes)
}

var _ transport.Handler = (*Node)(nil)
var _ owner = (*Node)(nil)
