package volume

import "slices"

// fence says which nodes may change an image. A file that was never activated has none: every
// node may change it.
//
// Activate on node B lets B write. Nodes that were writers and are in touch stay so, because a live
// migration has the image open on both sides. Those that are out of touch are shut out: their guest
// is taken for dead, and what their kernel still has queued must never get in, whenever it
// arrives. They stay shut out, also after the image was deactivated everywhere, until they activate
// it again.
type fence struct {
	writers []uint16 // nodes where the image is active, ascending
	barred  []uint16 // nodes that were shut out and have not activated it since, ascending
}

// maxFenceNodes bounds each list, by what the codec carries; a cluster has fewer nodes.
const maxFenceNodes = 255

// shuts reports whether node may not change the file.
func (f *fence) shuts(node uint16) bool {
	switch {
	case f == nil:
		return false
	case len(f.writers) > 0:
		return !slices.Contains(f.writers, node)
	}
	return slices.Contains(f.barred, node)
}

// activate is Activate: op.Node may write from now on, and of the others only those in op.Nodes. The
// result's Count is 1 when op.Node had the image active before.
func (v *Volume) activate(op *Op, r *Result) {
	in, e := v.table.find(op.File, op.Gen)
	if e == OK {
		e = in.regular()
	}
	if r.Err = e; e != OK {
		return
	}
	f := in.fence
	if f == nil {
		f = &fence{}
	}
	next := &fence{barred: without(f.barred, op.Node)} // a new one: queries may hold the old
	for _, node := range f.writers {
		switch {
		case node == op.Node:
		case slices.Contains(op.Nodes, node):
			next.writers = with(next.writers, node)
		default:
			next.barred = with(next.barred, node)
		}
	}
	if slices.Contains(f.writers, op.Node) {
		r.Count = 1
	}
	next.writers = with(next.writers, op.Node)
	if len(next.barred) > maxFenceNodes || len(next.writers) > maxFenceNodes {
		r.Err = EINVAL // more nodes than a cluster has
		return
	}
	in.fence = next
	r.Obj = Change{Known: true, After: in.attr()}
}

// deactivate is Deactivate: op.Node no longer writes.
func (v *Volume) deactivate(op *Op, r *Result) {
	in, e := v.table.find(op.File, op.Gen)
	if r.Err = e; e != OK {
		return
	}
	if f := in.fence; f != nil {
		in.fence = &fence{writers: without(f.writers, op.Node), barred: f.barred}
		if len(in.fence.writers)+len(f.barred) == 0 {
			in.fence = nil
		}
	}
	r.Obj = Change{Known: true, After: in.attr()}
}

// ascending reports whether the list is as with makes it.
func ascending(list []uint16) bool {
	for i := 1; i < len(list); i++ {
		if list[i] <= list[i-1] {
			return false
		}
	}
	return true
}

// with gives the ascending list with node in it, without changing the one given.
func with(list []uint16, node uint16) []uint16 {
	at, found := slices.BinarySearch(list, node)
	if found {
		return list
	}
	return slices.Insert(slices.Clone(list), at, node)
}

// without gives the list without node, nil when nothing is left.
func without(list []uint16, node uint16) []uint16 {
	var kept []uint16
	for _, n := range list {
		if n != node {
			kept = append(kept, n)
		}
	}
	return kept
}

// Image is what a replica knows of a file that nodes have activated.
type Image struct {
	File    FileID
	Gen     uint32
	Path    string   // from the volume's root, without a slash at its head; one of its names
	Writers []uint16 // nodes that may write it, ascending; none: it is not active
	Barred  []uint16 // nodes that may not until they activate it again, ascending
}

// Images lists the files that nodes have activated, by path.
func (v *Volume) Images() []Image {
	v.mu.RLock()
	defer v.mu.RUnlock()
	var out []Image
	for in := v.table.first; in != nil; in = in.next {
		if f := in.fence; f != nil {
			out = append(out, Image{File: in.id, Gen: in.gen, Writers: f.writers, Barred: f.barred})
		}
	}
	if len(out) == 0 {
		return nil
	}
	paths := v.table.paths(func(id FileID) bool { return v.table.inodes[id].fence != nil })
	for i := range out {
		out[i].Path = paths[out[i].File]
	}
	slices.SortFunc(out, func(a, b Image) int {
		switch {
		case a.Path < b.Path:
			return -1
		case a.Path > b.Path:
			return 1
		}
		return 0
	})
	return out
}

// Path gives one of a file's names, from the volume's root, without a slash at its head; "" when
// the file is not there. It looks through all directories: for messages, not for requests.
func (v *Volume) Path(id FileID) string {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.table.paths(func(other FileID) bool { return other == id })[id]
}

// Paths gives one path of each of these files that is there, as Path does, "" for the root.
func (v *Volume) Paths(files []FileID) []string {
	v.mu.RLock()
	defer v.mu.RUnlock()
	found := v.table.paths(func(id FileID) bool { return slices.Contains(files, id) })
	out := []string{}
	for _, id := range files {
		if path, ok := found[id]; ok || id == RootID {
			out = append(out, path)
		}
	}
	return out
}

// paths gives the paths of the files that are wanted.
func (t *table) paths(wanted func(FileID) bool) map[FileID]string {
	out := map[FileID]string{}
	for dir := t.first; dir != nil; dir = dir.next {
		if dir.typ != Directory {
			continue
		}
		for _, e := range dir.dir.entries {
			if e.file != 0 && wanted(e.file) {
				out[e.file] = t.pathOf(dir) + e.name
			}
		}
	}
	return out
}

// pathOf gives a directory's path with a slash at its end; "" for the root.
func (t *table) pathOf(dir *inode) string {
	path := ""
	for dir.id != RootID {
		parent := t.inodes[dir.dir.parent]
		for _, e := range parent.dir.entries {
			if e.file == dir.id {
				path = e.name + "/" + path
				break
			}
		}
		dir = parent
	}
	return path
}
