package load

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// tree is a made /proc, /sys and /var.
type tree struct {
	t   *testing.T
	dir string
}

func newTree(t *testing.T) *tree { return &tree{t, t.TempDir()} }

// write makes files, by path below the tree.
func (m *tree) write(files map[string]string) {
	m.t.Helper()
	for name, content := range files {
		path := filepath.Join(m.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			m.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			m.t.Fatal(err)
		}
	}
}

func (m *tree) remove(name string) {
	m.t.Helper()
	if err := os.RemoveAll(filepath.Join(m.dir, name)); err != nil {
		m.t.Fatal(err)
	}
}

func (m *tree) sampler() *Sampler {
	return NewSampler(Options{DataDir: m.dir, Proc: m.dir + "/proc", Sys: m.dir + "/sys", Root: m.dir})
}

// sampleAfter samples as if the last look was a second ago.
func sampleAfter(t *testing.T, s *Sampler, ago time.Duration) Report {
	t.Helper()
	s.last = time.Now().Add(-ago)
	r, err := s.Sample()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func near(got, want float64) bool { return got > 0.98*want-0.01 && got < 1.02*want+0.01 }

const (
	netHead = "Inter-|   Receive                                                |  Transmit\n" +
		" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n"
	memInfo = "MemTotal: 8388608 kB\nMemFree: 1048576 kB\nMemAvailable: 4194304 kB\nBuffers: 0 kB\nCached: 1048576 kB\nSwapTotal: 2048 kB\nSwapFree: 512 kB\n"
)

func netLine(name string, in, out uint64) string {
	return fmt.Sprintf("%s: %d 1 0 0 0 0 0 0 %d 1 0 0 0 0 0 0\n", name, in, out)
}

// machine are the files of a machine without guests, before and after a second.
func machine() (before, after map[string]string) {
	before = map[string]string{
		"proc/stat":            "cpu  1000 0 1000 7000 1000 0 0 0 0 0\ncpu0 1000 0 1000 7000 1000 0 0 0 0 0\n",
		"proc/loadavg":         "0.50 1.25 2.00 1/100 1234\n",
		"proc/meminfo":         memInfo,
		"proc/net/dev":         netHead + netLine("lo", 0, 0) + netLine("eno1", 1000, 1000) + netLine("vmbr0", 1000, 1000),
		"proc/diskstats":       " 259 0 nvme0n1 100 0 800 50 100 0 1600 100 0 1000 150\n",
		"proc/self/mountinfo":  "1 1 0:99 / / rw - btrfs /dev/nvme0n1 rw\n",
		"proc/pressure/cpu":    "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
		"proc/pressure/io":     "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
		"proc/pressure/memory": "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",

		"sys/class/net/eno1/device/vendor": "0x8086\n",
		"sys/class/block/nvme0n1/size":     "1\n",
	}
	after = maps.Clone(before)
	after["proc/stat"] = "cpu  1020 0 1020 7130 1030 0 0 0 0 0\n" // 200 ticks: 40 busy, 30 waiting
	after["proc/net/dev"] = netHead + netLine("lo", 9e9, 9e9) + netLine("eno1", 101000, 51000) + netLine("vmbr0", 101000, 51000)
	after["proc/diskstats"] = " 259 0 nvme0n1 110 0 880 150 140 0 2400 300 0 1500 450\n"
	after["proc/pressure/io"] = "some avg10=0.00 avg60=0.00 avg300=0.00 total=250000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=100000\n"
	return before, after
}

// Goal: each figure is what the kernel's files say, over the time between two looks. Method: a made tree.
func TestSampler_MadeTree(t *testing.T) {
	m := newTree(t)
	before, after := machine()
	m.write(before)
	s := m.sampler()
	s.logDisk = "nvme0n1"
	first, err := s.Sample()
	if err != nil || first.CPUPercent != 0 || first.Network.In != 0 || first.LogDisk.ReadsPerSec != 0 || first.Pressure.IOSomePercent != 0 {
		t.Errorf("first: %+v, %+v, %v", first, first.LogDisk, err)
	}
	m.write(after)
	r := sampleAfter(t, s, time.Second)
	for name, got := range map[string][2]float64{
		"cpu": {r.CPUPercent, 20}, "wait": {r.IODelayPercent, 15}, "load": {r.LoadAverage[1], 1.25},
		"memory": {r.Memory.Percent(), 50}, "swap": {r.Swap.Percent(), 75},
		"in": {r.Network.In, 100000}, "out": {r.Network.Out, 50000},
		"reads": {r.LogDisk.ReadsPerSec, 10}, "read ms": {r.LogDisk.ReadMs, 10}, "write ms": {r.LogDisk.WriteMs, 5}, "util": {r.LogDisk.UtilPercent, 50},
		"read bytes": {r.LogDisk.ReadBytesPerSec, 40960}, "some": {r.Pressure.IOSomePercent, 25}, "full": {r.Pressure.IOFullPercent, 10},
	} {
		if !near(got[0], got[1]) {
			t.Errorf("%s is %g, want %g", name, got[0], got[1])
		}
	}
	if len(r.Interfaces) != 1 || r.Interfaces[0].Name != "eno1" {
		t.Errorf("interfaces: %+v", r.Interfaces)
	}
	m.write(before) // counters that were set back give nothing
	if r := sampleAfter(t, s, time.Second); r.Network.In != 0 || r.LogDisk.ReadsPerSec != 0 || r.LogDisk.WriteMs != 0 || r.CPUPercent != 0 {
		t.Errorf("set back: %+v, %+v", r, r.LogDisk)
	}
	for _, gone := range []string{"proc/pressure", "proc/net", "proc/diskstats", "proc/meminfo"} {
		m.remove(gone)
	}
	if r := sampleAfter(t, s, time.Second); r.Pressure != nil || r.LogDisk != nil || r.Memory.TotalBytes != 0 {
		t.Errorf("without: %+v", r)
	}
	m.remove("proc/stat")
	if _, err := s.Sample(); err == nil {
		t.Error("no error without /proc/stat")
	}
}

// Goal: the disk under a directory is found by its number, else by what it was mounted from, also by the device mapper's name.
func TestFindDisk(t *testing.T) {
	for source, want := range map[string]string{"/dev/nvme0n1": "nvme0n1", "/dev/mapper/pve-root": "dm-1", "rpool/data": "", "/dev/none": ""} {
		m := newTree(t)
		before, _ := machine()
		m.write(before)
		m.write(map[string]string{"sys/class/block/dm-0/dm/name": "pve-swap\n", "sys/class/block/dm-1/dm/name": "pve-root\n"})
		s := m.sampler()
		number := numberOf(t, m.dir)
		m.write(map[string]string{"proc/self/mountinfo": "22 1 0:5 / /proc rw - proc proc rw\n1 1 " + number + " / / rw,relatime shared:1 - btrfs " + source + " rw\n"})
		if got := s.findDisk(m.dir); got != want {
			t.Errorf("mounted from %s: %q, want %q", source, got, want)
		}
		m.remove("sys/dev")
		if err := os.MkdirAll(filepath.Join(m.dir, "sys/dev/block"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("../../devices/x/sda/sda3", filepath.Join(m.dir, "sys/dev/block", number)); err != nil {
			t.Fatal(err)
		}
		if got := s.findDisk(m.dir); got != "sda3" {
			t.Errorf("by its number: %q", got)
		}
	}
}

// guests are the files of two virtual machines and a container, with control groups of either version.
func guests(version int, step uint64) map[string]string {
	files := map[string]string{
		"var/run/qemu-server/100.pid": "4711\n",
		"var/run/qemu-server/100.qmp": "",
		"var/run/qemu-server/999.pid": "4799\n", // left behind
		"proc/4711/cmdline": strings.Join([]string{"/usr/bin/kvm", "-id", "100", "-name", "web,debug-threads=on", "-smp", "4,sockets=1,cores=4,maxcpus=4",
			"-m", "2048", ""}, "\x00"),
		"var/run/qemu-server/101.pid":  "4712\n",
		"proc/4712/cmdline":            strings.Join([]string{"kvm", "-name", "guest=db", "-smp", "1", "-m", "size=1024,slots=255,maxmem=4194304M", ""}, "\x00"),
		"var/lib/lxc/200/config":       "lxc.arch = amd64\nlxc.uts.name = mail\n",
		"var/lib/lxc/notaguest/config": "",
		"proc/net/dev": netHead + netLine("eno1", 0, 0) + netLine("tap100i0", 1000*step, 2000*step) + netLine("tap100i1", 500*step, 0) +
			netLine("veth200i0", 3000*step, 4000*step) + netLine("tap100", 9e6*step, 9e6*step) + netLine("fwbr100i0", 9e6*step, 9e6*step),
	}
	qemu, lxc := "sys/fs/cgroup/qemu.slice/", "sys/fs/cgroup/lxc/"
	if version == 2 {
		for _, g := range []string{qemu + "100.scope/", qemu + "101.scope/", lxc + "200/"} {
			files[g+"cpu.stat"] = fmt.Sprintf("usage_usec %d\nuser_usec 1\n", 2000000*step)
			files[g+"memory.current"] = "1073741824\n"
			files[g+"memory.stat"] = "anon 1\ninactive_file 536870912\n"
		}
		files[lxc+"200/memory.max"] = "2147483648\n"
		files[lxc+"200/cpu.max"] = "50000 100000\n"
		files[lxc+"200/cpuset.cpus.effective"] = "0\n"
		files[lxc+"cgroup.procs"] = ""
		return files
	}
	for _, g := range []string{"qemu.slice/100.scope/", "qemu.slice/101.scope/", "lxc/200/"} {
		files["sys/fs/cgroup/cpuacct/"+g+"cpuacct.usage"] = fmt.Sprint(2000000000 * step)
		files["sys/fs/cgroup/memory/"+g+"memory.usage_in_bytes"] = "1073741824\n"
		files["sys/fs/cgroup/memory/"+g+"memory.stat"] = "cache 1\ntotal_inactive_file 536870912\n"
	}
	files["sys/fs/cgroup/memory/lxc/200/memory.limit_in_bytes"] = "2147483648\n"
	files["sys/fs/cgroup/cpu/lxc/200/cpu.cfs_quota_us"] = "50000\n"
	files["sys/fs/cgroup/cpu/lxc/200/cpu.cfs_period_us"] = "100000\n"
	return files
}

// Goal: guests have the processor time, memory and network of their control groups and interfaces, whichever version the
// groups have; what is left of one that ended is none; one that vanishes is simply gone.
func TestSampler_Guests(t *testing.T) {
	for _, version := range []int{1, 2} {
		m := newTree(t)
		before, _ := machine()
		m.write(before)
		m.write(guests(version, 1))
		s := m.sampler()
		if r, err := s.Sample(); err != nil || len(r.Guests) != 3 || r.Guests[0].CPUPercent != 0 {
			t.Fatalf("version %d: first: %+v, %v", version, r.Guests, err)
		}
		m.write(guests(version, 2))
		r := sampleAfter(t, s, 2*time.Second)
		if len(r.Guests) != 3 {
			t.Fatalf("version %d: %+v", version, r.Guests)
		}
		web, db, mail := r.Guests[0], r.Guests[1], r.Guests[2]
		if web.VMID != 100 || web.Name != "web" || web.Kind != QEMU || web.Cores != 4 || !near(web.CPUPercent, 25) ||
			web.Memory != (Amount{512 << 20, 2048 << 20}) || !near(web.Network.In, 1000) || !near(web.Network.Out, 750) {
			t.Errorf("version %d: %+v", version, web)
		}
		if db.Name != "db" || db.Cores != 1 || !near(db.CPUPercent, 100) || db.Memory.TotalBytes != 1<<30 || db.Network != (Rate{}) {
			t.Errorf("version %d: %+v", version, db)
		}
		if mail.VMID != 200 || mail.Name != "mail" || mail.Kind != LXC || mail.Cores != 0.5 || !near(mail.CPUPercent, 200) ||
			mail.Memory.TotalBytes != 2<<30 || !near(mail.Network.In, 2000) {
			t.Errorf("version %d: %+v", version, mail)
		}
		m.remove("sys/fs/cgroup/qemu.slice/100.scope")
		m.remove("sys/fs/cgroup/cpuacct/qemu.slice/100.scope")
		m.remove("proc/4711")
		m.remove("sys/fs/cgroup/memory") // of version 1: read too late
		if r := sampleAfter(t, s, time.Second); len(r.Guests) != 2 || r.Guests[0].VMID != 101 {
			t.Errorf("version %d: after the end of 100: %+v", version, r.Guests)
		}
	}
}

// Goal: a virtual machine without a control group is measured by its process.
func TestSampler_GuestWithoutGroup(t *testing.T) {
	m := newTree(t)
	before, _ := machine()
	m.write(before)
	m.write(map[string]string{"var/run/qemu-server/7.pid": "4711", "proc/4711/cmdline": "kvm\x00-smp\x002\x00",
		"proc/4711/stat": "4711 (kvm (x) y) S 1 1 1 0 -1 0 0 0 0 0 100 100 0 0 20 0 1 0 1 1 1", "proc/4711/statm": "9 3 1 1 0 1 0"})
	s := m.sampler()
	if _, err := s.Sample(); err != nil {
		t.Fatal(err)
	}
	m.write(map[string]string{"proc/4711/stat": "4711 (kvm (x) y) S 1 1 1 0 -1 0 0 0 0 0 150 150 0 0 20 0 1 0 1 1 1"})
	r := sampleAfter(t, s, time.Second)
	if len(r.Guests) != 1 || !near(r.Guests[0].CPUPercent, 50) || r.Guests[0].Memory.UsedBytes != 3*uint64(os.Getpagesize()) {
		t.Errorf("%+v", r.Guests)
	}
}

func TestCountList(t *testing.T) {
	for text, want := range map[string]int{"0": 1, "0-3,7": 5, "": 0, "3-1": 0, "x": 0} {
		if got := countList(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
	if (controlGroup{root: t.TempDir(), name: "none"}).cores() != float64(runtime.NumCPU()) {
		t.Error("a group without limits may use other than all processors")
	}
}
