package load

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/shirou/gopsutil/v3/disk"
	"golang.org/x/sys/unix"
)

// diskCounters are a device's, at the last look.
type diskCounters struct {
	known bool
	disk.IOCountersStat
}

// findDisk is the block device under a directory, as /proc/diskstats names it; "" where there is none
// that can be found. A file system of several devices, or with numbers of its own (btrfs), is known by the device that
// it was mounted from. Nothing of /dev is asked: the unit has none.
func (s *Sampler) findDisk(dir string) string {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return ""
	}
	number := fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	if link, err := os.Readlink(filepath.Join(s.opt.Sys, "dev/block", number)); err == nil {
		return filepath.Base(link)
	}
	source, isDevice := strings.CutPrefix(s.mountedFrom(number), "/dev/")
	if !isDevice {
		return ""
	}
	name := filepath.Base(source)
	if _, err := os.Stat(filepath.Join(s.opt.Sys, "class/block", name)); err == nil {
		return name
	}
	mapped, _ := filepath.Glob(filepath.Join(s.opt.Sys, "class/block/dm-*/dm/name")) // only a malformed pattern is an error
	for _, file := range mapped {
		if b, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(b)) == name {
			return filepath.Base(filepath.Dir(filepath.Dir(file)))
		}
	}
	return ""
}

// mountedFrom is the source of the mount with a device number, "MAJOR:MINOR" (proc_pid_mountinfo(5)).
func (s *Sampler) mountedFrom(number string) string {
	b, err := os.ReadFile(filepath.Join(s.opt.Proc, "self/mountinfo"))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) < 10 || fields[2] != number {
			continue
		}
		for i, f := range fields[6:] {
			if f == "-" && len(fields) > 6+i+2 {
				return fields[6+i+2]
			}
		}
	}
	return ""
}

// disks gives the log disk's load; nil where it is not known.
func (s *Sampler) disks(span float64) *Disk {
	if s.logDisk == "" {
		return nil
	}
	all, err := disk.IOCountersWithContext(s.ctx, s.logDisk)
	now, found := all[s.logDisk]
	if err != nil || !found {
		s.disk.known = false
		return nil
	}
	before := s.disk
	s.disk = diskCounters{known: true, IOCountersStat: now}
	if !before.known {
		before.IOCountersStat = now
	}
	mean := func(count, ms uint64) float64 { // of int64: a counter that was set back gives nothing
		if int64(count) <= 0 || int64(ms) < 0 {
			return 0
		}
		return round(float64(ms) / float64(count))
	}
	return &Disk{
		Device:      s.logDisk,
		UtilPercent: round(min(100, rate(before.IoTime, now.IoTime, span)/10)), // milliseconds per second
		ReadMs:      mean(now.ReadCount-before.ReadCount, now.ReadTime-before.ReadTime),
		WriteMs:     mean(now.WriteCount-before.WriteCount, now.WriteTime-before.WriteTime),
		ReadsPerSec: rate(before.ReadCount, now.ReadCount, span), WritesPerSec: rate(before.WriteCount, now.WriteCount, span),
		ReadBytesPerSec: rate(before.ReadBytes, now.ReadBytes, span), WriteBytesPerSec: rate(before.WriteBytes, now.WriteBytes, span),
	}
}

// pressureTotals are the microseconds of waiting, by resource and line ("io some"), at the last look.
type pressureTotals map[string]uint64

// pressure reads /proc/pressure, which gopsutil does not; nil where the kernel has none.
func (s *Sampler) pressure(span float64) *Pressure {
	totals := pressureTotals{}
	for _, what := range []string{"cpu", "io", "memory"} {
		b, err := os.ReadFile(filepath.Join(s.opt.Proc, "pressure", what))
		if err != nil {
			continue
		}
		// some avg10=0.00 avg60=0.00 avg300=0.00 total=0
		for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
			kind, rest, _ := strings.Cut(lines.Text(), " ")
			if _, total, ok := strings.Cut(rest, "total="); ok {
				if n, err := strconv.ParseUint(total, 10, 64); err == nil {
					totals[what+" "+kind] = n
				}
			}
		}
	}
	before := s.psi
	s.psi = totals
	if len(totals) == 0 {
		return nil
	}
	share := func(name string) float64 {
		was, known := before[name]
		if !known {
			return 0
		}
		return round(min(100, rate(was, totals[name], span)/1e4)) // microseconds per second
	}
	return &Pressure{CPUSomePercent: share("cpu some"), IOSomePercent: share("io some"), IOFullPercent: share("io full"),
		MemorySomePercent: share("memory some"), MemoryFullPercent: share("memory full")}
}
