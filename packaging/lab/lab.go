// Package lab runs a small cluster on one machine: every node is a real agent process with a
// network namespace of its own, joined by a bridge, as if it were a host. Demo, bench and
// whole-machine tests build on it. It must never touch the network of the machine it runs on, and
// never leave a process or a namespace behind.
//
// The namespaces need root; Private gives a process that has none a user namespace in which it is.
//
// Floor 6: imports agent/control and nfsgw/nfs3.
package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"trinas/agent/control"
	"trinas/replica"
)

// MaxNodes is how many nodes a lab may have: its network is 10.77.0.0/24, host numbers 1 to 100;
// those above are for guests.
const MaxNodes = 100

// PollInterval is how often a condition that is waited for is looked at.
const PollInterval = 10 * time.Millisecond

// stopTimeout is how long Close waits for an agent that it has told to stop, before SIGKILL.
const stopTimeout = 10 * time.Second

// Options says what a lab is made of.
type Options struct {
	Binary string // the trinas program
	Dir    string // where the lab's folder is made; must be on a disk. "": /var/tmp
	Nodes  int    // 1 to MaxNodes
	Name   string // tells labs of one process apart: part of the namespaces' names; "" for one of them

	// OpenNFS: every agent serves NFS on its node's address too, not only on the loopback. Guests need
	// it to mount other nodes than their own.
	OpenNFS bool

	Config string // more of every agent's configuration: tables that the lab does not write itself
}

// Lab is a cluster of nodes n1, n2, ... Its methods may be called from several goroutines once
// Open has returned.
type Lab struct {
	Dir   string // holds a folder per node and whatever the caller puts there
	Nodes []*Node

	net    *network
	guests atomic.Int32 // how many were run
}

// Open makes the namespaces and folders of a lab. No agent runs yet: see Form.
func Open(ctx context.Context, opt Options) (*Lab, error) {
	if opt.Nodes < 1 || opt.Nodes > MaxNodes {
		return nil, fmt.Errorf("a lab of %d nodes: between 1 and %d can be had", opt.Nodes, MaxNodes)
	}
	binary, err := filepath.Abs(opt.Binary)
	if err != nil {
		return nil, fmt.Errorf("trinas program: %w", err)
	}
	if _, err := os.Stat(binary); err != nil {
		return nil, fmt.Errorf("trinas program: %w: run make build first", err)
	}
	dir, err := makeDir(opt.Dir)
	if err != nil {
		return nil, err
	}
	l := &Lab{Dir: dir}
	names := make([]string, opt.Nodes)
	for i := range names {
		names[i] = fmt.Sprintf("n%d", i+1)
	}
	if l.net, err = openNetwork(ctx, opt.Name, names); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	for i, host := range l.net.hosts {
		n := newNode(host, hostAddress(i), filepath.Join(dir, host.Name), binary)
		n.openNFS, n.config = opt.OpenNFS, opt.Config
		if err := n.configure(); err != nil {
			return nil, errors.Join(err, l.Close(), os.RemoveAll(dir))
		}
		l.Nodes = append(l.Nodes, n)
	}
	return l, nil
}

// makeDir makes the lab's folder below parent, which must not be in memory: a sync would cost
// nothing there and a full memory would end the agents.
func makeDir(parent string) (string, error) {
	if parent == "" {
		parent = "/var/tmp"
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(parent, &fs); err != nil {
		return "", fmt.Errorf("folder %s: %w", parent, err)
	}
	if fs.Type == unix.TMPFS_MAGIC || fs.Type == unix.RAMFS_MAGIC {
		return "", fmt.Errorf("folder %s is in memory, not on a disk: give another with -dir", parent)
	}
	dir, err := os.MkdirTemp(parent, "trinas-lab-")
	if err != nil {
		return "", fmt.Errorf("make the lab's folder: %w", err)
	}
	return dir, nil
}

// Close stops every agent and removes the namespaces. The folder stays: see Remove. May be called
// twice.
func (l *Lab) Close() error {
	for _, n := range l.Nodes {
		n.Kill(unix.SIGTERM) // all at once: they would wait for one another's hand-overs
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	for _, n := range l.Nodes {
		n.stop(ctx)
	}
	return l.net.close()
}

// Remove deletes the lab's folder.
func (l *Lab) Remove() error { return os.RemoveAll(l.Dir) }

// Form starts all agents and makes them one cluster: trinas init on the first node, trinas token
// and trinas join for each other one.
func (l *Lab) Form(ctx context.Context) error {
	for _, n := range l.Nodes {
		if err := n.Start(ctx); err != nil {
			return err
		}
	}
	first := l.Nodes[0]
	if _, err := first.CLI(ctx, "init", "--name", "lab", "--node", first.Name); err != nil {
		return err
	}
	for _, n := range l.Nodes[1:] {
		inv, err := first.Invite(ctx)
		if err != nil {
			return err
		}
		if _, err := n.CLI(ctx, "join", inv.Address, "--token", inv.Token); err != nil {
			return err
		}
	}
	return nil
}

// CreateVolume makes a volume and waits until every node's replica of it is UpToDate. With OpenNFS
// everybody on the lab's network may use it.
func (l *Lab) CreateVolume(ctx context.Context, name string) error {
	if _, err := l.Nodes[0].CLI(ctx, "volume", "create", name); err != nil {
		return err
	}
	if l.Nodes[0].openNFS {
		if _, err := l.Nodes[0].CLI(ctx, "volume", "allow", name, Subnet, "--squash", "none"); err != nil {
			return err
		}
	}
	for _, n := range l.Nodes {
		if err := l.Nodes[0].AwaitUpToDate(ctx, name, n.Name); err != nil {
			return err
		}
	}
	return nil
}

// AddHost puts one more host on the nodes' network, without an agent, and returns it with its
// address. It goes with the lab. Nodes and hosts together are MaxNodes at most.
func (l *Lab) AddHost(ctx context.Context, name string) (*Host, string, error) {
	number := len(l.net.hosts)
	if number >= MaxNodes {
		return nil, "", fmt.Errorf("a lab has %d hosts at most", MaxNodes)
	}
	host, err := l.net.attach(ctx, name)
	return host, hostAddress(number), err
}

// Cut pulls a node's cable: it and the guests plugged into it reach nobody, and what they send is lost.
// The node's loopback is not concerned.
func (l *Lab) Cut(ctx context.Context, n *Node) error { return l.net.plug(ctx, n.Host, "down") }

// Heal puts the cable back.
func (l *Lab) Heal(ctx context.Context, n *Node) error { return l.net.plug(ctx, n.Host, "up") }

// nobody is a link-layer address that no host has.
const nobody = "02:00:00:00:00:01"

// Lose loses, in silence, everything that a node sends to another one, and nothing that comes back: it
// puts a wrong link-layer address for the other in the node's table of neighbours. Deliver undoes it.
func (l *Lab) Lose(ctx context.Context, from, to *Node) error {
	return runAll(ctx, "ip -n "+from.NS+" neigh replace "+to.Addr+" lladdr "+nobody+" dev eth0 nud permanent")
}

// Deliver undoes Lose.
func (l *Lab) Deliver(ctx context.Context, from, to *Node) error {
	return runAll(ctx, "ip -n "+from.NS+" neigh del "+to.Addr+" dev eth0")
}

// Node returns the node of that name, or nil.
func (l *Lab) Node(name string) *Node {
	for _, n := range l.Nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// SetPrimary hands a volume's primary over to a node and waits until every node has seen it.
func (l *Lab) SetPrimary(ctx context.Context, volume string, to *Node) error {
	if st, err := l.Nodes[0].Volume(ctx, volume); err == nil && st.Primary != to.Name {
		if _, err := l.Nodes[0].CLI(ctx, "volume", "primary", volume, to.Name); err != nil {
			return err
		}
	}
	for _, n := range l.Nodes {
		if _, err := n.AwaitPrimary(ctx, volume, to.Name); err != nil {
			return err
		}
	}
	return nil
}

// AwaitPrimary waits until this node's agent sees one of the nodes named as the volume's primary,
// and returns which.
func (n *Node) AwaitPrimary(ctx context.Context, volume string, oneOf ...string) (string, error) {
	what := fmt.Sprintf("a primary of volume %s among %v", volume, oneOf)
	var primary string
	return primary, n.Await(ctx, what, func(ctx context.Context) (bool, error) {
		st, err := n.Volume(ctx, volume)
		primary = st.Primary
		return err == nil && slices.Contains(oneOf, primary), err
	})
}

// AwaitUpToDate waits until this node's agent sees the replica of a volume on the node named as
// UpToDate.
func (n *Node) AwaitUpToDate(ctx context.Context, volume, node string) error {
	what := fmt.Sprintf("replica of volume %s on %s UpToDate", volume, node)
	return n.Await(ctx, what, func(ctx context.Context) (bool, error) {
		state, err := n.ReplicaState(ctx, volume, node)
		return state == replica.UpToDate, errors.Join(err, fmt.Errorf("it is %q", state))
	})
}

// ReplicaState is the state of a volume's replica on the node named, as this node's agent sees it.
func (n *Node) ReplicaState(ctx context.Context, volume, node string) (replica.ReplicaState, error) {
	st, err := n.Volume(ctx, volume)
	if err != nil {
		return "", err
	}
	for _, r := range st.Replicas {
		if r.Node == node {
			return r.State, nil
		}
	}
	return "", fmt.Errorf("volume %s has no replica on %s", volume, node)
}

// Await looks at a condition every PollInterval until it holds, or ctx ends, or the agent does.
// The error of an attempt is only told when the wait ends without success.
func (n *Node) Await(ctx context.Context, what string, holds func(context.Context) (bool, error)) error {
	tick := time.NewTicker(PollInterval)
	defer tick.Stop()
	for {
		ok, err := holds(ctx)
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("node %s: waiting for %s: %w; last answer: %w", n.Name, what, ctx.Err(), err)
		case <-n.ended():
			return fmt.Errorf("node %s: waiting for %s: the agent has ended; see %s", n.Name, what, n.LogFile())
		case <-tick.C:
		}
	}
}

// Status asks the agent over its control socket.
func (n *Node) Status(ctx context.Context) (control.Status, error) { return n.control.Status(ctx) }

// MountOptions are those by which the node's agent says that a volume is mounted on it.
func (n *Node) MountOptions(ctx context.Context, volume string) (string, error) {
	s, err := n.control.Service(ctx, volume)
	if err != nil || s.Mount == nil {
		return "", err
	}
	return s.Mount.Options, nil
}

// Volume asks the agent for the state of one volume, as far as it knows.
func (n *Node) Volume(ctx context.Context, name string) (replica.VolumeStatus, error) {
	st, err := n.Status(ctx)
	if err != nil {
		return replica.VolumeStatus{}, err
	}
	if st.Status != nil {
		for _, v := range st.Volumes {
			if v.Name == name {
				return v, nil
			}
		}
	}
	return replica.VolumeStatus{}, fmt.Errorf("node %s knows no volume %q", n.Name, name)
}
