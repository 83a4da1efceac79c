package replica

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"trinas/replica/volume"
)

// clusterCommand is one entry of the cluster group's log, in JSON: they are rare, and an admin
// can read them. Unknown fields of a newer version are refused, since state must not diverge.
type clusterCommand struct {
	Do     string      `json:"do"`
	Time   int64       `json:"time"` // nanoseconds since 1970, by the proposer's clock
	Node   *Member     `json:"node,omitempty"`
	Volume *VolumeInfo `json:"volume,omitempty"`
	Token  *joinToken  `json:"token,omitempty"`
	From   []uint64    `json:"from,omitempty"` // place-volume: the replicas that are to be changed

	Rule *volume.Rule `json:"rule,omitempty"`
}

// Commands.
const (
	cmdAddNode      = "add-node"      // Node (name, address), Token: admits a node, pending; EACCES, EEXIST, ENOSPC
	cmdSeatNode     = "seat-node"     // Node (id): a pending node has arrived; ENOENT
	cmdDropNode     = "drop-node"     // Node (id): a pending node has not arrived in time; ENOENT
	cmdAddToken     = "add-token"     // Token
	cmdAddVolume    = "add-volume"    // Volume (name, replicas); EEXIST, ENOSPC
	cmdDeleteVolume = "delete-volume" // Volume (id); ENOENT
	cmdAllow        = "allow"         // Volume (id), Rule: replaces the one for its client; ENOENT, EINVAL, ENOSPC
	cmdDeny         = "deny"          // Volume (id), Rule (client); ENOENT

	cmdPlaceVolume  = "place-volume"  // Volume (id, replicas), From; ENOENT, EINVAL, EEXIST: another change is under way
	cmdSettleVolume = "settle-volume" // Volume (id, replicas): those who leave have left; ENOENT
	cmdLeaveNode    = "leave-node"    // Node (id): it is to be emptied and removed; ENOENT
	cmdRemoveNode   = "remove-node"   // Node (id); ENOENT, ENOTEMPTY: it still has replicas
)

func (s *clusterState) apply(index uint64, c *clusterCommand) (known bool, errno volume.Errno) {
	switch {
	case c.Do == cmdAddNode && c.Node != nil && c.Token != nil:
		return true, s.addNode(c)
	case c.Do == cmdSeatNode && c.Node != nil:
		return true, s.seatNode(c.Node.ID)
	case c.Do == cmdDropNode && c.Node != nil:
		if m := s.node(c.Node.ID); m == nil || m.Pending == 0 {
			return true, volume.ENOENT
		}
		s.dropPending(c.Node.ID)
		return true, volume.OK
	case c.Do == cmdAddToken && c.Token != nil:
		return true, s.addToken(*c.Token, c.Time)
	case c.Do == cmdAddVolume && c.Volume != nil:
		if s.volume(c.Volume.Name) != nil {
			return true, volume.EEXIST
		}
		if len(s.Volumes) >= maxVolumes {
			return true, volume.ENOSPC
		}
		v := *c.Volume
		v.ID, v.Created = volume.ID(index), c.Time
		s.Volumes = append(s.Volumes, v)
		return true, volume.OK
	case c.Do == cmdDeleteVolume && c.Volume != nil:
		i := slices.IndexFunc(s.Volumes, func(v VolumeInfo) bool { return v.ID == c.Volume.ID })
		if i < 0 {
			return true, volume.ENOENT
		}
		s.Volumes = slices.Delete(slices.Clone(s.Volumes), i, i+1)
		return true, volume.OK
	case (c.Do == cmdAllow || c.Do == cmdDeny) && c.Volume != nil && c.Rule != nil:
		i := slices.IndexFunc(s.Volumes, func(v VolumeInfo) bool { return v.ID == c.Volume.ID })
		if i < 0 {
			return true, volume.ENOENT
		}
		if c.Do == cmdAllow {
			return true, s.allow(&s.Volumes[i], *c.Rule)
		}
		return true, s.Volumes[i].deny(c.Rule.Client)
	case c.Do == cmdPlaceVolume && c.Volume != nil:
		return true, s.placeVolume(c)
	case c.Do == cmdSettleVolume && c.Volume != nil:
		v := s.volumeByID(c.Volume.ID)
		if v == nil || !slices.Equal(v.Replicas, c.Volume.Replicas) {
			return true, volume.ENOENT
		}
		v.Leaving = nil
		return true, volume.OK
	case c.Do == cmdLeaveNode && c.Node != nil:
		m := s.node(c.Node.ID)
		if m == nil {
			return true, volume.ENOENT
		}
		m.Leaving = true
		return true, volume.OK
	case c.Do == cmdRemoveNode && c.Node != nil:
		return true, s.removeNode(c.Node.ID)
	}
	return false, volume.OK
}

// allow puts a rule into a volume's allow list.
func (s *clusterState) allow(v *VolumeInfo, r volume.Rule) volume.Errno {
	if r.Check() != nil {
		return volume.EINVAL
	}
	rules := volume.WithRule(v.Clients, r)
	if len(rules) > volume.MaxRules {
		return volume.ENOSPC
	}
	v.Clients, s.Format = rules, rulesFormat
	return volume.OK
}

// deny takes the rule for client from a volume's allow list.
func (v *VolumeInfo) deny(client netip.Prefix) volume.Errno {
	rules := volume.WithoutRule(v.Clients, client)
	if len(rules) == len(v.Clients) {
		return volume.ENOENT
	}
	v.Clients = rules
	return volume.OK
}

// placeVolume gives a volume other replicas.
func (s *clusterState) placeVolume(c *clusterCommand) volume.Errno {
	v := s.volumeByID(c.Volume.ID)
	switch {
	case v == nil:
		return volume.ENOENT
	case len(v.Leaving) > 0 || !slices.Equal(v.Replicas, c.From):
		return volume.EEXIST
	case len(c.Volume.Replicas) == 0:
		return volume.EINVAL
	}
	for i, id := range c.Volume.Replicas {
		if s.node(id) == nil || slices.Contains(c.Volume.Replicas[:i], id) {
			return volume.EINVAL
		}
	}
	if v.Founders == nil {
		v.Founders = v.Replicas
	}
	for _, id := range c.Volume.Replicas {
		if !slices.Contains(v.Replicas, id) && !slices.Contains(v.Joined, id) {
			v.Joined = append(slices.Clone(v.Joined), id)
		}
	}
	for _, id := range v.Replicas {
		if !slices.Contains(c.Volume.Replicas, id) {
			v.Leaving = append(v.Leaving, id)
		}
	}
	v.Replicas = slices.Clone(c.Volume.Replicas)
	return volume.OK
}

// removeNode ends a node's membership.
func (s *clusterState) removeNode(id uint64) volume.Errno {
	i := slices.IndexFunc(s.Nodes, func(m Member) bool { return m.ID == id })
	if i < 0 {
		return volume.ENOENT
	}
	for _, v := range s.Volumes {
		if slices.Contains(v.Replicas, id) || slices.Contains(v.Leaving, id) {
			return volume.ENOTEMPTY
		}
	}
	s.Nodes = slices.Delete(slices.Clone(s.Nodes), i, i+1)
	return volume.OK
}

// addNode admits a node: pending, under a number of its own. Pending nodes whose name or address
// it takes are dropped: most often it is the same node's earlier attempt. A token that has admitted
// a pending node admits nobody but that node again.
func (s *clusterState) addNode(c *clusterCommand) volume.Errno {
	s.dropTokens(c.Time)
	t := s.token(c.Token.Hash)
	if t == nil || !s.good(t, c.Time) || t.For != "" && !strings.EqualFold(t.For, c.Node.Name) {
		return volume.EACCES
	}
	same := func(m *Member) bool { return strings.EqualFold(m.Name, c.Node.Name) || m.Address == c.Node.Address }
	if m := s.node(t.Node); m != nil && !same(m) {
		return volume.EACCES
	}
	room := len(s.Nodes) < maxNodes
	var dropped []uint64
	for i := range s.Nodes {
		switch m := &s.Nodes[i]; {
		case !same(m):
		case m.ID == t.Replaces:
		case m.Pending == 0:
			return volume.EEXIST
		default:
			dropped, room = append(dropped, m.ID), true
		}
	}
	if !room {
		return volume.ENOSPC
	}
	for _, id := range dropped {
		s.dropPending(id)
	}
	m := *c.Node
	m.ID, m.Pending, m.Replaces = s.NextNode, max(c.Time, 1), t.Replaces
	s.NextNode++
	s.Nodes = append(s.Nodes, m)
	t.Node = m.ID
	return volume.OK
}

// seatNode notes that a pending node has arrived. The one whose place it takes leaves, and is known by
// its name and number from now on if the new one has its name.
func (s *clusterState) seatNode(id uint64) volume.Errno {
	m := s.node(id)
	if m == nil {
		return volume.ENOENT
	}
	m.Pending = 0
	if old := s.node(m.Replaces); old != nil {
		old.Leaving = true
		if strings.EqualFold(old.Name, m.Name) {
			old.Name = fmt.Sprintf("%.50s-old%d", old.Name, old.ID)
		}
	}
	return volume.OK
}

// dropPending forgets a node that has not arrived; its token can admit again.
func (s *clusterState) dropPending(id uint64) {
	s.Nodes = slices.DeleteFunc(slices.Clone(s.Nodes), func(m Member) bool { return m.ID == id })
	for i := range s.Tokens {
		if s.Tokens[i].Node == id {
			s.Tokens[i].Node = 0
		}
	}
}

// seated are the nodes that have arrived.
func (s *clusterState) seated() []Member {
	return slices.DeleteFunc(slices.Clone(s.Nodes), func(m Member) bool { return m.Pending != 0 })
}
