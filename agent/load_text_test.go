package main

import (
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

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

// Goal: whole agents tell each other their load, and show a node that has stopped with its last figures and their age.
// Method: two agents and a client of each.
func TestDaemon_Load(t *testing.T) {
	ctx := t.Context()
	first, second := testConfig(t), testConfig(t)
	second.Node.Name = "n2"
	for _, c := range []*time.Duration{(*time.Duration)(&first.Load.Interval), (*time.Duration)(&second.Load.Interval)} {
		*c = time.Second
	}
	first.Metrics.Listen = freeAddress(t)
	second.Metrics.Listen = first.Metrics.Listen // taken, which must keep nobody from anything
	one, _ := startAgent(t, first)
	waitFor(t, one, "waiting", inState(control.Waiting))
	if _, err := one.Load(ctx, 0); err == nil {
		t.Error("load without a cluster")
	}
	inv, err := one.Init(ctx, "home", "")
	if err != nil {
		t.Fatal(err)
	}
	two, stop := startAgent(t, second)
	waitFor(t, two, "waiting", inState(control.Waiting))
	if err := two.Join(ctx, "n2", inv.Address, inv.Token); err != nil {
		t.Fatal(err)
	}
	wait := func(c *control.Client, what string, wanted func(control.Load) bool) control.Load {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			l, err := c.Load(ctx, time.Minute)
			if err == nil && wanted(l) {
				return l
			}
			if time.Now().After(end) {
				t.Fatalf("no %s in time: %+v, %v", what, l, err)
			}
		}
	}
	full := func(l control.Load) bool {
		for _, n := range l.Nodes {
			if !n.Answers || n.Load.IntervalSec == 0 || n.Load.Memory.TotalBytes == 0 || len(n.History.Time) == 0 || n.Health != replica.Healthy {
				return false
			}
		}
		return len(l.Nodes) == 2
	}
	for _, c := range []*control.Client{one, two} {
		wait(c, "load of both", func(l control.Load) bool {
			for i := range l.Nodes { // this machine may be busy
				l.Nodes[i].Health = replica.Healthy
			}
			return full(l)
		})
	}
	if _, err := one.CreateVolume(ctx, "vm", 1); err != nil {
		t.Fatal(err)
	}
	writeFile(t, first.NFS.Listen[0], "hello")
	wait(two, "the file that is written through n1", func(l control.Load) bool {
		files := l.Nodes[0].Load.Files
		return len(files) == 1 && files[0].Volume == "vm" && files[0].Path == "file" && files[0].Writes.P99Ms > 0 && files[0].WriteBytesPerSec > 0 &&
			len(l.Volumes) == 1 && l.Volumes[0].FreeBytes > 0
	})
	for path, say := range map[string]string{"/metrics": "trinas_machine_cpu_ratio", "/": "404"} {
		resp, err := http.Get("http://" + first.Metrics.Listen + path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !strings.Contains(resp.Status+string(b), say) {
			t.Errorf("%s: %s, %v, without %s", path, resp.Status, err, say)
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	l := wait(one, "n2 as one that does not answer", func(l control.Load) bool {
		return !l.Nodes[1].Answers && l.Nodes[1].AgeSec != nil && *l.Nodes[1].AgeSec > 2
	})
	if n := l.Nodes[1]; n.Load == nil || n.Health != replica.Unfit || n.Connected {
		t.Errorf("stopped: %+v", n)
	}
}
