package ha

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"trinas/agent/pve"
	"trinas/replica"
)

// Guest is where a guest that HA manages is, and where it could be.
type Guest struct {
	SID     string      `json:"sid"` // "vm:100"
	Name    string      `json:"name"`
	Node    string      `json:"node"`  // that HA has it on
	State   string      `json:"state"` // HA's: "started", "error", ...; "new" while its manager has not taken note of it
	Volumes []Volume    `json:"volumes"`
	Nodes   []Candidate `json:"nodes"` // Proxmox's nodes, sorted
}

// Volume is one that a guest has disks on. Primary is "" while there is none.
type Volume struct {
	Name    string `json:"name"`
	Primary string `json:"primary"`
}

// Candidate says whether a node could take the guest now.
type Candidate struct {
	Node    string   `json:"node"`
	Able    bool     `json:"able"`
	Reasons []string `json:"reasons"` // why it is not
}

// Status judges every guest that HA manages and that has a disk on trinas, as this node sees the cluster.
func Status(c Cluster, st replica.Status) []Guest {
	out := []Guest{}
	for _, m := range c.managed() {
		service := c.Manager.Services[m.Resource.SID]
		g := Guest{SID: m.Resource.SID, Name: m.Name, Node: cmp.Or(service.Node, m.Guest.Node),
			State: cmp.Or(service.State, "new"), Volumes: []Volume{}, Nodes: []Candidate{}}
		if m.Resource.State == "ignored" {
			g.State = "ignored"
		}
		for _, name := range m.volumes() {
			g.Volumes = append(g.Volumes, Volume{name, primaryOf(st, name)})
		}
		for _, node := range c.Nodes {
			reasons := append(c.proxmoxReasons(&m, node), trinasReasons(&m, node, st)...)
			g.Nodes = append(g.Nodes, Candidate{Node: node, Able: len(reasons) == 0, Reasons: append([]string{}, reasons...)})
		}
		out = append(out, g)
	}
	return out
}

func primaryOf(st replica.Status, volume string) string {
	for _, v := range st.Volumes {
		if v.Name == volume {
			return v.Primary
		}
	}
	return ""
}

// proxmoxReasons is why Proxmox would not run the guest on the node.
func (c *Cluster) proxmoxReasons(m *managed, node string) (reasons []string) {
	if state := c.Manager.Nodes[node]; state != pve.NodeOnline {
		reasons = append(reasons, fmt.Sprintf("HA takes the node for %s", cmp.Or(state, "unknown")))
	}
	for _, a := range c.Affinities {
		if a.Strict && slices.Contains(a.Resources, m.Resource.SID) && !slices.Contains(a.Nodes, node) {
			reasons = append(reasons, fmt.Sprintf("the strict rule %s allows %s only", a.Name, strings.Join(a.Nodes, ", ")))
		}
	}
	var told []string
	for _, d := range m.disks {
		if len(d.Nodes) > 0 && !slices.Contains(d.Nodes, node) && !slices.Contains(told, d.ID) {
			told = append(told, d.ID)
			reasons = append(reasons, fmt.Sprintf("storage %s is for %s only", d.ID, strings.Join(d.Nodes, ", ")))
		}
	}
	return reasons
}

// trinasReasons is why the node's agent could not serve the guest.
func trinasReasons(m *managed, node string, st replica.Status) (reasons []string) {
	i := slices.IndexFunc(st.Nodes, func(n replica.NodeStatus) bool { return !n.Joining && strings.EqualFold(n.Name, node) })
	switch {
	case i < 0:
		return []string{"it is no node of the trinas cluster"}
	case !st.Nodes[i].Connected:
		return []string{"its agent is not connected to " + st.Node.Name}
	case st.Nodes[i].Health == replica.Unfit:
		reasons = append(reasons, "its agent is unfit: "+st.Nodes[i].HealthReason)
	}
	for _, volume := range m.volumes() {
		switch {
		case !slices.ContainsFunc(st.Volumes, func(v replica.VolumeStatus) bool { return v.Name == volume }):
			reasons = append(reasons, fmt.Sprintf("there is no volume %s", volume))
		case primaryOf(st, volume) == "":
			reasons = append(reasons, fmt.Sprintf("volume %s has no primary", volume))
		}
	}
	return reasons
}
