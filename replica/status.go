package replica

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"

	"trinas/replica/volume"
)

// Status is what a node knows of the cluster. The JSON is an interface for programs: fields are
// added, never changed.
type Status struct {
	Cluster ClusterStatus  `json:"cluster"`
	Node    NodeStatus     `json:"node"` // this one
	Nodes   []NodeStatus   `json:"nodes"`
	Volumes []VolumeStatus `json:"volumes"`
	Log     LogStatus      `json:"log"` // this node's
}

// ClusterStatus names the cluster. Primary leads its own group; "" while nobody does.
type ClusterStatus struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Primary string `json:"primary"`
}

// NodeStatus is one node as this one sees it.
type NodeStatus struct {
	ID        uint64 `json:"id"`
	Name      string `json:"name"`
	Address   string `json:"address"`
	Connected bool   `json:"connected"`
	Joining   bool   `json:"joining,omitempty"` // admitted, and not arrived yet: it counts for nothing
	Leaving   bool   `json:"leaving,omitempty"` // its replicas move to others; then it is no member any more

	Health       Health `json:"health,omitempty"`
	HealthReason string `json:"health_reason,omitempty"` // why it is not Healthy
}

// LogStatus is the node's write-ahead log.
type LogStatus struct {
	Bytes      int64 `json:"bytes"`
	LimitBytes int64 `json:"limit_bytes"`
	Slow       bool  `json:"slow"` // its disk is; the node gives away what it leads
}

// VolumeStatus is one volume. Primary is "" while there is none that this node knows of.
type VolumeStatus struct {
	ID        volume.ID       `json:"id"`
	Name      string          `json:"name"`
	Primary   string          `json:"primary"`
	Term      uint64          `json:"term"`
	Files     uint64          `json:"files"`
	UsedBytes uint64          `json:"used_bytes"`
	FreeBytes uint64          `json:"free_bytes"` // what every replica in sync can still take; 0 where that is not known
	Replicas  []ReplicaStatus `json:"replicas"`
	Leaving   []string        `json:"leaving,omitempty"` // nodes that keep it until others have what they have
	Clients   []volume.Rule   `json:"clients"`           // the allow list, the longest prefixes first
	Verify    *VerifyStatus   `json:"verify,omitempty"`  // as the primary knows it
	Missing   int             `json:"missing,omitempty"` // replicas that it lacks and that nobody is known to make anew

	primary uint64
}

// ReplicaState is what users read, in DRBD's words.
type ReplicaState string

const (
	UpToDate   ReplicaState = "UpToDate"   // has everything that was acknowledged, but for what is on its way (lag.go)
	SyncTarget ReplicaState = "SyncTarget" // is being brought up to date
	Outdated   ReplicaState = "Outdated"   // out of touch: may lack what was acknowledged
	Failed     ReplicaState = "Failed"     // out of service, its disk failed
	Unknown    ReplicaState = "Unknown"    // no primary to ask
)

// ReplicaStatus is one replica of a volume. Synced is the index of the newest entry that it is
// known to have synced; Lag how many entries the primary's log is ahead of that.
type ReplicaStatus struct {
	Node       string       `json:"node"`
	Role       string       `json:"role"` // "primary", "secondary", or of Failed "diskless": its node's guests are served by the others
	State      ReplicaState `json:"state"`
	Synced     uint64       `json:"synced"`
	Applied    uint64       `json:"applied"` // known for this node's own and the primary's
	LagEntries uint64       `json:"lag_entries"`
	Reason     string       `json:"reason,omitempty"` // of Failed

	Resync  *ResyncStatus `json:"resync,omitempty"`  // of SyncTarget, while data is copied
	Damaged int           `json:"damaged,omitempty"` // ranges that its last verification found damaged and that are not repaired
}

// report is what a node tells another of its part (callStatus). Older nodes tell no Machine.
type report struct {
	Leads   []VolumeStatus             `json:"leads"`
	Resyncs map[volume.ID]ResyncStatus `json:"resyncs"` // of its own replicas
	Failed  map[volume.ID]string       `json:"failed"`  // its own replicas that are out of service, and why
	Machine Machine                    `json:"machine"` // its Health is the node's

	RoomBytes uint64 `json:"room_bytes"` // what its data directory can take beyond the reserve; at least 1: 0 is an older node's
}

const (
	// statusWait bounds how long Status waits for the other nodes. For those that take longer there is
	// what they told before (Gather).
	statusWait = 25 * time.Millisecond
	// silentWait is the same for those that did not answer the last time.
	silentWait = 5 * time.Millisecond
	// leaderWait is the same for who needs to know how things are now.
	leaderWait = 300 * time.Millisecond
)

// Status gathers the cluster's state. It answers within statusWait, whatever the others do: those that do
// not answer are shown as they were heard last, for heardKeep.
func (n *Node) Status(ctx context.Context) Status {
	return n.status(n.ask(ctx, statusWait, silentWait))
}

// Known is Status without asking anybody.
func (n *Node) Known() Status { return n.status(nil) }

// status puts together what this node knows, and what others have told just now (fresh) or before.
func (n *Node) status(fresh map[uint64]report) Status {
	s := n.cluster.view()
	name := func(id uint64) string {
		if m := s.node(id); m != nil {
			return m.Name
		}
		return ""
	}
	out := Status{
		Cluster: ClusterStatus{ID: n.identity.Cluster, Name: n.identity.ClusterName},
		Node:    NodeStatus{ID: n.id, Name: n.identity.Name, Connected: true},
		Nodes:   make([]NodeStatus, 0, len(s.Nodes)),
		Log:     LogStatus{Bytes: n.wal.Bytes(), LimitBytes: n.opt.LogBytes, Slow: n.speed.isSlow()},
	}
	if g := n.group(clusterGroup); g != nil {
		out.Cluster.Primary = name(g.view.Load().leader)
	}
	known, failed := n.volumesHeard(n.ownReport(), fresh)
	for i := range s.Nodes {
		m := &s.Nodes[i]
		ns := NodeStatus{ID: m.ID, Name: m.Name, Address: m.Address, Connected: m.ID == n.id || n.net.Connected(m.ID), Joining: m.Pending != 0, Leaving: m.Leaving}
		ns.Health, ns.HealthReason = n.healthOf(m)
		if m.ID == n.id {
			out.Node = ns
		}
		out.Nodes = append(out.Nodes, ns)
	}
	for _, v := range s.Volumes {
		var vs VolumeStatus
		if i := slices.IndexFunc(known, func(k VolumeStatus) bool { return k.ID == v.ID }); i >= 0 {
			vs = known[i]
		} else {
			vs = n.unheard(&v)
		}
		vs.Clients, vs.Leaving = rulesOf(v), n.names(ids16(v.Leaving))
		for i := range vs.Replicas {
			r := &vs.Replicas[i]
			if reason, ok := failed[r.Node][v.ID]; ok {
				r.Role, r.State, r.Reason = "diskless", Failed, reason
			}
		}
		for _, m := range s.Nodes { // a replica that is made anew is none for a while
			reason, ok := failed[m.Name][v.ID]
			if ok && !slices.ContainsFunc(vs.Replicas, func(r ReplicaStatus) bool { return r.Node == m.Name }) {
				vs.Replicas = append(vs.Replicas, ReplicaStatus{Node: m.Name, Role: "diskless", State: Failed, Reason: reason})
			}
		}
		if vs.Missing = 0; v.short() && len(v.Leaving) == 0 && len(vs.Replicas) <= len(v.Replicas) {
			vs.Missing = 1
		}
		out.Volumes = append(out.Volumes, vs)
	}
	slices.SortFunc(out.Volumes, func(a, b VolumeStatus) int { return int(a.ID) - int(b.ID) })
	return out
}

// unheard describes a volume whose primary has told nothing: as far as this node's own replica knows.
func (n *Node) unheard(v *VolumeInfo) VolumeStatus {
	out := VolumeStatus{ID: v.ID, Name: v.Name}
	leader := uint64(0)
	if g := n.group(uint64(v.ID)); g != nil && g.vol != nil {
		stat := g.vol.Stat()
		out.Files, out.UsedBytes = uint64(stat.Files), stat.UsedBytes
		if view := g.view.Load(); view.leader != n.id && n.net.Connected(view.leader) {
			leader = view.leader
			out.Primary, out.primary, out.Term = n.nameOf(leader), leader, view.term
		}
	}
	for _, id := range v.Replicas {
		r := ReplicaStatus{Node: n.nameOf(id), Role: "secondary", State: Unknown}
		if id == leader {
			r.Role = "primary"
		}
		out.Replicas = append(out.Replicas, r)
	}
	return out
}

// Gather asks the other nodes for what they tell of themselves, so that Status and Told have it
// when somebody asks. It waits for all that are connected, until ctx ends.
func (n *Node) Gather(ctx context.Context) { n.ask(ctx, gatherWait, gatherWait) }

// gatherWait bounds Gather.
const gatherWait = 2 * time.Second

// ask asks the nodes that are connected for their reports, and returns those that came within wait, or
// within silent from those that did not answer the last time.
func (n *Node) ask(ctx context.Context, wait, silent time.Duration) map[uint64]report {
	var mu sync.Mutex
	fresh := map[uint64]report{}
	var asking sync.WaitGroup
	for id := range n.peers() {
		if !n.net.Connected(id) {
			continue
		}
		patience := wait
		if n.isSilent(id) {
			patience = silent
		}
		asking.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			raw, err := n.net.Call(ctx, id, []byte{callStatus})
			if err != nil {
				n.noteSilent(id)
				return // it shows as not connected, or as it was heard last
			}
			var r report
			if json.Unmarshal(raw, &r) != nil {
				return
			}
			n.note(id, r)
			mu.Lock()
			fresh[id] = r
			mu.Unlock()
		})
	}
	asking.Wait()
	return fresh
}

func (n *Node) answerStatus(reply []byte) ([]byte, error) {
	raw, err := json.Marshal(n.ownReport())
	if err != nil {
		return nil, fmt.Errorf("encode the status: %w", err)
	}
	return append(reply, raw...), nil
}

// ownReport describes the volumes whose primary this node is, its replicas' resyncs, and its machine.
func (n *Node) ownReport() report {
	s := n.cluster.view()
	out := report{Leads: []VolumeStatus{}, Resyncs: map[volume.ID]ResyncStatus{}, Failed: map[volume.ID]string{}}
	room, _ := n.roomOn(n.id)
	out.RoomBytes = max(room, 1)
	n.mu.RLock()
	for id, b := range n.broken {
		out.Failed[id] = b.err.Error()
	}
	n.mu.RUnlock()
	n.heard.mu.Lock()
	out.Machine = n.heard.own
	n.heard.mu.Unlock()
	out.Machine.Health, out.Machine.Reason = n.ownHealth()
	for _, g := range n.snapshotGroups() {
		if r := g.resync.current(); r != nil {
			out.Resyncs[volume.ID(g.id)] = *r
		}
		if g.vol == nil || g.view.Load().leader != n.id {
			continue
		}
		st, ok := g.raftStatus()
		if !ok || st.RaftState != raft.StateLeader {
			continue
		}
		stat := g.vol.Stat()
		vs := VolumeStatus{ID: volume.ID(g.id), Name: g.vol.Info().Name, Primary: n.identity.Name, primary: n.id,
			Term: st.GetTerm(), Files: uint64(stat.Files), UsedBytes: stat.UsedBytes, FreeBytes: g.freeBytesLeft()}
		if info := s.volumeByID(vs.ID); info != nil {
			vs.Verify = g.verifyStatus(info.Created)
		}
		last := st.Progress[n.id].Match
		for _, id := range slices.Sorted(maps.Keys(st.Progress)) {
			pr := st.Progress[id]
			r := ReplicaStatus{Role: "secondary", Synced: pr.Match, State: g.stateOf(id, pr, st.GetCommit())}
			if m := s.node(id); m != nil {
				r.Node = m.Name
			}
			if id == n.id {
				r.Role, r.State, r.Applied = "primary", UpToDate, g.applied.get()
			} else if !n.net.Connected(id) {
				r.State = Outdated
			}
			if pr.Match < last {
				r.LagEntries = last - pr.Match
			}
			if vs.Verify != nil {
				r.Damaged = vs.Verify.damagedOn(r.Node)
			}
			vs.Replicas = append(vs.Replicas, r)
		}
		out.Leads = append(out.Leads, vs)
	}
	return out
}

// stateOf puts Raft's view of a secondary into words.
func (g *group) stateOf(id uint64, pr tracker.Progress, commit uint64) ReplicaState {
	switch {
	case !pr.RecentActive && pr.State != tracker.StateReplicate:
		return Outdated
	case pr.State == tracker.StateReplicate && g.counts(id, pr.IsLearner) && g.upToDate(pr.Match, commit):
		return UpToDate
	default:
		return SyncTarget
	}
}

// raftStatus asks the baton holder; ok is false when the group has closed.
func (g *group) raftStatus() (st raft.Status, ok bool) {
	got := make(chan struct{})
	g.post(event{call: func() { st, ok = g.raft.Status(), true; close(got) }, closing: got})
	<-got
	return st, ok
}
