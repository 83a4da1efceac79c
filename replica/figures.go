package replica

import (
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"trinas/replica/latency"
	"trinas/replica/volume"
)

// Figures is what a node has counted of its own work since it was started, and what its replicas are
// now. For those who watch (Prometheus, trinas load).
type Figures struct {
	LogWrites       latency.Counts // each write of the log with its sync
	LogBytesWritten uint64
	FreeBytes       uint64 // that the data directory can still take
	CertificateEnds time.Time
	Volumes         []VolumeFigures // with a replica on this node that is in service, by id
	Failed          []string        // volumes whose replica here is out of service
}

// VolumeFigures is one replica. What is counted starts at 0 when the replica is opened.
type VolumeFigures struct {
	Name       string
	Primary    bool // this node is
	HasPrimary bool // that this node knows of
	Files      int
	UsedBytes  uint64
	DirtyBytes int64 // that the next checkpoint has to write

	Commits     latency.Counts // as primary: from an operation's arrival until a majority had synced it and it was applied
	Reads       uint64         // as primary
	LeaseMisses uint64         // reads that the lease did not cover, and that had to ask the secondaries
	Primaries   uint64         // changes of the primary
	Resyncs     uint64         // that have ended
	ResyncBytes uint64         // fetched by them
}

// counters are the node's own.
type counters struct {
	writes   latency.Histogram
	logBytes atomic.Uint64
}

func (c *counters) synced(took time.Duration, bytes int) {
	c.writes.Observe(took)
	c.logBytes.Add(uint64(bytes))
}

// groupCounters are a group's.
type groupCounters struct {
	commits     latency.Histogram
	reads       atomic.Uint64
	leaseMisses atomic.Uint64
	primaries   atomic.Uint64
	resyncs     atomic.Uint64
	resyncBytes atomic.Uint64
}

// FileName names a file for people: its volume, and its path from the volume's root as this node's replica
// knows it; where it does not, "file N", and known is false.
func (n *Node) FileName(vol volume.ID, file volume.FileID) (volumeName, path string, known bool) {
	if g := n.group(uint64(vol)); g != nil && g.vol != nil {
		path = g.vol.Path(file)
	}
	if path == "" {
		return n.volumeName(vol), fmt.Sprintf("file %d", file), false
	}
	return n.volumeName(vol), path, true
}

// Figures gives what was counted. It never waits for disk or network.
func (n *Node) Figures() Figures {
	out := Figures{LogWrites: n.counters.writes.Counts(), LogBytesWritten: n.counters.logBytes.Load(),
		FreeBytes: n.free.Load(), CertificateEnds: certificateEnds(n.identity.Cert)}
	for _, g := range n.snapshotGroups() {
		if g.vol == nil {
			continue
		}
		stat, leader := g.vol.Stat(), g.view.Load().leader
		out.Volumes = append(out.Volumes, VolumeFigures{
			Name: g.name, Primary: leader == n.id, HasPrimary: leader != 0,
			Files: stat.Files, UsedBytes: stat.UsedBytes, DirtyBytes: stat.DirtyBytes,
			Commits: g.count.commits.Counts(), Reads: g.count.reads.Load(), LeaseMisses: g.count.leaseMisses.Load(),
			Primaries: g.count.primaries.Load(), Resyncs: g.count.resyncs.Load(), ResyncBytes: g.count.resyncBytes.Load(),
		})
	}
	n.mu.RLock()
	broken := slices.Sorted(maps.Keys(n.broken))
	n.mu.RUnlock()
	for _, id := range broken {
		out.Failed = append(out.Failed, n.volumeName(id))
	}
	return out
}
