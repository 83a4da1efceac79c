package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"trinas/replica/volume"
)

// Service is what those who use a volume through this node need to know before they do.
type Service struct {
	Cluster string    `json:"cluster"` // the cluster's id
	ID      volume.ID `json:"id"`
	Volume  string    `json:"volume"`
	Primary string    `json:"primary"` // "" while there is none that this node knows of

	// Serving: operations through this node are carried out. When it is false Reason says why not, and
	// CutOff whether waiting is idle: this node has reached no majority of the volume's
	// replicas for cutOffTime, while others may well be serving.
	Serving bool   `json:"serving"`
	CutOff  bool   `json:"cut_off"`
	Reason  string `json:"reason,omitempty"`

	// Health is this node's, in a word, and HealthReason why it is not Healthy.
	Health       Health `json:"health"`
	HealthReason string `json:"health_reason,omitempty"`

	// What the volume's file systems hold and can still take, as last known; all zero when this node
	// has not heard yet.
	Space volume.Space `json:"space"`
}

// cutOffTime is how long a node may reach no majority before it tells that it is cut off. Elections,
// a peer's restart and the start of a whole cluster take less.
const cutOffTime = 10 * time.Second

// serviceWait bounds how long Service waits for the other nodes.
const serviceWait = 50 * time.Millisecond

// knownSpace is the space of each volume as last heard.
type knownSpace struct {
	mu sync.Mutex
	by map[volume.ID]volume.Space
}

// Service answers within serviceWait, whatever the others do. Errors: ErrNoVolume, or that this
// node cannot know yet whether there is such a volume.
func (n *Node) Service(ctx context.Context, name string) (Service, error) {
	ctx, cancel := context.WithTimeout(ctx, serviceWait)
	defer cancel()
	v, err := n.findVolume(ctx, name)
	if err != nil {
		return Service{}, err
	}
	s := Service{Cluster: n.identity.Cluster, ID: v.ID, Volume: name}
	n.judge(&s, v)
	s.Health, s.HealthReason = n.ownHealth()
	if s.Serving {
		op := volume.Op{Kind: volume.FSStat, File: volume.RootID, Gen: 1}
		var res volume.Result
		if err := n.Do(ctx, v.ID, &op, &res); err == nil && res.Err == volume.OK {
			n.space.mu.Lock()
			n.space.by[v.ID] = res.Space
			n.space.mu.Unlock()
		}
	}
	n.space.mu.Lock()
	s.Space = n.space.by[v.ID]
	n.space.mu.Unlock()
	return s, nil
}

// AwaitService is Service once this node can serve the volume, or is cut off from it, or ctx has
// ended: it waits while the volume elects or forms.
func (n *Node) AwaitService(ctx context.Context, name string) (Service, error) {
	tick := time.NewTicker(n.opt.Heartbeat)
	defer tick.Stop()
	for {
		s, err := n.Service(context.WithoutCancel(ctx), name)
		if s.Serving || s.CutOff || errors.Is(err, ErrNoVolume) || errors.Is(err, ErrClosed) {
			return s, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return s, err
		}
	}
}

// Unserved gives why this node does not serve yet, a reason for each volume that it does not serve and one for the
// cluster's state; none: it serves all, be its own replicas up to date or catching up. It never waits.
func (n *Node) Unserved() (reasons []string) {
	if g := n.group(clusterGroup); g == nil || g.view.Load().leader == 0 {
		reasons = append(reasons, "the cluster's state has no primary yet")
	}
	state := n.cluster.view()
	for i := range state.Volumes {
		var s Service
		if n.judge(&s, &state.Volumes[i]); !s.Serving {
			reasons = append(reasons, s.Reason)
		}
	}
	return reasons
}

// findVolume gives what the cluster's state says of a volume. That there is none is only said once this
// node has caught up with the others: after a start it may not have heard of it yet.
func (n *Node) findVolume(ctx context.Context, name string) (*VolumeInfo, error) {
	for asked := false; ; asked = true {
		state := n.cluster.view()
		if v := state.volume(name); v != nil {
			return v, nil
		}
		g := n.group(clusterGroup)
		switch {
		case asked:
			return nil, fmt.Errorf("volume %q: %w (see trinas volume list)", name, ErrNoVolume)
		case g == nil:
			return nil, ErrClosed
		}
		if err := n.catchUp(ctx, g); err != nil {
			return nil, fmt.Errorf("volume %q is not known to this node, which has heard from no majority of the nodes since it started: %w", name, err)
		}
	}
}

// judge fills in whether this node can serve a volume.
func (n *Node) judge(s *Service, v *VolumeInfo) {
	majority := len(v.Replicas)/2 + 1
	reached, since := n.reach(v, majority)
	g := n.group(uint64(v.ID))
	if g != nil && g.vol != nil {
		if leader := g.view.Load().leader; leader != 0 && (leader == n.id || n.net.Connected(leader)) {
			s.Primary = n.nameOf(leader)
		}
	}
	switch {
	case len(reached) < majority:
		s.CutOff = since >= cutOffTime
		s.Reason = fmt.Sprintf("this node reaches %s of the %d nodes that keep volume %q (%s), and %d are needed",
			orNobody(n.names(reached)), len(v.Replicas), v.Name, strings.Join(n.names(ids16(v.Replicas)), ", "), majority)
	case s.Primary != "" || g == nil || g.vol == nil: // without a replica here others know who leads
		s.Serving = true
	default:
		s.Reason = fmt.Sprintf("volume %q has no primary yet", v.Name)
	}
}

// reach gives the nodes with a replica of v that take part and that this node is in touch with,
// itself among them, and for how long they have been fewer than majority.
func (n *Node) reach(v *VolumeInfo, majority int) (nodes []uint16, since time.Duration) {
	now := n.opt.Clock()
	var ages []time.Duration
	for _, id := range v.Replicas {
		age := time.Duration(0)
		if id == n.id {
			if g := n.group(uint64(v.ID)); g == nil || g.vol == nil {
				continue // out of service
			}
		} else if !n.net.Connected(id) {
			if age = n.sessions.age(id, now); age == 0 {
				age = 1 // not now
			}
		}
		if age == 0 {
			nodes = append(nodes, uint16(id))
		}
		ages = append(ages, age)
	}
	slices.Sort(ages)
	if len(ages) < majority {
		return nodes, cutOffTime
	}
	return nodes, ages[majority-1]
}

func ids16(ids []uint64) []uint16 {
	out := make([]uint16, len(ids))
	for i, id := range ids {
		out[i] = uint16(id)
	}
	return out
}

func orNobody(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
