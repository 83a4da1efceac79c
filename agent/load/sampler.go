package load

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"time"

	"github.com/shirou/gopsutil/v3/common"
	"github.com/shirou/gopsutil/v3/cpu"
	"github.com/shirou/gopsutil/v3/load"
	"github.com/shirou/gopsutil/v3/mem"
	"github.com/shirou/gopsutil/v3/net"
	"golang.org/x/sys/unix"
)

// Options say what a Sampler looks at. Roots are "/" on a machine, others in tests.
type Options struct {
	DataDir string
	Proc    string // default /proc
	Sys     string // default /sys
	Root    string // of var/run/qemu-server and var/lib/lxc; default /

	// Peers gives the addresses ("host:port") of the other nodes, to find the interfaces that lead
	// there; asked once a minute. nil: none.
	Peers func() []string
}

// Sampler measures this machine. Its methods are for one goroutine.
type Sampler struct {
	opt Options
	ctx context.Context // with gopsutil's roots

	last   time.Time
	cpu    cpu.TimesStat
	nets   map[string]net.IOCountersStat
	disk   diskCounters
	psi    pressureTotals
	guests guestSampler

	logDisk    string // device in /proc/diskstats, "": unknown
	roles      map[string]role
	rolesUntil time.Time // when they are looked up anew
}

// NewSampler makes a sampler. Its first report has no rates.
func NewSampler(opt Options) *Sampler {
	set := func(p *string, v string) {
		if *p == "" {
			*p = v
		}
	}
	set(&opt.Proc, "/proc")
	set(&opt.Sys, "/sys")
	set(&opt.Root, "/")
	s := &Sampler{opt: opt, roles: map[string]role{}}
	s.ctx = context.WithValue(context.Background(), common.EnvKey,
		common.EnvMap{common.HostProcEnvKey: opt.Proc, common.HostSysEnvKey: opt.Sys})
	s.logDisk = s.findDisk(opt.DataDir)
	s.guests = newGuestSampler(opt)
	return s
}

// Sample measures, and gives the load since the last call. What cannot be read is left out or 0, but for
// /proc/stat, without which nothing makes sense: an error.
func (s *Sampler) Sample() (Report, error) {
	now := time.Now()
	r := Report{Time: now, Cores: runtime.NumCPU(), Interfaces: []Interface{}, Guests: []Guest{}, Files: []Image{}}
	if !s.last.IsZero() {
		r.IntervalSec = round(now.Sub(s.last).Seconds())
	}
	times, err := cpu.TimesWithContext(s.ctx, false)
	if err != nil || len(times) == 0 {
		return r, fmt.Errorf("read %s/stat: %v", s.opt.Proc, err)
	}
	span := now.Sub(s.last).Seconds()
	if s.last.IsZero() {
		span = math.Inf(1) // whatever was counted before makes no rate
	} else {
		s.processors(&r, times[0])
	}
	s.cpu, s.last = times[0], now
	s.memory(&r)
	rates := s.network(&r, span)
	r.LogDisk = s.disks(span)
	r.Pressure = s.pressure(span)
	r.Guests = s.guests.sample(span, rates, r.Memory.TotalBytes)
	return r, nil
}

// processors fills in shares of all processors' time. Guests' time is in the others' (User, Nice).
func (s *Sampler) processors(r *Report, t cpu.TimesStat) {
	sum := func(t cpu.TimesStat) float64 {
		return t.User + t.System + t.Idle + t.Nice + t.Iowait + t.Irq + t.Softirq + t.Steal
	}
	total := sum(t) - sum(s.cpu)
	if total <= 0 {
		return
	}
	idle, wait := max(0, t.Idle-s.cpu.Idle), max(0, t.Iowait-s.cpu.Iowait)
	r.IODelayPercent = round(min(100, 100*wait/total))
	r.CPUPercent = round(min(100, max(0, 100*(total-idle-wait)/total)))
}

// memory fills in load average, memory, swap and the data directory's file system.
func (s *Sampler) memory(r *Report) {
	if avg, err := load.AvgWithContext(s.ctx); err == nil {
		r.LoadAverage = [3]float64{avg.Load1, avg.Load5, avg.Load15}
	}
	if vm, err := mem.VirtualMemoryWithContext(s.ctx); err == nil {
		r.Memory = Amount{UsedBytes: vm.Total - min(vm.Available, vm.Total), TotalBytes: vm.Total}
		r.Swap = Amount{UsedBytes: vm.SwapTotal - min(vm.SwapFree, vm.SwapTotal), TotalBytes: vm.SwapTotal}
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(s.opt.DataDir, &fs); err == nil {
		block := uint64(fs.Bsize)
		used := fs.Blocks - min(fs.Bfree, fs.Blocks)
		r.Capacity = Amount{UsedBytes: used * block, TotalBytes: (used + fs.Bavail) * block}
	}
}

// rate is how fast a counter has risen; 0 when it was set back.
func rate(before, now uint64, span float64) float64 {
	if now < before {
		return 0
	}
	return round(float64(now-before) / span)
}

// round leaves three digits after the point: JSON need not have more.
func round(v float64) float64 { return math.Round(1000*v) / 1000 }
