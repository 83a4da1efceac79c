package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"trinas/agent/config"
	"trinas/agent/control"
	"trinas/replica"
)

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
