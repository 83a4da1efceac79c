package volume

import "sort"

// Cookies of a directory's own entries; names get larger ones. Cookie 0 asks for the start.
const (
	cookieDot    = 1
	cookieDotDot = 2
)

// directory holds the names of a directory in order of their cookies. A cookie is given when a
// name comes and never again, so that one who reads on from it misses nothing that stayed.
type directory struct {
	parent  FileID // the root's is itself
	cookie  uint64 // last given
	entries []entry
	names   map[string]uint64 // name to cookie
}

// entry is one name. An entry that was removed stays as a mark (file 0) until half are marks.
type entry struct {
	name   string
	cookie uint64
	file   FileID
}

func newDirectory(parent FileID) *directory {
	return &directory{parent: parent, cookie: cookieDotDot}
}

func (d *directory) len() int { return len(d.names) }

// lookup gives the file with that name, 0 if there is none.
func (d *directory) lookup(name string) FileID {
	if cookie, ok := d.names[name]; ok {
		return d.entries[d.after(cookie-1)].file
	}
	return 0
}

// after gives the place of the first entry, removed ones among them, behind cookie.
func (d *directory) after(cookie uint64) int {
	return sort.Search(len(d.entries), func(i int) bool { return d.entries[i].cookie > cookie })
}

// insert adds a name that is not there.
func (d *directory) insert(name string, file FileID) {
	d.cookie++
	d.restore(entry{name: name, cookie: d.cookie, file: file})
}

func (d *directory) restore(e entry) {
	if d.names == nil {
		d.names = make(map[string]uint64)
	}
	d.names[e.name] = e.cookie
	d.entries = append(d.entries, e)
}

// replace makes a name that is there mean another file; it keeps its cookie.
func (d *directory) replace(name string, file FileID) {
	d.entries[d.after(d.names[name]-1)].file = file
}

// remove takes away a name that is there.
func (d *directory) remove(name string) {
	i := d.after(d.names[name] - 1)
	delete(d.names, name)
	d.entries[i].name, d.entries[i].file = "", 0
	if i == len(d.entries)-1 {
		d.entries = d.entries[:i]
	}
	if len(d.entries) >= 16 && len(d.names) <= len(d.entries)/2 {
		d.compact()
	}
}

// compact drops the marks of removed names, and the map's room for them: a map never shrinks. It
// runs after as many removals as it moves entries.
func (d *directory) compact() {
	kept := make([]entry, 0, len(d.names))
	names := make(map[string]uint64, len(d.names))
	for _, e := range d.entries {
		if e.file != 0 {
			kept = append(kept, e)
			names[e.name] = e.cookie
		}
	}
	d.entries, d.names = kept, names
}
