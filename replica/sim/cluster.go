package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"trinas/replica"
	"trinas/replica/disk"
	"trinas/replica/volume"
)

// Cluster is some nodes on one Network. Use it inside a synctest bubble.
type Cluster struct {
	t   testing.TB
	Net *Network

	seed   uint64
	start  time.Time
	adjust []func(*replica.Options)

	mu    sync.Mutex
	nodes []*machine // by node id - 1
}

// machine is a node's computer: its disk stays when the node stops.
type machine struct {
	disk *disk.Mem
	node *replica.Node // nil while it is down
	opt  replica.Options

	trouble trouble
}

// Node is a node that is up, nil while it is down.
func (c *Cluster) Node(id uint64) *replica.Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[id-1].node
}

func (c *Cluster) setNode(id uint64, n *replica.Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes[id-1].node = n
}

// New starts a cluster of size nodes, with ids 1 to size. adjust may change every node's options.
func New(t testing.TB, seed uint64, size int, adjust ...func(*replica.Options)) *Cluster {
	t.Helper()
	c := &Cluster{t: t, Net: newNetwork(seed), seed: seed, start: time.Now(), adjust: adjust}
	for i := range size {
		name := fmt.Sprintf("node%d", i+1)
		if i > 0 {
			token, err := c.Node(1).NewToken(context.Background(), "")
			if err != nil {
				t.Fatalf("token for %s: %v", name, err)
			}
			c.Join(name, token)
			continue
		}
		m := c.machine()
		if _, err := replica.Init(m.opt, "sim", name); err != nil {
			t.Fatalf("make %s: %v", name, err)
		}
		c.Start(1)
	}
	t.Cleanup(c.Close)
	time.Sleep(3 * time.Second) // until all are voters of the cluster group
	return c
}

// machine adds a computer with an empty disk; its node will have the next id.
func (c *Cluster) machine() *machine {
	var log *slog.Logger
	if os.Getenv("SIM_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	m := &machine{disk: disk.NewMem(c.seed<<8 + uint64(len(c.nodes)))}
	m.disk.OnOp(m.trouble.hook)
	address := fmt.Sprintf("node%d:7370", len(c.nodes)+1)
	m.opt = replica.Options{
		Disk: m.disk.FS(), Advertise: address, SegmentBytes: 1 << 20, Log: log,
		Clock:   func() time.Duration { return time.Since(c.start) + time.Hour },
		Network: c.Net.attach(address), RequestJoin: c.Net.requestJoin,
		Reach: func(context.Context, string) error { return nil },
	}
	for _, change := range c.adjust {
		change(&m.opt)
	}
	c.mu.Lock()
	c.nodes = append(c.nodes, m)
	c.mu.Unlock()
	return m
}

// Join adds a node to the cluster, through node 1, and returns its id.
func (c *Cluster) Join(name, token string) uint64 {
	c.t.Helper()
	return c.JoinThrough(1, name, token)
}

// JoinThrough is Join through another node.
func (c *Cluster) JoinThrough(node uint64, name, token string) uint64 {
	c.t.Helper()
	m := c.machine()
	if err := replica.Join(context.Background(), m.opt, name, fmt.Sprintf("node%d:7370", node), token); err != nil {
		c.t.Fatalf("join as %s: %v", name, err)
	}
	id := uint64(len(c.nodes))
	c.Start(id)
	return id
}

// Start opens a node that is down.
func (c *Cluster) Start(id uint64) {
	c.t.Helper()
	if err := c.open(id); err != nil {
		c.t.Fatalf("start node %d: %v", id, err)
	}
}

func (c *Cluster) open(id uint64) error {
	m := c.nodes[id-1]
	m.opt.Disk = m.disk.FS() // a crash ends what was opened before
	n, err := replica.Open(m.opt)
	if err == nil {
		c.setNode(id, n)
	}
	return err
}

// Crash kills a node as a power cut does: what its disk had not synced may be lost.
func (c *Cluster) Crash(id uint64) {
	n := c.Node(id)
	if n == nil {
		return
	}
	c.setNode(id, nil)
	c.Net.unplug(id) // nothing that comes later may meet the disk
	c.nodes[id-1].disk.Crash()
	c.Resume(id) // what is left of its run must end
	n.Close()
}

// Kill ends a node as SIGKILL does: what it has written is there for its next run, synced or not.
func (c *Cluster) Kill(id uint64) {
	n := c.Node(id)
	if n == nil {
		return
	}
	c.setNode(id, nil)
	c.Net.unplug(id)
	c.nodes[id-1].disk.Kill()
	c.Resume(id) // what is left of its run must end
	n.Close()
}

// Restart stops a node as its unit does and starts it again. On a disk that fails it may stay down.
func (c *Cluster) Restart(id uint64) {
	n := c.Node(id)
	if n == nil {
		return
	}
	c.Resume(id) // it could not end otherwise
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = n.HandOver(ctx) // an error: nobody is there to take over
	c.setNode(id, nil)
	n.Close()
	if err := c.open(id); err != nil && !c.nodes[id-1].trouble.fails() {
		c.t.Fatalf("start node %d again: %v", id, err)
	}
}

// Pause makes a node stand still, as SIGSTOP does: its disk and its messages wait until Resume. (Its
// goroutines go on until they need either.)
func (c *Cluster) Pause(id uint64) {
	c.Net.Pause(id)
	c.nodes[id-1].trouble.pause()
}

// Resume undoes Pause.
func (c *Cluster) Resume(id uint64) {
	c.Net.Resume(id)
	c.nodes[id-1].trouble.resume()
}

// Close stops all nodes.
func (c *Cluster) Close() {
	for id := range uint64(len(c.nodes)) {
		if n := c.Node(id + 1); n != nil {
			c.setNode(id+1, nil)
			n.Close()
		}
	}
}

// Volume creates a volume on three nodes (or all, when there are fewer) and returns its id.
func (c *Cluster) Volume(name string) volume.ID {
	c.t.Helper()
	s, err := c.Node(1).CreateVolume(context.Background(), name, min(3, len(c.nodes)))
	if err != nil {
		c.t.Fatalf("create volume: %v", err)
	}
	return s.ID
}

// Primary waits until a node that is up believes to lead vol and answers for it, and returns its id.
func (c *Cluster) Primary(vol volume.ID) uint64 {
	c.t.Helper()
	for range 1000 {
		for id := uint64(1); id <= uint64(len(c.nodes)); id++ {
			n := c.Node(id)
			if n == nil {
				continue
			}
			for _, v := range n.Status(context.Background()).Volumes {
				if v.ID == vol && v.Primary == n.Name() {
					return id
				}
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	c.t.Fatalf("volume %d has no primary", vol)
	return 0
}

// ErrTimeout: an operation was not answered in time; its outcome is unknown.
var ErrTimeout = errors.New("not answered in time")

// Do carries op out through a node and gives up after wait.
func (c *Cluster) Do(node uint64, vol volume.ID, op volume.Op, wait time.Duration) (volume.Result, error) {
	n := c.Node(node)
	if n == nil {
		return volume.Result{}, ErrTimeout
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	var res volume.Result
	err := n.Do(ctx, vol, &op, &res)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, replica.ErrClosed) {
		err = ErrTimeout
	}
	return res, err
}
