package replica

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"trinas/replica/disk"
	"trinas/replica/volume"
)

// clusterGroup is the id of the group in which every node takes part. Volumes' groups have the
// index of an entry of its log, which is above 1.
const clusterGroup = 1

// Member is a node of the cluster.
type Member struct {
	ID      uint64 `json:"id"` // never used again
	Name    string `json:"name"`
	Address string `json:"address"` // host:port for the other nodes

	// Pending is when the node was admitted, in nanoseconds since 1970; 0 once it has arrived: it
	// runs, and has the cluster's state. Until then it counts for nothing: it gets no replica and
	// no vote, its name and address are free to who has a token, and after TokenLife it is dropped.
	Pending int64 `json:"pending,omitempty"`

	// Replaces is the node whose place this one takes when it arrives.
	Replaces uint64 `json:"replaces,omitempty"`
	Leaving  bool   `json:"leaving,omitempty"` // its replicas move to others; then it is no member any more
}

// VolumeInfo is a volume as the cluster knows it.
type VolumeInfo struct {
	ID       volume.ID `json:"id"`
	Name     string    `json:"name"`
	Replicas []uint64  `json:"replicas"` // nodes
	Created  int64     `json:"created"`  // nanoseconds since 1970

	// Clients is the allow list, in the order of volume.WithRule; never changed in place.
	Clients []volume.Rule `json:"clients,omitempty"`

	// Founders are the nodes that the volume was made on, once it has moved: its group's configuration
	// at index 1. Joined are those that came later, ever; a node's replica then begins empty, outside of the
	// configuration. Leaving are those that have data still, although they are not wanted any more.
	Founders []uint64 `json:"founders,omitempty"`
	Joined   []uint64 `json:"joined,omitempty"`
	Leaving  []uint64 `json:"leaving,omitempty"`
}

// clusterState is what the cluster group's log builds up. Every node holds the authority's key:
// root on any node could read every volume anyway, and any node can so admit another.
type clusterState struct {
	Format  int    `json:"format"`
	Cluster string `json:"cluster"` // 32 hex digits
	Name    string `json:"name"`
	CA      string `json:"ca"`     // PEM
	CAKey   string `json:"ca_key"` // PEM

	NextNode uint64       `json:"next_node"`
	Nodes    []Member     `json:"nodes"`   // by id
	Volumes  []VolumeInfo `json:"volumes"` // by id
	Tokens   []joinToken  `json:"tokens"`
}

// Formats of the state. It has rulesFormat from the first rule on, so that a version that knows no
// rules refuses it instead of forgetting them.
const (
	firstFormat   = 1
	rulesFormat   = 2
	clusterFormat = rulesFormat // the newest that this version knows
	maxTokens     = 64
	maxVolumes    = 1024
	maxNodes      = 64
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

// clusterMachine is the cluster group's state machine.
type clusterMachine struct {
	fs      disk.FS
	changed func() // called after each change, from the applier; must not block

	mu          sync.Mutex
	state       clusterState
	conf        []byte
	index, term uint64
	saved       uint64 // index of the checkpoint on disk

	// rules are the volumes' allow lists, for requests to look at without a lock: as of the last
	// command applied.
	rules atomic.Pointer[map[volume.ID][]volume.Rule]
}

// savedCluster is the checkpoint file: one line with the SHA-256 of the rest, then JSON.
type savedCluster struct {
	Index uint64       `json:"index"`
	Term  uint64       `json:"term"`
	Conf  []byte       `json:"conf"`
	State clusterState `json:"state"`
}

const clusterFile = clusterDir + "/state"

func openCluster(fsys disk.FS) (*clusterMachine, error) {
	m := &clusterMachine{fs: fsys, changed: func() {}}
	m.publishRules()
	raw, err := readFile(fsys, clusterFile)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil // joined, and nothing heard of the cluster yet
	}
	if err != nil {
		return nil, err
	}
	path := fsys.Path(clusterFile)
	sum, body, ok := bytes.Cut(raw, []byte("\n"))
	if want := sha256.Sum256(body); !ok || string(sum) != hex.EncodeToString(want[:]) {
		return nil, fmt.Errorf("%s is damaged (its checksum does not match): keep this node stopped and put a new one in its place (trinas node replace, on another node)", path)
	}
	var s savedCluster
	if err := json.Unmarshal(body, &s); err != nil {
		return nil, fmt.Errorf("decode %s: %w", path, err)
	}
	if s.State.Format > clusterFormat {
		return nil, fmt.Errorf("%s has format %d, this version knows up to %d: install the trinas version that wrote it", path, s.State.Format, clusterFormat)
	}
	m.state, m.conf, m.index, m.term, m.saved = s.State, s.Conf, s.Index, s.Term, s.Index
	m.publishRules()
	return m, nil
}

// publishRules makes the state's allow lists the ones that count. The lock is held, or nobody
// else has the machine yet.
func (m *clusterMachine) publishRules() {
	rules := make(map[volume.ID][]volume.Rule, len(m.state.Volumes))
	for _, v := range m.state.Volumes {
		rules[v.ID] = v.Clients
	}
	m.rules.Store(&rules)
}

// save makes a checkpoint durable.
func (m *clusterMachine) save(s savedCluster) error {
	body, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return err
	}
	sum := sha256.Sum256(body)
	return replaceFile(m.fs, clusterFile, slices.Concat([]byte(hex.EncodeToString(sum[:])+"\n"), body))
}

func (m *clusterMachine) Checkpoint(context.Context) (uint64, error) {
	m.mu.Lock()
	s := savedCluster{Index: m.index, Term: m.term, Conf: m.conf, State: m.state.clone()}
	saved := m.saved
	m.mu.Unlock()
	if s.Index == saved {
		return saved, nil
	}
	if err := m.save(s); err != nil {
		return 0, err
	}
	m.mu.Lock()
	m.saved = max(m.saved, s.Index)
	m.mu.Unlock()
	return s.Index, nil
}

func (m *clusterMachine) Applied() (index, term uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.index, m.term
}

func (m *clusterMachine) Conf() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.conf
}

func (m *clusterMachine) ApplyConf(index, term uint64, conf []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.index, m.term, m.conf = index, term, conf
	return nil
}

func (m *clusterMachine) Position() (index, term uint64, conf []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.index, m.term, m.conf
}

func (m *clusterMachine) Close() error { return nil }

func (m *clusterMachine) Snapshot() (data []byte, index, term uint64, conf []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, err := json.Marshal(m.state)
	if err != nil {
		panic("encode the cluster's state: " + err.Error()) // strings and numbers only
	}
	return data, m.index, m.term, m.conf
}

func (m *clusterMachine) Restore(data []byte, index, term uint64, conf []byte) error {
	var s clusterState
	if err := json.Unmarshal(data, &s); err != nil {
		return fmt.Errorf("decode the cluster's state: %w", err)
	}
	if s.Format > clusterFormat {
		return fmt.Errorf("the cluster's state has format %d, this version knows up to %d: upgrade this node", s.Format, clusterFormat)
	}
	if err := m.save(savedCluster{Index: index, Term: term, Conf: conf, State: s}); err != nil {
		return err
	}
	m.mu.Lock()
	m.state, m.conf, m.index, m.term, m.saved = s, conf, index, term, index
	m.publishRules()
	m.mu.Unlock()
	m.changed()
	return nil
}

// view returns a copy of the state.
func (m *clusterMachine) view() clusterState {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.clone()
}

func (s clusterState) clone() clusterState {
	s.Nodes = slices.Clone(s.Nodes)
	s.Volumes = slices.Clone(s.Volumes)
	s.Tokens = slices.Clone(s.Tokens)
	return s
}

func (m *clusterMachine) Apply(index, term uint64, data []byte) (volume.Result, error) {
	var errno volume.Errno
	if len(data) > 0 {
		var c clusterCommand
		dec := json.NewDecoder(bytes.NewReader(data))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&c); err != nil {
			return volume.Result{}, fmt.Errorf("decode cluster command %d (a newer version's? upgrade this node): %w", index, err)
		}
		m.mu.Lock()
		known, e := m.state.apply(index, &c)
		m.publishRules()
		m.mu.Unlock()
		if !known {
			return volume.Result{}, fmt.Errorf("cluster command %d %q is unknown to this version: upgrade this node", index, c.Do)
		}
		errno = e
	}
	m.mu.Lock()
	m.index, m.term = index, term
	m.mu.Unlock()
	if len(data) > 0 {
		m.changed()
	}
	return volume.Result{Err: errno}, nil
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

func (s *clusterState) volume(name string) *VolumeInfo {
	for i := range s.Volumes {
		if s.Volumes[i].Name == name {
			return &s.Volumes[i]
		}
	}
	return nil
}

func (s *clusterState) volumeByID(id volume.ID) *VolumeInfo {
	for i := range s.Volumes {
		if s.Volumes[i].ID == id {
			return &s.Volumes[i]
		}
	}
	return nil
}

func (s *clusterState) nodeNamed(name string) *Member {
	for i := range s.Nodes {
		if s.Nodes[i].Name == name {
			return &s.Nodes[i]
		}
	}
	return nil
}

func (s *clusterState) node(id uint64) *Member {
	for i := range s.Nodes {
		if s.Nodes[i].ID == id {
			return &s.Nodes[i]
		}
	}
	return nil
}
