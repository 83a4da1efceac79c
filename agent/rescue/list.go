package rescue

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"trinas/replica/volume"
)

// Entry is one line of a listing.
type Entry struct {
	Name      string    `json:"name"`
	Mode      string    `json:"mode"` // as ls -l shows it
	Links     uint32    `json:"links"`
	UID       uint32    `json:"uid"`
	GID       uint32    `json:"gid"`
	SizeBytes uint64    `json:"size_bytes"`
	UsedBytes uint64    `json:"used_bytes"`
	Modified  time.Time `json:"modified"`
	Target    string    `json:"target,omitempty"` // of a symbolic link
}

// List gives the entries of a directory by name, or the one entry of another file.
func (v *Volume) List(name string) ([]Entry, error) {
	attr, err := v.Lookup(name)
	if err != nil {
		return nil, err
	}
	if attr.Type != volume.Directory {
		parts := split(name)
		e, err := v.entry(parts[len(parts)-1], name, attr)
		return []Entry{e}, err
	}
	found, err := v.ReadDir(attr, name)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(found, func(a, b volume.DirEntry) int { return cmp.Compare(a.Name, b.Name) })
	out := make([]Entry, len(found))
	for i, f := range found {
		if out[i], err = v.entry(f.Name, strings.TrimPrefix(name+"/"+f.Name, "/"), f.Attr); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (v *Volume) entry(base, name string, a volume.Attr) (Entry, error) {
	e := Entry{
		Name: base, Mode: fileMode(a).String(), Links: a.Nlink, UID: a.UID, GID: a.GID,
		SizeBytes: a.SizeBytes, UsedBytes: a.UsedBytes, Modified: time.Unix(0, a.Mtime).UTC(),
	}
	var err error
	if a.Type == volume.SymLink {
		e.Target, err = v.ReadLink(a, name)
	}
	return e, err
}
