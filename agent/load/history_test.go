package load

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// numberOf is the device number of a directory's file system.
func numberOf(t *testing.T, dir string) string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
}

// Goal: a history has the last hour, oldest first, and no more; what was not known comes back from JSON as not known.
func TestHistory(t *testing.T) {
	h := NewHistory(3 * time.Second)
	begin := time.Unix(1e9, 0)
	const reports = 3000 // two and a half hours
	for i := range reports {
		h.Add(&Report{Time: begin.Add(time.Duration(i) * 3 * time.Second), IntervalSec: 3, CPUPercent: float64(i)})
	}
	h.Add(&Report{Time: begin, IntervalSec: 3})           // older: a node's clock was set back
	h.Add(&Report{Time: begin.Add(time.Hour * 24 * 365)}) // the first of a machine that was started again
	last := begin.Add((reports - 1) * 3 * time.Second)
	all := h.Since(begin)
	if n := len(all.Time); n != 1201 || all.Time[n-1] != last.Unix() || all.Time[0] != last.Unix()-3600 || all.Values[CPUPercent][n-1] != reports-1 {
		t.Errorf("%d points", n)
	}
	minute := h.Since(last.Add(-time.Minute))
	if len(minute.Time) != 21 || len(minute.Values) != columns || len(minute.Values[LogDiskUtilPercent]) != 21 {
		t.Errorf("a minute: %d points, %d columns", len(minute.Time), len(minute.Values))
	}
	b, err := json.Marshal(minute)
	var back Series
	if err != nil || json.Unmarshal(b, &back) != nil || !strings.Contains(string(b), `"log_disk_util_percent":[null,`) {
		t.Fatalf("%v: %s", err, b)
	}
	if v := back.Values[LogDiskUtilPercent][0]; v == v || back.Values[CPUPercent][20] != reports-1 {
		t.Errorf("back: %v", back.Values)
	}
	if got := h.mean(last.Add(-6*time.Second), CPUPercent); got != reports-2 {
		t.Errorf("mean %g", got)
	}
	if got := h.mean(last, LogDiskUtilPercent); got != 0 {
		t.Errorf("mean of nothing: %g", got)
	}
	if b, err := (Values{float32(math.Inf(1)), 1.23456}).MarshalJSON(); err != nil || string(b) != "[null,1.235]" {
		t.Errorf("%s, %v", b, err)
	}
}

// Goal: a machine is in trouble by its last minute, not by a moment, and each trouble is named.
func TestJudge(t *testing.T) {
	well := Report{IntervalSec: 3, Memory: Amount{50, 100}, Capacity: Amount{50, 100}, LogWrites: &Latency{P99Ms: 2}}
	for name, tt := range map[string]struct {
		change func(*Report)
		say    string
		busy   float64
	}{
		"well":     {func(*Report) {}, "", 0},
		"cpu":      {func(r *Report) { r.CPUPercent = 97 }, "processors are busy (97 %)", 0.97},
		"busy":     {func(r *Report) { r.CPUPercent = 80 }, "", 0.8},
		"wait":     {func(r *Report) { r.IODelayPercent = 60 }, "I/O delay 60 %", 0.6},
		"log":      {func(r *Report) { r.LogWrites.P99Ms = 300 }, "writes of its log take long (300 ms)", 0},
		"disk":     {func(r *Report) { r.LogDisk = &Disk{UtilPercent: 99, WriteMs: 200} }, "disk of its log is busy (99 %)", 0.99},
		"memory":   {func(r *Report) { r.Memory.UsedBytes = 97 }, "memory is short (3.0 % free)", 0},
		"space":    {func(r *Report) { r.Capacity.UsedBytes = 96 }, "has 4.0 % left", 0},
		"pressure": {func(r *Report) { r.Pressure = &Pressure{MemoryFullPercent: 30} }, "wait for memory (30 % of the time)", 0},
	} {
		h := NewHistory(3 * time.Second)
		var r Report
		for i := range 30 {
			r = well
			r.LogWrites = &Latency{P99Ms: 2}
			r.Time = time.Unix(1e9+3*int64(i), 0)
			tt.change(&r)
			h.Add(&r)
		}
		if j := Judge(&r, h); !strings.Contains(j.Trouble, tt.say) || (tt.say == "") != (j.Trouble == "") || math.Abs(j.Busy-tt.busy) > 0.01 {
			t.Errorf("%s: %+v", name, j)
		}
	}
	h := NewHistory(3 * time.Second)
	r := well
	for i := range 30 {
		r.Time, r.CPUPercent = time.Unix(1e9+3*int64(i), 0), 0
		if i >= 27 {
			r.CPUPercent = 100
		}
		h.Add(&r)
	}
	if j := Judge(&r, h); j.Trouble != "" {
		t.Errorf("busy for 9 s only: %+v", j)
	}
}

// Goal: images belong to guests by Proxmox's layout; the busiest others are listed, up to a bound.
func TestAddImages(t *testing.T) {
	r := Report{Guests: []Guest{{VMID: 100}}, Files: []Image{}}
	images := []Image{{Path: "images/100/vm-100-disk-0.raw", ReadBytesPerSec: 1}, {Path: "images/101/vm-101-disk-0.raw", ReadBytesPerSec: 5},
		{Path: "template/iso/100/x.iso", WriteBytesPerSec: 9}, {Path: "images/x"}}
	for i := range 2 * maxFiles {
		images = append(images, Image{Path: fmt.Sprintf("f%d", i)})
	}
	r.AddImages(images)
	if len(r.Guests[0].Images) != 1 || len(r.Files) != maxFiles || r.Files[0].WriteBytesPerSec != 9 || r.Files[1].ReadBytesPerSec != 5 {
		t.Errorf("%+v", r)
	}
}
