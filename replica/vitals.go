package replica

import (
	"maps"
	"math"
	"slices"
)

// Vital is one of the loops that a node is nothing without. Busy and the same Steps for too long:
// it hangs.
type Vital struct {
	Name  string // "log", "volume vms", "cluster"
	Steps uint64 // grows while it goes on
	Busy  bool   // it has something to do
}

// LogVital is the name of the log's Vital.
const LogVital = "log"

// Vitals returns the log, which is busy while it has something to write, and every group, which
// always is: it has a clock to follow (Options.Heartbeat). It never waits.
func (n *Node) Vitals() []Vital {
	steps, busy := n.wal.Progress()
	out := []Vital{{Name: LogVital, Steps: steps, Busy: busy}}
	for _, g := range n.snapshotGroups() {
		name := g.name
		if g.vol != nil {
			name = "volume " + g.name
		}
		out = append(out, Vital{Name: name, Steps: g.ticks.Load(), Busy: true})
	}
	return out
}

// Abandon leaves the other nodes to themselves: their connections end, so that they need not find
// out. For a node whose log hangs: Close would wait for it. Nothing else may be called after it.
func (n *Node) Abandon() {
	if err := n.net.Close(); err != nil {
		n.log.Debug("close the transport", "err", err)
	}
}

// Summary is this node's part, without asking the others.
type Summary struct {
	Primary, Secondary []string // volumes, by the role of this node's replica
	Alone              []string // volumes with a replica here that have no primary
	Failed             []string // volumes whose replica here is out of service
	Resyncs            []Resync // replicas here that are being brought up to date
	Connected, Nodes   int      // nodes that can be reached, this one included, and all
	LogSlow            bool     // the disk of the log is
}

// Resync is how far a replica has been brought up to date, in percent.
type Resync struct {
	Volume  string
	Percent int
}

// Summary sums up this node's part. It never waits for another node.
func (n *Node) Summary() Summary {
	out := Summary{Connected: 1, Nodes: 1, LogSlow: n.speed.isSlow()}
	for id := range n.peers() {
		out.Nodes++
		if n.net.Connected(id) {
			out.Connected++
		}
	}
	for _, g := range n.snapshotGroups() {
		if g.vol == nil {
			continue
		}
		switch g.view.Load().leader {
		case n.id:
			out.Primary = append(out.Primary, g.name)
		case 0:
			out.Alone = append(out.Alone, g.name)
		default:
			out.Secondary = append(out.Secondary, g.name)
		}
		if r := g.resync.current(); r != nil {
			percent := 100 * float64(r.DoneBytes) / math.Max(1, float64(r.TotalBytes))
			out.Resyncs = append(out.Resyncs, Resync{Volume: g.name, Percent: int(percent)})
		}
	}
	n.mu.RLock()
	broken := slices.Sorted(maps.Keys(n.broken))
	n.mu.RUnlock()
	for _, id := range broken {
		out.Failed = append(out.Failed, n.volumeName(id))
	}
	return out
}
