package pve

import (
	"cmp"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Storage is one of storage.cfg that has the type trinas.
type Storage struct {
	ID     string
	Volume string   // of trinas
	Nodes  []string // the only nodes that may use it; none: all
}

// Storages reads those of type trinas that are not disabled.
func (d Dir) Storages() ([]Storage, error) {
	raw, err := d.read("storage.cfg")
	if err != nil {
		return nil, err
	}
	var out []Storage
	for _, s := range parseSections(raw) {
		if s.kind == "trinas" && !s.on("disable") {
			out = append(out, Storage{ID: s.id, Volume: cmp.Or(s.values["trinas-volume"], s.id), Nodes: list(s.values["nodes"])})
		}
	}
	return out, nil
}

// Guest is a virtual machine or container, as its configuration has it.
type Guest struct {
	SID   string // as HA names it: "vm:100", "ct:101"
	VMID  int
	Node  string // that has its configuration
	Name  string
	Disks []Disk
}

// Disk is one that a guest's configuration names, a CD drive's medium too.
type Disk struct {
	Storage string
	Path    string // from the storage's root: "images/100/vm-100-disk-0.qcow2"
}

// guestKinds are the folders of a node, with what HA calls what is in them and the name's key.
var guestKinds = []struct{ folder, kind, name string }{{"qemu-server", "vm", "name"}, {"lxc", "ct", "hostname"}}

// Guests reads the configurations of all nodes' guests, by number. One that goes meanwhile is left out.
func (d Dir) Guests() ([]Guest, error) {
	var out []Guest
	for _, k := range guestKinds {
		files, err := filepath.Glob(filepath.Join(string(d), "nodes", "*", k.folder, "*.conf"))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			vmid, err := strconv.Atoi(strings.TrimSuffix(filepath.Base(file), ".conf"))
			if err != nil {
				continue
			}
			raw, err := d.read(strings.TrimPrefix(file, string(d)+string(os.PathSeparator)))
			if err != nil {
				return nil, err
			}
			if raw == nil {
				continue
			}
			node := filepath.Base(filepath.Dir(filepath.Dir(file)))
			g := parseGuest(raw, k.name)
			g.SID, g.VMID, g.Node = k.kind+":"+strconv.Itoa(vmid), vmid, node
			out = append(out, g)
		}
	}
	slices.SortFunc(out, func(a, b Guest) int { return cmp.Compare(a.VMID, b.VMID) })
	return out, nil
}

// diskKey is a key whose value names a disk: of a virtual machine, of a container. "unused0" is none that
// the guest has.
var diskKey = regexp.MustCompile(`^(?:(?:ide|sata|scsi|virtio|efidisk|tpmstate|mp)\d+|rootfs)$`)

// parseGuest reads a configuration up to its first snapshot: what follows is how the guest was.
func parseGuest(raw []byte, nameKey string) Guest {
	var g Guest
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			break
		}
		key, value, found := strings.Cut(line, ":")
		if !found || strings.HasPrefix(key, "#") {
			continue
		}
		value = strings.TrimSpace(value)
		switch {
		case key == nameKey:
			g.Name = value
		case diskKey.MatchString(key):
			first, _, _ := strings.Cut(value, ",")
			first = strings.TrimPrefix(strings.TrimPrefix(first, "file="), "volume=")
			if storage, name, ok := strings.Cut(first, ":"); ok {
				g.Disks = append(g.Disks, Disk{storage, diskPath(name)})
			}
		}
	}
	return g
}

// diskPath is where a volume's name lies on a storage of directories (PVE::Storage::Plugin, parse_volname and
// get_subdir). A linked clone's has its base's name in front.
func diskPath(name string) string {
	switch first, rest, _ := strings.Cut(name, "/"); first {
	case "iso":
		return path.Join("template/iso", rest)
	case "import":
		return name
	}
	if parts := strings.Split(name, "/"); len(parts) > 2 {
		name = path.Join(parts[len(parts)-2:]...)
	}
	return path.Join("images", name)
}
