package replica

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"trinas/replica/volume"
)

// waiting is which files this node's requests wait for that have found no primary: of a request that names a file
// in a directory it is the directory. One that was told to come back later counts for waitingKept more, since
// its client does come back. How many wait is bounded by those who make requests, and those that were sent
// away by maxSentAway in each volume.
type waiting struct {
	mu sync.Mutex
	by map[volume.ID]map[volume.FileID]*waiter
}

type waiter struct {
	requests int
	sentAway time.Duration // when the last one ended without being carried out, by the node's clock; 0: none did
}

const (
	waitingKept = 10 * time.Second // twice what Linux' client waits after NFS3ERR_JUKEBOX
	maxSentAway = 4096
)

func (w *waiting) enter(vol volume.ID, file volume.FileID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.by == nil {
		w.by = map[volume.ID]map[volume.FileID]*waiter{}
	}
	if w.by[vol] == nil {
		w.by[vol] = map[volume.FileID]*waiter{}
	}
	if w.by[vol][file] == nil {
		w.by[vol][file] = new(waiter)
	}
	w.by[vol][file].requests++
}

// leave ends what enter began: the request was carried out, or sent away.
func (w *waiting) leave(vol volume.ID, file volume.FileID, carriedOut bool, now time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	files := w.by[vol]
	f := files[file]
	f.requests--
	switch {
	case carriedOut:
		f.sentAway = 0
	case len(files) <= maxSentAway:
		f.sentAway = max(now, 1)
	}
	w.drop(vol, file, now)
}

// drop forgets a file that nobody waits for.
func (w *waiting) drop(vol volume.ID, file volume.FileID, now time.Duration) {
	f := w.by[vol][file]
	if f.requests > 0 || f.sentAway > 0 && now-f.sentAway < waitingKept {
		return
	}
	if delete(w.by[vol], file); len(w.by[vol]) == 0 {
		delete(w.by, vol)
	}
}

// files gives the files of a volume that requests wait for, ascending.
func (w *waiting) files(vol volume.ID, now time.Duration) []volume.FileID {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id := range w.by[vol] {
		w.drop(vol, id, now)
	}
	return slices.Sorted(maps.Keys(w.by[vol]))
}

// Stuck is a volume that this node is cut off from (Service.CutOff) while requests of this node's own
// wait for it.
type Stuck struct {
	Volume   string
	Reason   string
	Replicas []string // the nodes that keep the volume; a majority of them could serve it
	// Paths are the files that requests wait for, from the volume's root; for a request that names a file in a
	// directory it is the directory, "" for the root. nil: this node has no replica to look them up in.
	Paths []string
}

// Stuck gives the volumes that are stuck on this node, by name. It never waits.
func (n *Node) Stuck() []Stuck {
	state := n.cluster.view()
	var out []Stuck
	for i := range state.Volumes {
		v := &state.Volumes[i]
		files := n.waiting.files(v.ID, n.opt.Clock())
		if len(files) == 0 {
			continue
		}
		var s Service
		if n.judge(&s, v); !s.CutOff {
			continue
		}
		stuck := Stuck{Volume: v.Name, Reason: s.Reason, Replicas: n.names(ids16(v.Replicas))}
		if g := n.group(uint64(v.ID)); g != nil && g.vol != nil {
			stuck.Paths = g.vol.Paths(files)
		}
		out = append(out, stuck)
	}
	slices.SortFunc(out, func(a, b Stuck) int { return strings.Compare(a.Volume, b.Volume) })
	return out
}
