package pve

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Resource is a guest that HA manages (ha/resources.cfg). SID names it there: "vm:100", "ct:101".
type Resource struct {
	SID         string
	State       string // that HA is to keep it in: "started", "stopped", "disabled", "ignored"
	MaxRestart  int
	MaxRelocate int

	group string
}

// Affinity says on which nodes resources should run, or, where it is strict, alone may.
type Affinity struct {
	Name      string // of the rule, or of the group of Proxmox VE 8
	Resources []string
	Nodes     []string
	Strict    bool
}

// ManagerStatus is what the CRM has written last (ha/manager_status).
type ManagerStatus struct {
	Master   string                   `json:"master_node"`
	Nodes    map[string]string        `json:"node_status"` // "online", "maintenance", "unknown", "fence", "gone"
	Services map[string]ServiceStatus `json:"service_status"`
}

// ServiceStatus is one resource's.
type ServiceStatus struct {
	Node   string `json:"node"`
	State  string `json:"state"`
	Target string `json:"target"` // while it moves
}

// NodeOnline is the CRM's word for a node that can be given guests.
const NodeOnline = "online"

// Resources reads HA's resources, by SID.
func (d Dir) Resources() ([]Resource, error) {
	raw, err := d.read("ha", "resources.cfg")
	if err != nil {
		return nil, err
	}
	var out []Resource
	for _, s := range parseSections(raw) {
		r := Resource{SID: s.kind + ":" + s.id, State: "started", MaxRestart: 1, MaxRelocate: 1, group: s.values["group"]}
		if state := s.values["state"]; state != "" && state != "enabled" {
			r.State = state
		}
		for key, into := range map[string]*int{"max_restart": &r.MaxRestart, "max_relocate": &r.MaxRelocate} {
			if n, err := strconv.Atoi(s.values[key]); err == nil {
				*into = n
			}
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Resource) int { return strings.Compare(a.SID, b.SID) })
	return out, nil
}

// Affinities reads node affinity rules (Proxmox VE 9, ha/rules.cfg), and groups (8, ha/groups.cfg) as the
// rules that they are for the resources given.
func (d Dir) Affinities(resources []Resource) ([]Affinity, error) {
	raw, err := d.read("ha", "rules.cfg")
	if err != nil {
		return nil, err
	}
	var out []Affinity
	for _, s := range parseSections(raw) {
		if s.kind == "node-affinity" && !s.on("disable") {
			out = append(out, Affinity{Name: s.id, Resources: list(s.values["resources"]), Nodes: affinityNodes(s.values["nodes"]), Strict: s.on("strict")})
		}
	}
	if raw, err = d.read("ha", "groups.cfg"); err != nil {
		return nil, err
	}
	for _, s := range parseSections(raw) {
		a := Affinity{Name: s.id, Nodes: affinityNodes(s.values["nodes"]), Strict: s.on("restricted")}
		for _, r := range resources {
			if r.group == s.id {
				a.Resources = append(a.Resources, r.SID)
			}
		}
		if len(a.Resources) > 0 {
			out = append(out, a)
		}
	}
	return out, nil
}

// affinityNodes reads "pve1:2,pve2": names with priorities.
func affinityNodes(value string) []string {
	nodes := list(value)
	for i := range nodes {
		nodes[i], _, _ = strings.Cut(nodes[i], ":")
	}
	return nodes
}

// ManagerStatus reads the CRM's state; empty where HA was never used.
func (d Dir) ManagerStatus() (ManagerStatus, error) {
	var out ManagerStatus
	raw, err := d.read("ha", "manager_status")
	if err != nil || len(raw) == 0 {
		return out, err
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		return out, fmt.Errorf("decode %s/ha/manager_status: %w", d, err)
	}
	return out, nil
}

var shutdownPolicy = regexp.MustCompile(`(?m)^ha:.*\bshutdown_policy=(\w+)`)

// ShutdownPolicy reads what HA does with a node's guests when the node is shut down (datacenter.cfg).
func (d Dir) ShutdownPolicy() (string, error) {
	raw, err := d.read("datacenter.cfg")
	if err != nil {
		return "", err
	}
	if m := shutdownPolicy.FindSubmatch(raw); m != nil {
		return string(m[1]), nil
	}
	return "conditional", nil
}

// Quorum is what corosync says (.members): whether this node is of a majority, and which nodes it sees.
type Quorum struct {
	Quorate bool
	Online  []string // sorted
}

// Quorum reads it. A Proxmox node without a cluster has none.
func (d Dir) Quorum() (Quorum, error) {
	var file struct {
		Cluster struct {
			Quorate int `json:"quorate"`
		} `json:"cluster"`
		Nodes map[string]struct {
			Online int `json:"online"`
		} `json:"nodelist"`
	}
	raw, err := d.read(".members")
	if err == nil && len(raw) > 0 {
		err = json.Unmarshal(raw, &file)
	}
	if err != nil {
		return Quorum{}, fmt.Errorf("read %s/.members: %w", d, err)
	}
	q := Quorum{Quorate: file.Cluster.Quorate == 1}
	for name, n := range file.Nodes {
		if n.Online == 1 {
			q.Online = append(q.Online, name)
		}
	}
	slices.Sort(q.Online)
	return q, nil
}
