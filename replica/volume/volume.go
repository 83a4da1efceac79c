// Package volume is a volume's state machine: its inode table, names, the objects that hold the
// files' bytes, the replies to recent requests, and the checkpoints that make them durable.
// Apply is deterministic: no clock, no randomness, no order of a map; two replicas with the same
// applied index hold the same. It must never answer for an entry that it has not applied whole,
// and never go on after a disk error.
//
// DESIGN.md says how a replica comes back from a crash.
//
// Floor 1: imports replica/disk only.
package volume

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"trinas/replica/disk"
)

var (
	// ErrClosed is the error of a volume that was closed.
	ErrClosed = errors.New("volume is closed")
	// ErrDamaged: what is on the disk is not what was written there. The text says where.
	ErrDamaged = errors.New("the replica's files are damaged")
	// ErrBusy: a checkpoint, flush or resync is under way.
	ErrBusy = errors.New("a checkpoint, flush or resync is under way")
)

// Info is what a volume was made with.
type Info struct {
	ID      ID
	Name    string // of its export, without the slash
	Created int64  // nanoseconds since 1970
}

// Options are a volume's settings. Zero values give the defaults.
type Options struct {
	// WritebackBytesPerSecond bounds how fast a checkpoint writes dirty objects back, so that
	// the log keeps its share of the disk. Default 64 MiB.
	WritebackBytesPerSecond int64
	// Hurry reports whether the log waits for a checkpoint: then write-back goes as fast as the disk. nil: never.
	Hurry func() bool
	// DropSynced reports whether the kernel need not keep in memory what has been synced, since nobody reads
	// this replica. nil: never.
	DropSynced func() bool
	// OpenObjects is how many objects without unsynced changes stay open. Default 512.
	OpenObjects int
	// DirtyObjects is how many objects may have unsynced changes; each is open. One more has
	// the oldest synced on the spot; at half of it WantsFlush asks for a Flush. Default 2048.
	DirtyObjects int
	// Node is the node that this replica is on: a Repair for others changes nothing here. 0: every
	// Repair is carried out.
	Node uint16
	// Rescue: a read that fails is an error of that read, and not the end of this replica. For who reads what is left, and
	// serves nobody.
	Rescue bool
	Log    *slog.Logger // nil: none
}

func (o Options) withDefaults() Options {
	if o.WritebackBytesPerSecond <= 0 {
		o.WritebackBytesPerSecond = 64 << 20
	}
	if o.Hurry == nil {
		o.Hurry = never
	}
	if o.DropSynced == nil {
		o.DropSynced = never
	}
	if o.OpenObjects <= 0 {
		o.OpenObjects = 512
	}
	if o.DirtyObjects <= 0 {
		o.DirtyObjects = 2048
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

func never() bool { return false }

// Volume is one replica of a volume.
//
// Locks, in the order in which they are taken: gate, applyMu, mu, objects.mu.
type Volume struct {
	fs      disk.FS
	opt     Options
	info    Info
	objects *objects

	gate           chan struct{} // holds one element while a Checkpoint or Restore runs, I/O and all
	checkpointSize int           // of the last one, to size the next one's buffer; guarded by it

	// applyMu is held while one entry is applied, its object I/O included, so that a checkpoint
	// sees the volume between two entries. Its holder may read what mu guards without mu.
	applyMu    sync.Mutex
	op         Op          // decoded here, to use its memory again
	pieces     []piece     // of the write under way
	after      effects     // on objects: of the entry under way, or what Tidy still has to do of the last one
	comparison *comparison // the last VerifyRange's, which may still read; nil: none yet

	mu      sync.RWMutex // guards below; not held across I/O
	table   table
	replies replies
	conf    []byte
	applied uint64
	term    uint64
	failure error         // sticky: why this replica is broken, or ErrClosed
	settled uint64        // objects may be newer than the table at indexes up to this one (Settle)
	digests []*comparison // the last maxDigests entries that compare, the newest last
	note    note
}

// Info gives what the volume was made with.
func (v *Volume) Info() Info { return v.info }

// Applied gives the index and term of the last entry applied.
func (v *Volume) Applied() (index, term uint64) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.applied, v.term
}

// Conf gives the Raft configuration as of Applied. The caller must not
// change it.
func (v *Volume) Conf() []byte {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.conf
}

// DirtyBytes gives about how many bytes of objects the next checkpoint has to write.
func (v *Volume) DirtyBytes() int64 {
	_, _, n := v.objects.stats()
	return n
}

// Stats is what a volume's replica shows of itself.
type Stats struct {
	Files        int    // of every type
	UsedBytes    uint64 // allocated to files, in blocks of 4 KiB; the same on every replica
	OpenObjects  int
	DirtyObjects int
	DirtyBytes   int64
	Clients      int // whose replies are remembered
	Replies      int
}

// Stat gives the volume's figures.
func (v *Volume) Stat() Stats {
	var s Stats
	s.OpenObjects, s.DirtyObjects, s.DirtyBytes = v.objects.stats()
	v.mu.RLock()
	defer v.mu.RUnlock()
	s.Files = len(v.table.inodes)
	s.UsedBytes = v.table.blocks * disk.BlockBytes
	s.Clients, s.Replies = len(v.replies.clients), v.replies.count()
	return s
}

// fail makes err the reason why this replica is broken, unless there is one already, and gives
// the reason.
func (v *Volume) fail(err error) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.failure == nil {
		v.failure = fmt.Errorf("volume %q is broken on this node and out of service: %w", v.info.Name, err)
		v.opt.Log.Error("volume is broken", "event", "replica-failed", "volume", v.info.Name, "err", err)
	}
	return v.failure
}

func (v *Volume) broken() error {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.failure
}

// Close closes the objects, after a checkpoint or an Apply under way. It makes nothing durable:
// what is not in a checkpoint comes back from the log. It may be called twice.
func (v *Volume) Close() error {
	v.gate <- struct{}{}
	defer func() { <-v.gate }()
	v.applyMu.Lock()
	defer v.applyMu.Unlock()
	v.comparison.wait()
	v.mu.Lock()
	if v.failure == nil {
		v.failure = ErrClosed
	}
	v.mu.Unlock()
	return v.objects.close()
}
