package metrics

import (
	"trinas/nfsgw"
	"trinas/replica"
)

// log shows the node's write-ahead log, its disk and its certificate.
func (e emitter) log(f *replica.Figures, st *replica.Status) {
	e.histogram("trinas_log_write_duration_seconds", "How long writes of the log took, each with its sync.", &f.LogWrites)
	e.counter("trinas_log_written_bytes_total", "Bytes written to the log.", float64(f.LogBytesWritten))
	e.gauge("trinas_log_size_bytes", "Size of the log.", float64(st.Log.Bytes))
	e.gauge("trinas_log_limit_bytes", "What the log may take (log.limit).", float64(st.Log.LimitBytes))
	e.is("trinas_log_slow", "Whether the log's disk is slow, so that this node gives away what it is the primary of.", st.Log.Slow)
	e.gauge("trinas_data_free_bytes", "What the data directory can still take.", float64(f.FreeBytes))
	e.gauge("trinas_certificate_expiry_timestamp_seconds", "When this node's certificate ends, in seconds since 1970.",
		float64(f.CertificateEnds.Unix()))
}

// cluster shows the nodes as this one sees them, and its own health.
func (e emitter) cluster(st *replica.Status) {
	e.is("trinas_cluster_has_primary", "Whether the cluster's own group has a primary that this node knows of.", st.Cluster.Primary != "")
	for _, n := range st.Nodes {
		e.is("trinas_node_connected", "Whether this node is connected to another one, or is it.", n.Connected, "peer", n.Name)
	}
	for _, h := range []replica.Health{replica.Healthy, replica.Degraded, replica.Unfit} {
		e.is("trinas_node_health", "This node's health: 1 for the one that it has.", h == st.Node.Health, "health", string(h))
	}
}

// replicas shows what this node's replicas have counted.
func (e emitter) replicas(f *replica.Figures) {
	for i := range f.Volumes {
		v := &f.Volumes[i]
		e.is("trinas_volume_has_primary", "Whether a volume with a replica here has a primary that this node knows of.", v.HasPrimary, "volume", v.Name)
		e.is("trinas_volume_primary", "Whether this node is the volume's primary.", v.Primary, "volume", v.Name)
		e.gauge("trinas_volume_files", "Files of all types in the volume.", float64(v.Files), "volume", v.Name)
		e.gauge("trinas_volume_used_bytes", "Space that the volume's files take on this replica.", float64(v.UsedBytes), "volume", v.Name)
		e.gauge("trinas_volume_dirty_bytes", "What the next checkpoint of this replica has to write.", float64(v.DirtyBytes), "volume", v.Name)
		e.histogram("trinas_commit_duration_seconds", "How long changes took at this primary until a majority had synced them and they were applied.",
			&v.Commits, "volume", v.Name)
		e.counter("trinas_reads_total", "Reads and other queries answered as the primary.", float64(v.Reads), "volume", v.Name)
		e.counter("trinas_lease_misses_total", "Reads that the lease did not cover, so that the secondaries were asked.", float64(v.LeaseMisses), "volume", v.Name)
		e.counter("trinas_primary_changes_total", "Changes of the volume's primary that this node has seen.", float64(v.Primaries), "volume", v.Name)
		e.counter("trinas_resyncs_total", "Resyncs of this replica that have ended.", float64(v.Resyncs), "volume", v.Name)
		e.counter("trinas_resync_fetched_bytes_total", "Bytes that these resyncs have fetched.", float64(v.ResyncBytes), "volume", v.Name)
	}
	e.gauge("trinas_failed_replicas", "Replicas of this node that are out of service.", float64(len(f.Failed)))
}

// volumes shows the replicas of the volumes that this node is the primary of.
func (e emitter) volumes(st *replica.Status) {
	states := []replica.ReplicaState{replica.UpToDate, replica.SyncTarget, replica.Outdated, replica.Failed}
	for _, v := range st.Volumes {
		if v.Primary != st.Node.Name {
			continue
		}
		e.gauge("trinas_volume_missing_replicas", "Replicas that a volume lacks and that no node is known to make anew.", float64(v.Missing), "volume", v.Name)
		e.gauge("trinas_volume_free_bytes", "What every replica in sync can still take.", float64(v.FreeBytes), "volume", v.Name)
		for _, r := range v.Replicas {
			for _, s := range states {
				e.is("trinas_replica_state", "A replica's state, told by the primary: 1 for the one that it has.", r.State == s,
					"volume", v.Name, "node", r.Node, "state", string(s))
			}
			e.gauge("trinas_replica_lag_entries", "Entries of the primary's log that a replica is not known to have synced.",
				float64(r.LagEntries), "volume", v.Name, "node", r.Node)
			e.gauge("trinas_replica_damaged_ranges", "Ranges that the last verification found damaged and that are not repaired.",
				float64(r.Damaged), "volume", v.Name, "node", r.Node)
			left := 0.0
			if r.Resync != nil {
				left = float64(r.Resync.TotalBytes - min(r.Resync.DoneBytes, r.Resync.TotalBytes))
			}
			e.gauge("trinas_replica_resync_left_bytes", "What a replica that is being brought up to date has yet to fetch.", left,
				"volume", v.Name, "node", r.Node)
		}
	}
}

// gateway shows what the NFS server has served.
func (e emitter) gateway(f nfsgw.Figures) {
	for i := range f.Procedures {
		p := &f.Procedures[i]
		e.histogram("trinas_nfs_request_duration_seconds", "How long NFS requests took, waits for a primary included.", &p.Latency, "procedure", p.Name)
	}
	e.counter("trinas_nfs_read_bytes_total", "Bytes that clients have read.", float64(f.ReadBytes))
	e.counter("trinas_nfs_written_bytes_total", "Bytes that clients have written.", float64(f.WrittenBytes))
	e.gauge("trinas_nfs_connections", "Connections of NFS clients.", float64(f.Connections))
}
