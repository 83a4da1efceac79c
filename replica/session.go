package replica

import (
	"slices"
	"sync"
	"time"
)

// sessionTime is how long a node may be out of touch before an image that is activated elsewhere is
// taken from it. Shorter than anything that starts a lost node's guests elsewhere (Proxmox HA takes
// a minute at least), and longer than the restart of an agent during a live migration.
const sessionTime = 10 * time.Second

// sessions remembers when this node was last in touch with each other one.
type sessions struct {
	mu   sync.Mutex
	seen map[uint64]time.Duration // by member; the node's clock
	ups  map[uint64]uint64        // by node: how often it was connected
}

// connected notes that a node has a new connection to this one.
func (s *sessions) connected(node uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ups == nil {
		s.ups = map[uint64]uint64{}
	}
	s.ups[node]++
}

// connection is a number that is another one after each new connection of a node: it may run another version then.
func (s *sessions) connection(node uint64) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ups[node]
}

// follow takes over who is a member. A new one counts as seen: this node may just have started,
// and knows nothing yet.
func (s *sessions) follow(peers map[uint64]string, now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := make(map[uint64]time.Duration, len(peers))
	for id := range peers {
		seen[id] = now
		if before, known := s.seen[id]; known {
			seen[id] = before
		}
	}
	s.seen = seen
}

// touch notes which members are connected.
func (s *sessions) touch(connected func(uint64) bool, now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.seen {
		if connected(id) {
			s.seen[id] = now
		}
	}
}

// age is how long ago a member was in touch; 0 for one that is not known.
func (s *sessions) age(node uint64, now time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen, known := s.seen[node]
	if !known {
		return 0
	}
	return now - seen
}

// live gives the members that were in touch within sessionTime.
func (s *sessions) live(now time.Duration) []uint16 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []uint16
	for id, seen := range s.seen {
		if now-seen < sessionTime {
			out = append(out, uint16(id))
		}
	}
	slices.Sort(out)
	return out
}
