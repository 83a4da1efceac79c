package sim

import (
	"strings"
	"sync"

	"trinas/replica"
	"trinas/replica/volume"
)

// How often replicas are compared while they run: at indexes that all compare at.
const (
	compareEvery = 4  // entries: the table
	bytesEvery   = 32 // entries: files' bytes as well
)

// states are what replicas held at the same index. Their objects may be newer than their table for a while: after
// a restart, which applies again what was applied before, and after a resync. Files' bytes are compared
// from where that is over.
type states struct {
	h *history

	mu    sync.Mutex
	seen  map[stateKey]state
	top   uint64            // the highest index applied anywhere
	last  map[uint64]uint64 // by node: the index applied last
	solid map[uint64]uint64 // by node: objects are as old as the table above this index
	older map[uint64]uint64 // by node of an older version: no verification may be put into the log above it
}

type stateKey struct {
	index   uint64
	objects bool
}

type state struct {
	sum  [32]byte
	node uint64
}

func newStates(h *history) *states {
	return &states{h: h, seen: map[stateKey]state{}, last: map[uint64]uint64{}, solid: map[uint64]uint64{}, older: map[uint64]uint64{}}
}

// watch has all nodes of a cluster tell; it is for New.
func (s *states) watch() func(*replica.Options) {
	node := uint64(0)
	return func(o *replica.Options) {
		node++
		self := node
		o.Applied = func(_ volume.ID, index uint64, kind volume.Kind, digest func(bool) ([32]byte, error)) {
			s.applied(self, index, kind, digest)
		}
	}
}

func (s *states) applied(node, index uint64, kind volume.Kind, digest func(bool) ([32]byte, error)) {
	s.mu.Lock()
	if last := s.last[node]; last != 0 && index != last+1 { // a configuration change was between, or it began anew
		s.solid[node] = max(s.solid[node], s.top+1)
	}
	s.last[node], s.top = index, max(s.top, index)
	if from, old := s.older[node]; old && index > from && kind >= volume.VerifyRange && kind <= volume.Repair {
		s.h.fault("node %d has an older version, and entry %d is of kind %d, which that does not know", node, index, kind)
	}
	objects := index > s.solid[node] && index%bytesEvery == 0
	s.mu.Unlock()
	if index%compareEvery != 0 {
		return
	}
	s.compare(node, stateKey{index, false}, digest)
	if objects {
		s.compare(node, stateKey{index, true}, digest)
	}
}

func (s *states) compare(node uint64, k stateKey, digest func(bool) ([32]byte, error)) {
	sum, err := digest(k.objects)
	if err != nil {
		if strings.Contains(err.Error(), "bytes are missing") {
			s.h.fault("node %d at %d: %v", node, k.index, err)
		}
		return // its disk is in trouble
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch first, known := s.seen[k]; {
	case !known:
		s.seen[k] = state{sum, node}
	case first.sum != sum:
		s.h.fault("nodes %d and %d hold not the same at index %d (bytes of files: %t)", first.node, node, k.index, k.objects)
	}
}

// inFlight is how many entries may have been on their way when a node's older version came.
const inFlight = 128

// setOlder notes that a node has an older version, or not any more.
func (s *states) setOlder(node uint64, older bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if older {
		s.older[node] = s.top + inFlight
	} else {
		delete(s.older, node)
	}
}
