package ha

import (
	"fmt"
	"slices"
	"strings"

	"trinas/agent/pve"
	"trinas/replica"
)

// Advice is one setting of Proxmox HA that matters to guests on trinas.
type Advice struct {
	Setting string `json:"setting"`
	Good    bool   `json:"good"`
	Text    string `json:"text"`         // how it is
	Do      string `json:"do,omitempty"` // the command that mends it
}

// What guests on trinas should have. A guest that cannot start on a node because its storage is not served
// there is to go to another one at once (max_restart), and further, since it may meet one more such node.
const (
	goodPolicy   = "migrate"
	goodRestart  = 0
	goodRelocate = 2
)

// Advise checks the settings.
func Advise(c Cluster, st replica.Status) []Advice {
	out := []Advice{c.advisePolicy()}
	guests := c.managed()
	for i := range guests {
		out = append(out, adviseRetries(&guests[i].Resource))
	}
	return append(out, c.adviseAffinity(guests, st)...)
}

func (c *Cluster) advisePolicy() Advice {
	a := Advice{Setting: "shutdown_policy", Text: "shutdown_policy=" + c.ShutdownPolicy, Good: c.ShutdownPolicy == goodPolicy}
	if !a.Good {
		a.Text += ": guests do not move away when a node is shut down or rebooted"
		a.Do = "pvesh set /cluster/options --ha shutdown_policy=" + goodPolicy
	}
	return a
}

func adviseRetries(r *pve.Resource) Advice {
	a := Advice{
		Setting: "retries of " + r.SID,
		Text:    fmt.Sprintf("max_restart=%d, max_relocate=%d", r.MaxRestart, r.MaxRelocate),
		Good:    r.MaxRestart == goodRestart && r.MaxRelocate >= goodRelocate,
	}
	if !a.Good {
		a.Text += fmt.Sprintf(": %d and %d bring it up soonest when a node's storage is not served", goodRestart, goodRelocate)
		a.Do = fmt.Sprintf("ha-manager set %s --max_restart %d --max_relocate %d", r.SID, goodRestart, max(goodRelocate, r.MaxRelocate))
	}
	return a
}

// adviseAffinity checks, for each volume that not all nodes keep, that its guests prefer the nodes that do: there a
// read needs no network, and the volume's primary can follow them.
func (c *Cluster) adviseAffinity(guests []managed, st replica.Status) []Advice {
	var out []Advice
	for _, v := range st.Volumes {
		var keepers []string
		for _, r := range v.Replicas {
			keepers = append(keepers, r.Node)
		}
		slices.Sort(keepers)
		var all, without []string
		for i := range guests {
			if m := &guests[i]; slices.Contains(m.volumes(), v.Name) {
				all = append(all, m.Resource.SID)
				if !c.prefers(m.Resource.SID, keepers) {
					without = append(without, m.Resource.SID)
				}
			}
		}
		if len(keepers) == 0 || len(keepers) >= len(c.Nodes) || len(all) == 0 {
			continue
		}
		a := Advice{Setting: "affinity to volume " + v.Name, Good: len(without) == 0,
			Text: fmt.Sprintf("%s prefer %s, which keep the volume", strings.Join(all, ", "), strings.Join(keepers, ", "))}
		if !a.Good {
			a.Text = fmt.Sprintf("%s may be put on any node, and %s keep the volume", strings.Join(without, ", "), strings.Join(keepers, ", "))
			a.Do = fmt.Sprintf("ha-manager rules add node-affinity trinas-%s --resources %s --nodes %s (Proxmox VE 8: a group of these nodes)",
				v.Name, strings.Join(without, ","), strings.Join(keepers, ","))
		}
		out = append(out, a)
	}
	return out
}

// prefers reports whether a rule has the resource prefer some of these nodes and no other.
func (c *Cluster) prefers(sid string, nodes []string) bool {
	for _, a := range c.Affinities {
		if slices.Contains(a.Resources, sid) && len(a.Nodes) > 0 &&
			!slices.ContainsFunc(a.Nodes, func(n string) bool {
				return !slices.ContainsFunc(nodes, func(k string) bool { return strings.EqualFold(k, n) })
			}) {
			return true
		}
	}
	return false
}
