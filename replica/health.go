package replica

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"trinas/replica/volume"
)

// Health is how fit a node is to serve, in a word; "" where that is not known, as of a node whose agent is
// older than the word.
type Health string

// The healths, from good to bad.
const (
	Healthy  Health = "Healthy"
	Degraded Health = "Degraded" // it serves, but not as it should
	Unfit    Health = "Unfit"    // it should lead nothing, and be given nothing new
)

// rank orders healths, the better first. Not known counts as good.
func (h Health) rank() int {
	return max(0, slices.Index([]Health{Healthy, Degraded, Unfit}, h))
}

// Machine is what the program around a node tells of the machine, to this node and through it to the
// others (Node.Tell).
type Machine struct {
	Health Health  `json:"health"` // as far as the machine goes
	Reason string  `json:"reason,omitempty"`
	Busy   float64 `json:"busy"` // 0: idle, to 1: its processors or disks can take no more

	// Load is for those who read it (trinas load): the node carries it and does not look into it.
	Load json.RawMessage `json:"load,omitempty"`
}

// maxLoadBytes bounds Machine.Load.
const maxLoadBytes = 1 << 20

// heardKeep is how long what a node has told is taken for true while it is connected and says nothing.
const heardKeep = 10 * time.Second

// heard is what the nodes have told of themselves, each last.
type heard struct {
	mu   sync.Mutex
	own  Machine
	by   map[uint64]report
	when map[uint64]time.Duration // by the node's clock

	silent map[uint64]bool // those that were asked since, and did not answer in time
}

// Tell makes m what this node tells the others of its machine, until the next call.
func (n *Node) Tell(m Machine) {
	if len(m.Load) > maxLoadBytes {
		m.Load = nil // a reader then finds none, as with an older agent
	}
	n.heard.mu.Lock()
	defer n.heard.mu.Unlock()
	n.heard.own = m
}

// Told is what a node has told of itself.
type Told struct {
	Node string
	Self bool
	// Connected: the node can be reached now; of others Age says how long ago they told, Ever whether
	// they did since this node was started.
	Connected, Ever bool
	Age             time.Duration
	Machine
}

// Told gives what each node has told last, this one included, by node number. It never waits.
func (n *Node) Told() []Told {
	s := n.cluster.view()
	out := make([]Told, 0, len(s.Nodes))
	for i := range s.Nodes {
		m := &s.Nodes[i]
		t := Told{Node: m.Name, Self: m.ID == n.id, Connected: m.ID == n.id || n.net.Connected(m.ID)}
		n.heard.mu.Lock()
		if t.Self {
			t.Machine, t.Ever = n.heard.own, true
		} else if when, ok := n.heard.when[m.ID]; ok {
			t.Machine, t.Ever, t.Age = n.heard.by[m.ID].Machine, true, n.opt.Clock()-when
		}
		n.heard.mu.Unlock()
		t.Health, t.Reason = n.healthOf(m)
		out = append(out, t)
	}
	return out
}

// note remembers what a node has told, and forgets nodes that are no members any more.
func (n *Node) note(node uint64, r report) {
	if len(r.Machine.Load) > maxLoadBytes {
		r.Machine.Load = nil
	}
	s := n.cluster.view()
	n.heard.mu.Lock()
	defer n.heard.mu.Unlock()
	n.heard.by[node], n.heard.when[node] = r, n.opt.Clock()
	delete(n.heard.silent, node)
	for id := range n.heard.by {
		if s.node(id) == nil {
			delete(n.heard.by, id)
			delete(n.heard.when, id)
			delete(n.heard.silent, id)
		}
	}
}

// noteSilent remembers that a node has not answered in time.
func (n *Node) noteSilent(node uint64) {
	n.heard.mu.Lock()
	defer n.heard.mu.Unlock()
	n.heard.silent[node] = true
}

func (n *Node) isSilent(node uint64) bool {
	n.heard.mu.Lock()
	defer n.heard.mu.Unlock()
	return n.heard.silent[node]
}

// recent is what a node has told within heardKeep.
func (n *Node) recent(node uint64) (r report, ok bool) {
	n.heard.mu.Lock()
	defer n.heard.mu.Unlock()
	when, ok := n.heard.when[node]
	if !ok || n.opt.Clock()-when > heardKeep {
		return report{}, false
	}
	return n.heard.by[node], true
}

// burden is how little a node should be given of further work: 0 to 8 of one that is Healthy, the larger
// the busier; 16 more of one that is Degraded, 32 more of one that is Unfit. In eighths, so that
// noise decides nothing. What is not known of a node counts as good. (owner)
func (n *Node) burden(node uint64) int {
	var m Machine
	if node == n.id {
		n.heard.mu.Lock()
		m = n.heard.own
		n.heard.mu.Unlock()
		m.Health, _ = n.ownHealth()
	} else {
		r, _ := n.recent(node)
		m = r.Machine
	}
	return 16*m.Health.rank() + int(8*min(max(m.Busy, 0), 1))
}

// ownHealth judges this node: by itself, and by what Tell was told of the machine.
func (n *Node) ownHealth() (Health, string) {
	n.heard.mu.Lock()
	machine := n.heard.own
	n.heard.mu.Unlock()
	j := judgement{health: Healthy}
	if n.Err() != nil {
		j.add(Unfit, "its log has failed")
	}
	if n.speed.isSlow() {
		j.add(Unfit, "the disk of its log is slow")
	}
	if n.freeBytes() <= n.opt.ReserveBytes {
		j.add(Unfit, "the file system of its data directory is full")
	}
	n.judgeReach(&j)
	n.mu.RLock()
	broken := slices.Sorted(maps.Keys(n.broken))
	anew := maps.Clone(n.rebuilds)
	n.mu.RUnlock()
	for _, id := range broken {
		if id == clusterGroup {
			j.add(Degraded, "its copy of the cluster's state has failed")
			continue
		}
		if anew[id] != nil {
			j.add(Degraded, fmt.Sprintf("its replica of volume %s is being made anew", n.volumeName(id)))
			continue
		}
		j.add(Degraded, fmt.Sprintf("its replica of volume %s has failed", n.volumeName(id)))
	}
	for _, g := range n.snapshotGroups() {
		if r := g.resync.current(); r != nil && g.vol != nil {
			j.add(Degraded, fmt.Sprintf("its replica of volume %s is being brought up to date", g.name))
		}
	}
	j.add(machine.Health, machine.Reason)
	return j.health, strings.Join(j.reasons, "; ")
}

// judgeReach adds whether this node has long been out of touch with most of the others.
func (n *Node) judgeReach(j *judgement) {
	s := n.cluster.view()
	now := n.opt.Clock()
	seated := s.seated()
	reached, away := 0, 0
	for _, m := range seated {
		switch {
		case m.ID == n.id || n.net.Connected(m.ID):
			reached++
		case n.sessions.age(m.ID, now) >= cutOffTime:
			away++
		}
	}
	if 2*away >= len(seated) && away > 0 {
		j.add(Unfit, fmt.Sprintf("it reaches %d of %d nodes", reached, len(seated)))
	}
}

// judgement gathers what is wrong with a node, the worst word for all of it.
type judgement struct {
	health  Health
	reasons []string
}

func (j *judgement) add(h Health, reason string) {
	if h.rank() == 0 {
		return
	}
	if h.rank() > j.health.rank() {
		j.health = h
	}
	j.reasons = append(j.reasons, cmp.Or(reason, "not told why"))
}

// healthOf is a member's health, as this node can know it.
func (n *Node) healthOf(m *Member) (Health, string) {
	now := n.opt.Clock()
	switch {
	case m.ID == n.id:
		return n.ownHealth()
	case m.Pending != 0:
		return Unfit, "it has not arrived yet"
	case !n.net.Connected(m.ID):
		away := n.sessions.age(m.ID, now).Round(time.Second)
		return Unfit, fmt.Sprintf("not connected for %s", away)
	}
	n.heard.mu.Lock()
	when, ever := n.heard.when[m.ID]
	r := n.heard.by[m.ID]
	n.heard.mu.Unlock()
	switch age := now - when; {
	case !ever:
		return "", ""
	case age > heardKeep:
		return Unfit, fmt.Sprintf("connected, but does not answer for %s", age.Round(time.Second))
	}
	return r.Machine.Health, r.Machine.Reason
}

// volumesHeard puts together what the nodes tell of the volumes they lead: those that have answered
// now, and for the others that are connected what they told within heardKeep, unless this node knows
// of a later term. And, by node, which replicas are out of service, and why.
func (n *Node) volumesHeard(own report, fresh map[uint64]report) (all []VolumeStatus, failed map[string]map[volume.ID]string) {
	all = slices.Clone(own.Leads)
	failed = map[string]map[volume.ID]string{n.identity.Name: own.Failed}
	resyncs := map[string]map[volume.ID]ResyncStatus{n.identity.Name: own.Resyncs} // by node
	for id := range n.peers() {
		r, now := fresh[id]
		if !now {
			var ok bool
			if r, ok = n.recent(id); !ok || !n.net.Connected(id) {
				continue
			}
		}
		resyncs[n.nameOf(id)], failed[n.nameOf(id)] = r.Resyncs, r.Failed
		for _, v := range r.Leads {
			if g := n.group(uint64(v.ID)); !now && g != nil && g.view.Load().term > v.Term {
				continue
			}
			v.Replicas = slices.Clone(v.Replicas) // those of the report stay as they are
			v.primary = id
			all = append(all, v)
		}
	}
	// Two may both believe to lead for a moment: the higher term is right.
	slices.SortFunc(all, func(a, b VolumeStatus) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(b.Term, a.Term))
	})
	all = slices.CompactFunc(all, func(a, b VolumeStatus) bool { return a.ID == b.ID })
	for _, v := range all {
		for i := range v.Replicas {
			if r, ok := resyncs[v.Replicas[i].Node][v.ID]; ok && v.Replicas[i].State == SyncTarget {
				v.Replicas[i].Resync = &r
			}
		}
	}
	return all, failed
}
