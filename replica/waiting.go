package replica

import (
	"slices"
	"strings"
	"sync"

	"trinas/replica/volume"
)

// waiting counts this node's requests that have found no primary and wait for one, by the file that each
// is about: of a request that names a file in a directory it is the directory. How many there are is bounded by
// those who make requests.
type waiting struct {
	mu sync.Mutex
	by map[volume.ID]map[volume.FileID]int
}

func (w *waiting) enter(vol volume.ID, file volume.FileID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.by == nil {
		w.by = map[volume.ID]map[volume.FileID]int{}
	}
	if w.by[vol] == nil {
		w.by[vol] = map[volume.FileID]int{}
	}
	w.by[vol][file]++
}

func (w *waiting) leave(vol volume.ID, file volume.FileID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	files := w.by[vol]
	if files[file]--; files[file] == 0 {
		delete(files, file)
	}
	if len(files) == 0 {
		delete(w.by, vol)
	}
}

// files gives the files of a volume that requests wait for, ascending.
func (w *waiting) files(vol volume.ID) []volume.FileID {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []volume.FileID
	for id := range w.by[vol] {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
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
		files := n.waiting.files(v.ID)
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
