package main

import (
	"math"
	"testing"

	"trinas/agent/control"
	"trinas/agent/load"
	"trinas/replica"
)

// fixedLoad has a node that is well, one that does not answer, and one that never told.
func fixedLoad() control.Load {
	age, old := 1.2, 75.0
	report := &load.Report{Cores: 8, CPUPercent: 12.34, IODelayPercent: 0.5, LoadAverage: [3]float64{0.52, 1, 0.3},
		Memory: load.Amount{UsedBytes: 3 << 30, TotalBytes: 8 << 30}, Capacity: load.Amount{UsedBytes: 1 << 39, TotalBytes: 1 << 40},
		Network: load.Rate{In: 1 << 20, Out: 2048}, LogDisk: &load.Disk{UtilPercent: 31}, LogWrites: &load.Latency{PerSec: 10, P99Ms: 1.234},
		Pressure: &load.Pressure{IOSomePercent: 4.5},
		Guests: []load.Guest{{VMID: 100, Name: "web", Kind: load.QEMU, Cores: 4, CPUPercent: 50, Memory: load.Amount{UsedBytes: 1 << 30, TotalBytes: 2 << 30},
			Network: load.Rate{In: 100, Out: 200}, Images: []load.Image{{Volume: "vms", Path: "images/100/vm-100-disk-0.raw",
				Reads: load.Latency{PerSec: 12.1, P50Ms: 0.2, P99Ms: 30}, ReadBytesPerSec: 4096}}}},
		Files: []load.Image{{Path: "other files", Writes: load.Latency{PerSec: 1, P50Ms: 1, P99Ms: 2}, WriteBytesPerSec: 10}}}
	history := load.Series{Time: []int64{1, 2, 3}, Values: map[string]load.Values{
		load.CPUPercent: {0, 50, 100}, load.IODelayPercent: {0, 0, float32(math.NaN())}, load.NetworkInBytesPerSec: {0, 1000, 2000}}}
	swapping := *report
	swapping.Swap = load.Amount{UsedBytes: 1 << 29, TotalBytes: 1 << 30}
	swapping.LogDisk, swapping.Pressure, swapping.LogWrites, swapping.Guests = nil, nil, nil, nil
	swapping.Files = nil
	return control.Load{
		Nodes: []control.NodeLoad{
			{Node: "pve1", Self: true, Connected: true, Answers: true, Health: replica.Healthy, AgeSec: &age, Load: report, History: &history},
			{Node: "pve2", Health: replica.Unfit, HealthReason: "not connected for 1m15s", AgeSec: &old, Load: &swapping},
			{Node: "pve3", Connected: true},
		},
		Volumes: []control.VolumeLoad{{Volume: "vms", Primary: "pve1", UsedBytes: 1 << 30, FreeBytes: 1 << 40}, {Volume: "iso"}},
	}
}

// Goal: what trinas load and node list show is laid out for people, and changes only on purpose (-update).
func TestLoadText(t *testing.T) {
	golden(t, "load", loadText(fixedLoad()))
	golden(t, "load-guests", guestText(fixedLoad()))
	golden(t, "load-no-guests", guestText(control.Load{Nodes: []control.NodeLoad{{Node: "pve1"}}}))
	st := fixedStatus()
	st.Nodes[0].Health = replica.Healthy
	st.Nodes[1].Health, st.Nodes[1].HealthReason = replica.Degraded, "its replica of volume vmstore is being brought up to date"
	st.Nodes[2].Health, st.Nodes[2].HealthReason = replica.Unfit, "not connected for 12s"
	golden(t, "nodes", nodeTable(*st.Status))
}

// Goal: a sparkline shows the highest of each part, on the scale asked for or beyond it, and blanks where nothing is known.
func TestSparkline(t *testing.T) {
	nan := float32(math.NaN())
	many := make(load.Values, 1200)
	many[1199] = 50
	for _, tt := range []struct {
		values load.Values
		full   float64
		want   string
	}{
		{nil, 100, ""},
		{load.Values{0, 50, 100}, 100, "▁▅█"},
		{load.Values{0, 200}, 100, "▁█"},
		{load.Values{nan, 100}, 100, " █"},
		{many, 100, "▁▁▁▁▁▁▁▁▁▁▁▅"},
	} {
		if got := sparkline(tt.values, tt.full); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.values, got, tt.want)
		}
	}
}
