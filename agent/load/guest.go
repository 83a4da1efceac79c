package load

import (
	"bytes"
	"cmp"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Proxmox gives each guest a control group: qemu.slice/VMID.scope of a virtual machine, lxc/VMID of a
// container; /var/run/qemu-server has the virtual machines' process ids. Names and sizes
// come from the process's command line and from /var/lib/lxc, which are local: /etc/pve may hang.

// maxGuests bounds the guests of one machine.
const maxGuests = 512

// guestSampler measures guests. Its methods are for one goroutine.
type guestSampler struct {
	opt  Options
	used map[guestKey]float64 // seconds of processor time, at the last look
	said map[guestKey]machineSize
}

type guestKey struct {
	kind string
	vmid int
}

// machineSize is what a virtual machine's command line says.
type machineSize struct {
	pid         int
	name        string
	cores       float64
	memoryBytes uint64
}

func newGuestSampler(opt Options) guestSampler {
	return guestSampler{opt: opt, used: map[guestKey]float64{}, said: map[guestKey]machineSize{}}
}

// sample gives the guests that run now. rates are the interfaces'. One that vanishes meanwhile is left out.
func (s *guestSampler) sample(span float64, rates map[string]Rate, memoryBytes uint64) []Guest {
	nets := guestRates(rates)
	used, said := map[guestKey]float64{}, map[guestKey]machineSize{}
	out := []Guest{}
	for _, key := range s.list() {
		size := s.size(key, memoryBytes)
		group := s.group(key)
		seconds, ok := s.processorSeconds(key, group, size.pid)
		if !ok {
			continue // it is gone
		}
		used[key], said[key] = seconds, size
		g := Guest{VMID: key.vmid, Name: size.name, Kind: key.kind, Cores: size.cores,
			Memory: Amount{UsedBytes: s.memory(group, size.pid), TotalBytes: size.memoryBytes}, Network: nets[key.vmid], Images: []Image{}}
		if before, known := s.used[key]; known && seconds >= before {
			g.CPUPercent = round(100 * (seconds - before) / span / max(size.cores, 0.01))
		}
		out = append(out, g)
	}
	s.used, s.said = used, said
	return out
}

// guestRates adds up the interfaces of each guest: tapVMIDiN and vethVMIDiN. What the host's end gets the
// guest has sent.
func guestRates(rates map[string]Rate) map[int]Rate {
	out := map[int]Rate{}
	for name, r := range rates {
		rest, tap := strings.CutPrefix(name, "tap")
		if !tap {
			if rest, tap = strings.CutPrefix(name, "veth"); !tap {
				continue
			}
		}
		number, _, numbered := strings.Cut(rest, "i")
		vmid, err := strconv.Atoi(number)
		if err != nil || !numbered {
			continue
		}
		sum := out[vmid]
		sum.add(Rate{In: r.Out, Out: r.In})
		out[vmid] = sum
	}
	return out
}

// list finds the guests, by VMID.
func (s *guestSampler) list() []guestKey {
	found := map[guestKey]bool{}
	add := func(kind, pattern, suffix string) {
		names, _ := filepath.Glob(pattern) // only a malformed pattern is an error
		for _, name := range names {
			if vmid, err := strconv.Atoi(strings.TrimSuffix(filepath.Base(name), suffix)); err == nil && vmid > 0 {
				found[guestKey{kind, vmid}] = true
			}
		}
	}
	groups := filepath.Join(s.opt.Sys, "fs/cgroup")
	add(QEMU, filepath.Join(s.opt.Root, "var/run/qemu-server/*.pid"), ".pid")
	for _, hierarchy := range []string{"", "cpuacct"} { // version 2, version 1
		add(QEMU, filepath.Join(groups, hierarchy, "qemu.slice/*.scope"), ".scope")
		add(LXC, filepath.Join(groups, hierarchy, "lxc/[0-9]*"), "")
	}
	var out []guestKey
	for key := range found {
		out = append(out, key)
	}
	slices.SortFunc(out, func(a, b guestKey) int {
		return cmp.Or(cmp.Compare(a.vmid, b.vmid), cmp.Compare(a.kind, b.kind))
	})
	return out[:min(len(out), maxGuests)]
}

// group is a guest's control group below a hierarchy.
func (s *guestSampler) group(key guestKey) controlGroup {
	name := "lxc/" + strconv.Itoa(key.vmid)
	if key.kind == QEMU {
		name = "qemu.slice/" + strconv.Itoa(key.vmid) + ".scope"
	}
	return controlGroup{root: filepath.Join(s.opt.Sys, "fs/cgroup"), name: name}
}

// processorSeconds is the processor time that a guest has used; without a control group that of its process.
func (s *guestSampler) processorSeconds(key guestKey, group controlGroup, pid int) (float64, bool) {
	if micros, ok := group.field("", "cpu.stat", "usage_usec"); ok {
		return float64(micros) / 1e6, true
	}
	if nanos, ok := group.number("cpuacct", "cpuacct.usage"); ok {
		return float64(nanos) / 1e9, true
	}
	if key.kind != QEMU || pid == 0 {
		return 0, false
	}
	b, err := os.ReadFile(filepath.Join(s.opt.Proc, strconv.Itoa(pid), "stat"))
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // the name may have blanks and brackets
	if err != nil || len(fields) < 13 {
		return 0, false
	}
	user, err := strconv.ParseUint(fields[11], 10, 64)
	system, err2 := strconv.ParseUint(fields[12], 10, 64)
	return float64(user+system) / 100, err == nil && err2 == nil // USER_HZ is 100 on all of Debian's machines
}

// memory is what a guest's memory takes of the machine's, without file pages that have not been used lately.
func (s *guestSampler) memory(group controlGroup, pid int) uint64 {
	if bytes, ok := group.number("", "memory.current"); ok {
		cache, _ := group.field("", "memory.stat", "inactive_file")
		return bytes - min(cache, bytes)
	}
	if bytes, ok := group.number("memory", "memory.usage_in_bytes"); ok {
		cache, _ := group.field("memory", "memory.stat", "total_inactive_file")
		return bytes - min(cache, bytes)
	}
	b, err := os.ReadFile(filepath.Join(s.opt.Proc, strconv.Itoa(pid), "statm"))
	fields := strings.Fields(string(b))
	if err != nil || len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseUint(fields[1], 10, 64)
	return pages * uint64(os.Getpagesize())
}

// size is what a guest may use, and its name.
func (s *guestSampler) size(key guestKey, memoryBytes uint64) machineSize {
	id := strconv.Itoa(key.vmid)
	if key.kind == LXC {
		out := machineSize{name: s.said[key].name, memoryBytes: s.group(key).memoryLimit(memoryBytes), cores: s.group(key).cores()}
		if out.name == "" {
			out.name = containerName(filepath.Join(s.opt.Root, "var/lib/lxc", id, "config"))
		}
		return out
	}
	b, _ := os.ReadFile(filepath.Join(s.opt.Root, "var/run/qemu-server", id+".pid"))
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	if before, known := s.said[key]; known && before.pid == pid {
		return before
	}
	out := machineSize{pid: pid, cores: float64(runtime.NumCPU()), memoryBytes: memoryBytes}
	if pid > 0 {
		b, _ = os.ReadFile(filepath.Join(s.opt.Proc, strconv.Itoa(pid), "cmdline"))
		out.read(strings.Split(string(b), "\x00"))
	}
	return out
}

// read takes what QEMU's command line says, as Proxmox writes it:
//
//	-name web,debug-threads=on -smp 4,sockets=1,cores=4,maxcpus=4 -m 2048
//	-smp 1,sockets=1,cores=1,maxcpus=1 -m size=1024,slots=255,maxmem=4194304M
func (m *machineSize) read(args []string) {
	for i := 0; i+1 < len(args); i++ {
		value, rest, _ := strings.Cut(args[i+1], ",")
		switch args[i] {
		case "-name":
			m.name = strings.TrimPrefix(value, "guest=")
		case "-smp":
			if n, err := strconv.Atoi(value); err == nil && n > 0 {
				m.cores = float64(n)
			}
		case "-m":
			for ; value != ""; value, rest, _ = strings.Cut(rest, ",") {
				mib, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(value, "size="), "M"), 10, 44)
				if err == nil {
					m.memoryBytes = mib << 20
					break
				}
			}
		}
	}
}

// containerName is lxc.uts.name of a container's configuration as Proxmox writes it at its start.
func containerName(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if key, value, ok := strings.Cut(line, "="); ok && strings.TrimSpace(key) == "lxc.uts.name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// controlGroup reads one control group's files, of version 2 (no hierarchy) or 1.
type controlGroup struct{ root, name string }

func (c controlGroup) file(hierarchy, name string) (string, bool) {
	b, err := os.ReadFile(filepath.Join(c.root, hierarchy, c.name, name))
	return strings.TrimSpace(string(b)), err == nil
}

// number is a file that is one number.
func (c controlGroup) number(hierarchy, name string) (uint64, bool) {
	text, ok := c.file(hierarchy, name)
	n, err := strconv.ParseUint(text, 10, 64)
	return n, ok && err == nil
}

// field is the number behind a key of a file with one pair a line.
func (c controlGroup) field(hierarchy, name, key string) (uint64, bool) {
	text, ok := c.file(hierarchy, name)
	if !ok {
		return 0, false
	}
	for line := range strings.Lines(text) {
		if k, value, _ := strings.Cut(strings.TrimSpace(line), " "); k == key {
			n, err := strconv.ParseUint(value, 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// memoryLimit is what the group may use, at most what the machine has.
func (c controlGroup) memoryLimit(machine uint64) uint64 {
	limit, ok := c.number("", "memory.max")
	if !ok {
		limit, ok = c.number("memory", "memory.limit_in_bytes")
	}
	if !ok || limit > machine {
		return machine
	}
	return limit
}

// cores is how many processors the group may use: by its set of them, and by its quota.
func (c controlGroup) cores() float64 {
	cores := float64(runtime.NumCPU())
	for _, file := range [][2]string{{"", "cpuset.cpus.effective"}, {"cpuset", "cpuset.effective_cpus"}} {
		if text, ok := c.file(file[0], file[1]); ok && text != "" {
			cores = min(cores, float64(countList(text)))
			break
		}
	}
	quota, period := math.Inf(1), 1.0
	if text, ok := c.file("", "cpu.max"); ok {
		a, b, _ := strings.Cut(text, " ") // "max 100000"
		if n, err := strconv.ParseFloat(a, 64); err == nil && n > 0 {
			quota = n
		}
		period, _ = strconv.ParseFloat(b, 64)
	} else if n, ok := c.number("cpu", "cpu.cfs_quota_us"); ok { // -1, no quota, is no number here
		quota = float64(n)
		p, _ := c.number("cpu", "cpu.cfs_period_us")
		period = float64(p)
	}
	if period > 0 {
		cores = min(cores, quota/period)
	}
	return round(cores)
}

// countList counts a list of processors: "0-3,7" is 5.
func countList(text string) (n int) {
	for part := range strings.SplitSeq(text, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		a, err := strconv.Atoi(from)
		b, err2 := strconv.Atoi(to)
		if err == nil && err2 == nil && b >= a {
			n += b - a + 1
		}
	}
	return n
}
