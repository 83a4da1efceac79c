package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"

	"golang.org/x/sys/unix"
)

// figures is everything that a run has measured.
type figures struct {
	Date       string      `json:"date"`
	Machine    string      `json:"machine"`
	ImageBytes int64       `json:"image_bytes"`
	Seconds    float64     `json:"seconds"` // of each run
	Rounds     int         `json:"rounds"`
	Rows       []row       `json:"rows"`   // with QEMU's client
	Kernel     []kernelRow `json:"kernel"` // with a Linux kernel's
	Long       []trial     `json:"long"`
	Memory     []memory    `json:"memory"` // of each agent
}

// row is one pattern: the median runs.
type row struct {
	Pattern      string  `json:"pattern"`
	RequestBytes int     `json:"request_bytes"`
	Goal         float64 `json:"goal"`         // ours over ganesha's, at least; 0: none
	GlusterGoal  float64 `json:"gluster_goal"` // the same over GlusterFS'
	Ours         result  `json:"ours"`
	Ganesha      result  `json:"ganesha"`
	Gluster      *result `json:"gluster,omitempty"`
}

// result is one run of one server.
type result struct {
	PerSecond     float64 `json:"requests_per_second"`
	CPUPer1000Ops float64 `json:"cpu_seconds_per_1000_requests"` // all of the server's processes
}

// memory is what one agent holds resident.
type memory struct {
	IdleBytes int64 `json:"idle_bytes"` // with an empty volume
	PeakBytes int64 `json:"peak_bytes"`
}

func (r row) ratio() float64 { return r.over(&r.Ganesha) }

// over is our speed over another's.
func (r row) over(other *result) float64 {
	if other.PerSecond == 0 {
		return 0
	}
	return r.Ours.PerSecond / other.PerSecond
}

// goalText is a goal, or a dash.
func goalText(goal float64) string {
	if goal == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f", goal)
}

// glusterText is GlusterFS' speed, ours over it and the goal: empty columns when it did not take part.
func (r row) glusterText() string {
	if r.Gluster == nil {
		return "\t\t"
	}
	return fmt.Sprintf("%s\t%.2f\t%s", r.speed(r.Gluster.PerSecond), r.over(r.Gluster), goalText(r.GlusterGoal))
}

// cpuRatio is the processor time of a request, ours over ganesha's.
func (r row) cpuRatio() float64 {
	if r.Ganesha.CPUPer1000Ops == 0 {
		return 0
	}
	return r.Ours.CPUPer1000Ops / r.Ganesha.CPUPer1000Ops
}

// speed is requests per second for small requests, MB per second for large ones.
func (r row) speed(perSecond float64) string {
	if r.RequestBytes >= 1<<20 {
		return fmt.Sprintf("%.0f MB/s", perSecond*float64(r.RequestBytes)/1e6)
	}
	return fmt.Sprintf("%.0f/s", perSecond)
}

func (f *figures) print(out io.Writer) {
	fmt.Fprintf(out, "\n%s, %s; %d x %g s each, medians\n", f.Date, f.Machine, f.Rounds, f.Seconds)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	if len(f.Rows) > 0 {
		fmt.Fprintf(w, "\nQEMU's client, image of %d MiB\n", f.ImageBytes>>20)
		fmt.Fprintln(w, "pattern\ttrinas x3\tganesha x1\tratio\tgoal\tGlusterFS x3\tratio\tgoal\tCPU s/1000\tganesha's\t")
		for _, r := range f.Rows {
			fmt.Fprintf(w, "%s\t%s\t%s\t%.2f\t%s\t%s\t%.3f\t%.3f\t\n", r.Pattern, r.speed(r.Ours.PerSecond), r.speed(r.Ganesha.PerSecond),
				r.ratio(), goalText(r.Goal), r.glusterText(), r.Ours.CPUPer1000Ops, r.Ganesha.CPUPer1000Ops)
		}
	}
	if len(f.Kernel) > 0 {
		fmt.Fprintln(w, "\nLinux' client")
		fmt.Fprintln(w, "work\ttrinas x3\tganesha x1\tratio\tmark\tsynced x1\tratio\tcalls\tganesha's\tCPU s/1000\tganesha's\t")
		for _, r := range f.Kernel {
			fmt.Fprintf(w, "%s\t%s\t%s\t%.2f\t%s\t%s\t%.2f\t%d\t%d\t%.3f\t%.3f\t\n", r.Work, r.speed(r.Ours),
				r.speed(r.Ganesha), r.over(r.Ganesha), r.markText(), r.speed(r.Synced), r.over(r.Synced), r.Ours.RPCs.sum(), r.Ganesha.RPCs.sum(),
				r.Ours.cpuPer1000(), r.Ganesha.cpuPer1000())
		}
	}
	w.Flush()
	if len(f.Long) > 0 {
		printTrials(out, f.Long)
	}
	fmt.Fprintln(out)
	for i, m := range f.Memory {
		fmt.Fprintf(out, "agent %d: %d MiB resident idle, %d MiB at most\n", i+1, m.IdleBytes>>20, m.PeakBytes>>20)
	}
}

// describeMachine: processor, number of them, kernel.
func describeMachine() string {
	model := runtime.GOARCH
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	kernel := "?"
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		kernel = unix.ByteSliceToString(u.Release[:])
	}
	return fmt.Sprintf("%d x %s, Linux %s", runtime.NumCPU(), model, kernel)
}
