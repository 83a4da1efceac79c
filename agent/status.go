package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"trinas/agent/control"
	"trinas/replica"
)

// statusText is what trinas status shows: the cluster in a line, a line for each replica of each
// volume, a line for each node.
func statusText(st control.Status) string {
	var b strings.Builder
	if st.Status == nil {
		fmt.Fprintf(&b, "agent %s: %s\n", st.Agent.Version, st.Agent.State)
		return b.String()
	}
	fmt.Fprintf(&b, "cluster %s   node %s   nodes connected %s   log %s of %s\n",
		st.Cluster.Name, st.Node.Name, connectedText(st.Nodes),
		bytesText(uint64(st.Log.Bytes)), bytesText(uint64(st.Log.LimitBytes)))
	if st.Agent.State != control.Running {
		fmt.Fprintf(&b, "agent %s: %s\n", st.Agent.Version, st.Agent.State)
	}
	b.WriteByte('\n')
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	if len(st.Volumes) > 0 {
		fmt.Fprintln(w, "VOLUME\tPRIMARY\tUSED\tREPLICA\tROLE\tSTATE\tLAG")
	} else {
		fmt.Fprintln(w, "No volumes. Make one: trinas volume create NAME")
	}
	for _, v := range st.Volumes {
		volumeLines(w, v)
	}
	for _, v := range st.Volumes {
		for _, r := range v.Replicas {
			if r.Reason != "" {
				fmt.Fprintf(w, "\n%s on %s: %s\n", v.Name, r.Node, r.Reason)
			}
		}
		if v.Missing > 0 {
			fmt.Fprintf(w, "\n%s lacks a replica: trinas volume rebuild %s NODE makes it on that node\n", v.Name, v.Name)
		}
		if line := verifyLine(v); line != "" {
			fmt.Fprintf(w, "\n%s\n", line)
		}
	}
	fmt.Fprintln(w)
	fmt.Fprintln(w, "NODE\tADDRESS\tCONNECTED")
	for _, n := range st.Nodes {
		fmt.Fprintf(w, "%s\t%s\t%s\n", n.Name, n.Address, nodeText(n, st.Node.ID))
	}
	w.Flush() // a strings.Builder takes everything
	return b.String()
}

// volumeLines has a line for each replica; the volume's own columns stand in the first.
func volumeLines(w *tabwriter.Writer, v replica.VolumeStatus) {
	name, primary, used := v.Name, orNone(v.Primary), bytesText(v.UsedBytes)
	if len(v.Replicas) == 0 {
		fmt.Fprintf(w, "%s\t%s\t%s\t-\t-\t-\t-\n", name, primary, used)
	}
	for _, r := range v.Replicas {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", name, primary, used, r.Node, r.Role, r.State, lagText(r))
		name, primary, used = "", "", ""
	}
}

// lagText says how far a replica is behind its primary.
func lagText(r replica.ReplicaStatus) string {
	if s := r.Resync; s != nil && s.TotalBytes > 0 {
		return resyncText(s)
	}
	if r.LagEntries == 0 {
		return "0"
	}
	return fmt.Sprintf("%d entries", r.LagEntries)
}

// resyncText says how far the copying of a replica is.
func resyncText(s *replica.ResyncStatus) string {
	left := time.Duration(s.SecondsLeft * float64(time.Second)).Round(time.Second)
	return fmt.Sprintf("%.1f%% of %s, %s left", 100*float64(s.DoneBytes)/float64(max(s.TotalBytes, 1)), bytesText(s.TotalBytes), left)
}

// replicaSummary counts replicas by state: "3 UpToDate", "2 UpToDate, 1 SyncTarget".
func replicaSummary(rs []replica.ReplicaStatus) string {
	count := map[replica.ReplicaState]int{}
	var order []replica.ReplicaState
	for _, r := range rs {
		if count[r.State] == 0 {
			order = append(order, r.State)
		}
		count[r.State]++
	}
	parts := make([]string, len(order))
	for i, state := range order {
		parts[i] = fmt.Sprintf("%d %s", count[state], state)
	}
	return orNone(strings.Join(parts, ", "))
}

func connectedText(nodes []replica.NodeStatus) string {
	n := 0
	for _, node := range nodes {
		if node.Connected {
			n++
		}
	}
	return fmt.Sprintf("%d of %d", n, len(nodes))
}

func nodeText(n replica.NodeStatus, self uint64) string {
	switch {
	case n.ID == self:
		return "this node"
	case n.Connected:
		return "yes"
	}
	return "no"
}

func orNone(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
