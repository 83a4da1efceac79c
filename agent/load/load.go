// Package load measures the load of this machine and of its guests: what /proc, /sys and the control
// groups say, as rates over the time since the last look. It keeps an hour of each node's figures. It
// must never ask Proxmox's cluster file system or anything else that may hang, never fail because a guest
// or a disk vanished while it looked, and cost next to nothing.
//
// Floor 0: imports nothing of trinas.
package load

import (
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Report is the load of one machine. Rates and shares are over IntervalSec; all are 0 in a first
// report, whose IntervalSec is 0. The JSON is an interface for programs and between nodes: fields are added,
// never changed.
type Report struct {
	Time        time.Time `json:"time"`
	IntervalSec float64   `json:"interval_sec"`

	Cores          int        `json:"cores"`            // processors of the machine
	CPUPercent     float64    `json:"cpu_percent"`      // of all processors: neither idle nor waiting
	IODelayPercent float64    `json:"io_delay_percent"` // of all processors: idle, waiting for a disk (iowait)
	LoadAverage    [3]float64 `json:"load_average"`     // over 1, 5 and 15 minutes
	Memory         Amount     `json:"memory"`           // used: what could not be had for another program
	Swap           Amount     `json:"swap"`
	Capacity       Amount     `json:"capacity"` // of the data directory's file system; total: without what is reserved there

	Network     Rate        `json:"network"`      // of all physical interfaces together, or where there are none, of all but the loopback
	PeerNetwork Rate        `json:"peer_network"` // of those used between the nodes
	Interfaces  []Interface `json:"interfaces"`   // the physical ones, and those used between the nodes

	LogDisk   *Disk     `json:"log_disk,omitempty"`   // absent where the kernel has no figures of it, as with ZFS
	LogWrites *Latency  `json:"log_writes,omitempty"` // of the agent's log, each with its sync
	Pressure  *Pressure `json:"pressure,omitempty"`   // absent in kernels without PSI

	Guests []Guest `json:"guests"` // by VMID
	Files  []Image `json:"files"`  // that this node's gateway serves and that belong to no guest of this node, the busiest first
}

// Amount is how much of something is used.
type Amount struct {
	UsedBytes  uint64 `json:"used_bytes"`
	TotalBytes uint64 `json:"total_bytes"`
}

// Percent is the share that is used; 0 of nothing.
func (a Amount) Percent() float64 {
	if a.TotalBytes == 0 {
		return 0
	}
	return 100 * float64(a.UsedBytes) / float64(a.TotalBytes)
}

// Rate is bytes per second, as the machine or the guest sees them.
type Rate struct {
	In  float64 `json:"in_bytes_per_sec"`
	Out float64 `json:"out_bytes_per_sec"`
}

func (r *Rate) add(o Rate) { r.In, r.Out = r.In+o.In, r.Out+o.Out }

// Interface is a network interface.
type Interface struct {
	Name string `json:"name"`
	Peer bool   `json:"peer"` // used between the nodes
	Rate
	ErrorsPerSec float64 `json:"errors_per_sec"` // packets that were damaged or dropped
}

// Disk is a block device.
type Disk struct {
	Device           string  `json:"device"` // as in /proc/diskstats
	UtilPercent      float64 `json:"util_percent"`
	ReadMs           float64 `json:"read_ms"`  // mean time of a read
	WriteMs          float64 `json:"write_ms"` // mean time of a write
	ReadsPerSec      float64 `json:"reads_per_sec"`
	WritesPerSec     float64 `json:"writes_per_sec"`
	ReadBytesPerSec  float64 `json:"read_bytes_per_sec"`
	WriteBytesPerSec float64 `json:"write_bytes_per_sec"`
}

// Latency says how often something was done, and how long it took. Milliseconds are 0 when nothing was.
type Latency struct {
	PerSec float64 `json:"per_sec"`
	P50Ms  float64 `json:"p50_ms"` // the median
	P99Ms  float64 `json:"p99_ms"` // what 99 of 100 did not exceed
}

// Pressure is the share of time in which tasks waited: some, or full: all that had anything to do
// (Documentation/accounting/psi.rst).
type Pressure struct {
	CPUSomePercent    float64 `json:"cpu_some_percent"`
	IOSomePercent     float64 `json:"io_some_percent"`
	IOFullPercent     float64 `json:"io_full_percent"`
	MemorySomePercent float64 `json:"memory_some_percent"`
	MemoryFullPercent float64 `json:"memory_full_percent"`
}

// The kinds of guests.
const (
	QEMU = "qemu"
	LXC  = "lxc"
)

// Guest is one of Proxmox's guests that runs on this machine.
type Guest struct {
	VMID       int     `json:"vmid"`
	Name       string  `json:"name,omitempty"`
	Kind       string  `json:"kind"`        // QEMU or LXC
	Cores      float64 `json:"cores"`       // that it may use
	CPUPercent float64 `json:"cpu_percent"` // of these
	Memory     Amount  `json:"memory"`      // without the pages that the kernel would drop first; of what it may use
	Network    Rate    `json:"network"`     // as the guest sees it
	Images     []Image `json:"images"`
}

// Image is the I/O on one file of a volume through this node's gateway.
type Image struct {
	Volume           string  `json:"volume"`
	Path             string  `json:"path"` // from the volume's root; "file N" where the name is not known here
	Reads            Latency `json:"reads"`
	Writes           Latency `json:"writes"`
	ReadBytesPerSec  float64 `json:"read_bytes_per_sec"`
	WriteBytesPerSec float64 `json:"write_bytes_per_sec"`
}

func (i *Image) bytesPerSec() float64 { return i.ReadBytesPerSec + i.WriteBytesPerSec }

// maxFiles bounds Report.Files.
const maxFiles = 32

// AddImages gives each image to the guest that it belongs to by its path (images/VMID/NAME, in any folder);
// the busiest others become Files.
func (r *Report) AddImages(images []Image) {
	slices.SortFunc(images, func(a, b Image) int {
		switch {
		case a.bytesPerSec() > b.bytesPerSec():
			return -1
		case a.bytesPerSec() < b.bytesPerSec():
			return 1
		}
		return strings.Compare(a.Volume+"/"+a.Path, b.Volume+"/"+b.Path)
	})
	for _, image := range images {
		if at := slices.IndexFunc(r.Guests, func(g Guest) bool { return g.VMID == vmidOf(image.Path) }); at >= 0 {
			r.Guests[at].Images = append(r.Guests[at].Images, image)
		} else if len(r.Files) < maxFiles {
			r.Files = append(r.Files, image)
		}
	}
}

// vmidOf is the guest that an image belongs to by Proxmox's layout; 0: to none.
func vmidOf(image string) int {
	dir := path.Dir(image)
	if path.Base(path.Dir(dir)) != "images" {
		return 0
	}
	id, _ := strconv.Atoi(path.Base(dir))
	return id
}
