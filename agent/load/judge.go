package load

import (
	"fmt"
	"strings"
	"time"
)

// judgeOver is how far back Judge looks: a moment's rush is no trouble.
const judgeOver = time.Minute

// What Judge takes for trouble, as means over judgeOver.
const (
	busyCPUPercent      = 95
	busyDiskPercent     = 95 // and
	busyDiskMs          = 100
	waitingPercent      = 50 // of time with some task waiting for a disk, or of processors that do
	slowLogMs           = 250
	fewMemoryPercent    = 5 // that is available
	littleSpacePercent  = 5 // that is free
	fullPressurePercent = 20
)

// Judgement is how well a machine can bear more.
type Judgement struct {
	Trouble string  // what it suffers from, "" for nothing
	Busy    float64 // 0: idle, to 1: its processors or disks can take no more
}

// Judge judges a machine by its newest report and its last minute.
func Judge(r *Report, h *History) Judgement {
	from := r.Time.Add(-judgeOver)
	cpu, wait := h.mean(from, CPUPercent), h.mean(from, IODelayPercent)
	disk, pressure := h.mean(from, LogDiskUtilPercent), h.mean(from, IOPressurePercent)
	var troubles []string
	add := func(bad bool, format string, a ...any) {
		if bad {
			troubles = append(troubles, fmt.Sprintf(format, a...))
		}
	}
	add(cpu >= busyCPUPercent, "its processors are busy (%.0f %%)", cpu)
	add(wait >= waitingPercent, "it waits for its disks (I/O delay %.0f %%)", wait)
	add(disk >= busyDiskPercent && r.LogDisk != nil && r.LogDisk.WriteMs >= busyDiskMs, "the disk of its log is busy (%.0f %%)", disk)
	add(h.mean(from, LogWriteP99Ms) >= slowLogMs, "writes of its log take long (%.0f ms)", h.mean(from, LogWriteP99Ms))
	if m := r.Memory; m.TotalBytes > 0 {
		add(100-m.Percent() < fewMemoryPercent, "its memory is short (%.1f %% free)", 100-m.Percent())
	}
	if c := r.Capacity; c.TotalBytes > 0 {
		add(100-c.Percent() < littleSpacePercent, "the file system of its data directory has %.1f %% left", 100-c.Percent())
	}
	if p := r.Pressure; p != nil {
		add(p.MemoryFullPercent >= fullPressurePercent, "its tasks wait for memory (%.0f %% of the time)", p.MemoryFullPercent)
	}
	busy := max(cpu, wait, disk, pressure) / 100
	return Judgement{Trouble: strings.Join(troubles, "; "), Busy: min(1, busy)}
}
