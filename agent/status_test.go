package main

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"trinas/agent/control"
	"trinas/replica"
	"trinas/replica/volume"
)

// fixedStatus has a replica in each state that a healthy agent can report.
func fixedStatus() control.Status {
	return control.Status{
		Agent: control.About{Version: "1.2.3", State: control.Running},
		Status: &replica.Status{
			Cluster: replica.ClusterStatus{ID: "00ff", Name: "home"},
			Node:    replica.NodeStatus{ID: 1, Name: "pve1", Address: "10.0.0.1:7370", Connected: true},
			Nodes: []replica.NodeStatus{
				{ID: 1, Name: "pve1", Address: "10.0.0.1:7370", Connected: true},
				{ID: 2, Name: "pve2", Address: "10.0.0.2:7370", Connected: true},
				{ID: 3, Name: "pve3", Address: "10.0.0.3:7370"},
			},
			Volumes: []replica.VolumeStatus{
				{ID: 5, Name: "vmstore", Primary: "pve1", Term: 4, Files: 12, UsedBytes: 3435973836, Clients: []volume.Rule{
					{Client: netip.MustParsePrefix("10.0.0.9/32"), Squash: volume.SquashNone},
					{Client: netip.MustParsePrefix("10.0.0.0/24"), ReadOnly: true, Squash: volume.SquashRoot},
				}, Replicas: []replica.ReplicaStatus{
					{Node: "pve1", Role: "primary", State: replica.UpToDate, Synced: 1000, Applied: 1000},
					{Node: "pve2", Role: "secondary", State: replica.SyncTarget, Synced: 700, LagEntries: 300},
					{Node: "pve3", Role: "secondary", State: replica.Outdated, Synced: 500, LagEntries: 500},
				}},
				{ID: 8, Name: "iso", Missing: 1, Replicas: []replica.ReplicaStatus{
					{Node: "pve1", Role: "secondary", State: replica.Failed, Reason: "write objects/01/0000000000000101: input/output error"},
				}},
			},
			Log: replica.LogStatus{Bytes: 64 << 20, LimitBytes: 2 << 30},
		},
	}
}

// Goal: what trinas status shows is laid out for people, and changes only on purpose. Rewrite the
// expected text with: go test ./agent -run TestStatusText -update
func TestStatusText(t *testing.T) {
	empty := control.Status{Agent: control.About{Version: "1.2.3", State: control.Waiting}}
	none := fixedStatus()
	none.Volumes = nil
	none.Agent.State = control.Stopping
	for name, st := range map[string]control.Status{"status": fixedStatus(), "status-waiting": empty, "status-no-volumes": none} {
		golden(t, name, statusText(st))
	}
	golden(t, "volumes", volumeTable(fixedStatus().Volumes))
	golden(t, "volume", volumeText(fixedStatus().Volumes[0]))
	golden(t, "volume-closed", volumeText(fixedStatus().Volumes[1]))
	golden(t, "volumes-none", volumeTable(nil))
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".txt")
	if update := flag.Lookup("update"); update != nil && update.Value.String() == "true" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

func TestMain(m *testing.M) {
	flag.Bool("update", false, "rewrite the expected output in testdata")
	os.Exit(m.Run())
}

func TestBytesText(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 10 << 10: "10 KiB", 1536 << 20: "1.5 GiB", 1 << 63: "8.0 EiB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}
