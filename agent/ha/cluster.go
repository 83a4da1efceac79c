// Package ha puts together what Proxmox HA and trinas know: where each guest on a volume can run, which settings
// matter, and, where the admin has allowed it, what HA has to be told of this node (Evacuator, Killer). It
// must never end a process that it has not recognized, and decides nothing about volumes.
//
// Floor 4: imports replica, agent/pve.
package ha

import (
	"slices"

	"trinas/agent/pve"
)

// Cluster is what the files of Proxmox's cluster file system say of HA.
type Cluster struct {
	Nodes          []string // Proxmox's, sorted
	Resources      []pve.Resource
	Affinities     []pve.Affinity
	Manager        pve.ManagerStatus
	ShutdownPolicy string
	Storages       []pve.Storage
	Guests         []pve.Guest
}

// Read reads the files.
func Read(dir pve.Dir) (c Cluster, err error) {
	if c.Nodes, err = dir.Nodes(); err != nil {
		return c, err
	}
	if c.Resources, err = dir.Resources(); err != nil {
		return c, err
	}
	if c.Affinities, err = dir.Affinities(c.Resources); err != nil {
		return c, err
	}
	if c.Manager, err = dir.ManagerStatus(); err != nil {
		return c, err
	}
	if c.ShutdownPolicy, err = dir.ShutdownPolicy(); err != nil {
		return c, err
	}
	if c.Storages, err = dir.Storages(); err != nil {
		return c, err
	}
	c.Guests, err = dir.Guests()
	return c, err
}

// managed is a guest that HA manages and that has disks on storages of trinas.
type managed struct {
	pve.Resource
	pve.Guest
	disks []disk // on trinas
}

// disk is a guest's, with the storage that it is on.
type disk struct {
	pve.Storage
	path string // from the volume's root
}

// managed gives them in the order of Resources.
func (c *Cluster) managed() []managed {
	var out []managed
	for _, r := range c.Resources {
		i := slices.IndexFunc(c.Guests, func(g pve.Guest) bool { return g.SID == r.SID })
		if i < 0 {
			continue // its configuration is gone
		}
		m := managed{Resource: r, Guest: c.Guests[i]}
		for _, d := range m.Guest.Disks {
			if at := slices.IndexFunc(c.Storages, func(s pve.Storage) bool { return s.ID == d.Storage }); at >= 0 {
				m.disks = append(m.disks, disk{c.Storages[at], d.Path})
			}
		}
		if len(m.disks) > 0 {
			out = append(out, m)
		}
	}
	return out
}

// volumes are those that the guest's disks are on, each once.
func (m *managed) volumes() []string {
	var out []string
	for _, d := range m.disks {
		if !slices.Contains(out, d.Volume) {
			out = append(out, d.Volume)
		}
	}
	return out
}
