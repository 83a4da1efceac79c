// Package replica keeps volumes: directory trees that live on the disks of several nodes at once.
//
// The way of a WRITE, from the gateway to three disks and back:
//
//	Node.Do            any node: finds the volume's primary; here, or one call away   (do.go)
//	group.mutate       primary: space, room in flight                                (serve.go)
//	group.post/run     whoever holds the baton steps Raft, one proposal per batch    (group.go)
//	group.handOut      gives away what Raft wants done: neither call blocks          (step.go)
//	wal.Log.Append     the entry goes to this node's log ...
//	Network.Send       ... and to the secondaries' logs at the same time
//	group.applyLoop    a majority has synced it: Volume.Apply writes the object       (apply.go)
//	proposals.finish   the waiting request gets its result                           (proposal.go)
//
// It must never answer for a write that a majority has not synced, never answer a read without
// either a lease or a ReadIndex round, and never go on after its log has failed.
//
// Floor 2: imports replica/disk, replica/latency, replica/wal, replica/volume and replica/transport.
package replica

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"trinas/replica/disk"
	"trinas/replica/transport"
	"trinas/replica/volume"
)

// Errors that callers tell apart.
var (
	ErrNoIdentity = errors.New("this node belongs to no cluster yet: run trinas init or trinas join")
	ErrNoVolume   = errors.New("no such volume")
	ErrNoPrimary  = errors.New("the volume has no primary")
	ErrClosed     = errors.New("the node is shutting down")
)

// Network carries messages and calls between nodes. transport.Transport is the real one; the
// simulation has its own.
type Network interface {
	SetPeers(map[uint64]string)
	Send(to uint64, ms []transport.Message) (dropped bool)
	Call(ctx context.Context, to uint64, parts ...[]byte) ([]byte, error)
	Free(answer []byte) // takes the memory of Call's answer back; not required
	Connected(to uint64) bool
	Close() error
}

// Clock is time since some fixed moment, counting suspended time (CLOCK_BOOTTIME): leases are
// measured on it.
type Clock func() time.Duration

// Options says how a node runs. Zero fields take the defaults given here.
type Options struct {
	Disk      disk.FS // the data directory
	Name      string  // when set, Open refuses the data directory of a node with another name
	Listen    string  // host:port for the other nodes
	Advertise string  // host:port told to the other nodes

	LogBytes             int64         // most bytes of log kept for replicas that lag; default 2 GiB
	SegmentBytes         int64         // default 64 MiB
	LogIndexBytes        int64         // memory for the places of the entries that are kept: fewer are, where it is less than LogBytes' would take; default 64 MiB
	LogCacheBytes        int64         // default 32 MiB
	UnderWayBytes        int64         // proposals between acceptance and apply, per group, and half of it sent ahead to one replica; default 32 MiB
	ReceivedBytes        int64         // entries that came from other nodes and wait for this one's log; default 32 MiB
	QueueBytes           int64         // messages queued for one other node; default 32 MiB
	AnsweringBytes       int64         // requests of other nodes that are being answered, with their answers; default 64 MiB
	CheckpointInterval   time.Duration // default 60 s
	ResyncBytesPerSecond int64         // most that a replica which fell behind fetches; 0: no bound
	ReplaceAfter         time.Duration // how long a node is out of touch before others get its replicas; 0: never
	VerifyInterval       time.Duration // between two verifications of a volume; 0: none by schedule
	VerifyBytesPerSecond int64         // most that a verification reads on each node; 0: no bound
	VerifyRepair         bool          // a scheduled verification repairs what it finds
	ReserveBytes         uint64        // free space below which writes get ENOSPC; default 256 MiB

	Heartbeat time.Duration // default 100 ms
	Election  time.Duration // default 1 s: silence after which a secondary campaigns, at the earliest
	Lease     time.Duration // default 300 ms; shorter than Election

	Log     *slog.Logger
	Version string // of the program, told to the other nodes; for people
	Level   int    // what the program can do, told to the other nodes; for programs

	// Answer answers the agents of the other nodes, and this one's own (Node.Ask): from is the name of
	// the node that asks. Called from several goroutines; an error travels as text.
	Answer func(ctx context.Context, from, topic string, body []byte) ([]byte, error)

	// Listener, when set, is used instead of Listen. It is the node's once Open has succeeded.
	Listener net.Listener

	// For tests and the simulation. Applied is told of each entry that a replica of a volume has applied, by
	// who applies, with what its replica holds then (volume.Volume.Digest).
	Clock       Clock
	Applied     func(vol volume.ID, index uint64, kind volume.Kind, digest func(objects bool) ([32]byte, error))
	Network     func(self uint64, h transport.Handler, admit JoinHandler) (Network, error)
	RequestJoin func(ctx context.Context, addr, caFingerprint string, request transport.JoinRequest) ([]byte, error)
	Reach       func(ctx context.Context, addr string) error // connects to a node that wants to join
}

// JoinHandler answers a node that asks to join the cluster.
type JoinHandler func(ctx context.Context, remote net.Addr, request []byte) ([]byte, error)

func (o Options) withDefaults() Options {
	set := func(p *int64, v int64) {
		if *p == 0 {
			*p = v
		}
	}
	setTime := func(p *time.Duration, v time.Duration) {
		if *p == 0 {
			*p = v
		}
	}
	set(&o.LogBytes, 2<<30)
	set(&o.SegmentBytes, 64<<20)
	set(&o.LogIndexBytes, 64<<20)
	set(&o.LogCacheBytes, 32<<20)
	set(&o.UnderWayBytes, 32<<20)
	setTime(&o.CheckpointInterval, time.Minute)
	setTime(&o.Heartbeat, 100*time.Millisecond)
	setTime(&o.Election, time.Second)
	setTime(&o.Lease, 300*time.Millisecond)
	if o.ReserveBytes == 0 {
		o.ReserveBytes = 256 << 20
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = bootClock
	}
	if o.RequestJoin == nil {
		o.RequestJoin = transport.RequestJoin
	}
	if o.Reach == nil {
		o.Reach = dialOnce
	}
	return o
}
