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
	"slices"
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

// short reports whether a volume lacks a replica: it is made with an odd number, and one that is made anew (rebuild.go)
// leaves before it comes again. Nothing else is changed of it meanwhile, so that a node in the middle of that
// can tell a state from before from one after.
func (v *VolumeInfo) short() bool { return len(v.Replicas)%2 == 0 }

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

// clusterMachine is the cluster group's state machine.
type clusterMachine struct {
	fs      disk.FS
	changed func() // called after each change, from the applier; must not block

	saving chan struct{} // holds one element while a checkpoint is written; taken before mu

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
	m := &clusterMachine{fs: fsys, changed: func() {}, saving: make(chan struct{}, 1)}
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
	m.saving <- struct{}{}
	defer func() { <-m.saving }()
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
	m.saving <- struct{}{}
	defer func() { <-m.saving }()
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
