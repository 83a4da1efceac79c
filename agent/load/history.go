package load

import (
	"encoding/json"
	"math"
	"strconv"
	"sync"
	"time"
)

// Keep is how far a History reaches back.
const Keep = time.Hour

// The columns of a History, named as a Report's figures.
const (
	CPUPercent            = "cpu_percent"
	IODelayPercent        = "io_delay_percent"
	LoadAverage           = "load_average" // over one minute
	MemoryPercent         = "memory_percent"
	CapacityPercent       = "capacity_percent"
	NetworkInBytesPerSec  = "network_in_bytes_per_sec"
	NetworkOutBytesPerSec = "network_out_bytes_per_sec"
	PeerInBytesPerSec     = "peer_in_bytes_per_sec"
	PeerOutBytesPerSec    = "peer_out_bytes_per_sec"
	LogDiskUtilPercent    = "log_disk_util_percent"
	LogWriteP99Ms         = "log_write_p99_ms"
	IOPressurePercent     = "io_pressure_percent" // some
	columns               = 12
)

// Columns are the names of a History's columns.
func Columns() [columns]string {
	return [columns]string{CPUPercent, IODelayPercent, LoadAverage, MemoryPercent, CapacityPercent, NetworkInBytesPerSec,
		NetworkOutBytesPerSec, PeerInBytesPerSec, PeerOutBytesPerSec, LogDiskUtilPercent, LogWriteP99Ms, IOPressurePercent}
}

// point is a moment of a History, in 56 bytes.
type point struct {
	at     int64 // seconds since 1970
	values [columns]float32
}

var unknown = float32(math.NaN())

func pointOf(r *Report) point {
	disk, sync, pressure := unknown, unknown, unknown
	if r.LogDisk != nil {
		disk = float32(r.LogDisk.UtilPercent)
	}
	if r.LogWrites != nil {
		sync = float32(r.LogWrites.P99Ms)
	}
	if r.Pressure != nil {
		pressure = float32(r.Pressure.IOSomePercent)
	}
	return point{at: r.Time.Unix(), values: [columns]float32{
		float32(r.CPUPercent), float32(r.IODelayPercent), float32(r.LoadAverage[0]), float32(r.Memory.Percent()),
		float32(r.Capacity.Percent()), float32(r.Network.In), float32(r.Network.Out), float32(r.PeerNetwork.In),
		float32(r.PeerNetwork.Out), disk, sync, pressure,
	}}
}

// Series is a History's figures over time, oldest first, as JSON: what was not known at a moment is null.
type Series struct {
	Time   []int64           `json:"time"`   // seconds since 1970
	Values map[string]Values `json:"values"` // by column; as many as Time
}

// Values are one column. NaN: not known.
type Values []float32

// MarshalJSON writes four digits of each.
func (v Values) MarshalJSON() ([]byte, error) {
	b := make([]byte, 0, 2+8*len(v))
	b = append(b, '[')
	for i, f := range v {
		if i > 0 {
			b = append(b, ',')
		}
		if f != f || math.IsInf(float64(f), 0) {
			b = append(b, "null"...)
		} else {
			b = strconv.AppendFloat(b, float64(f), 'g', 4, 32)
		}
	}
	return append(b, ']'), nil
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (v *Values) UnmarshalJSON(b []byte) error {
	var read []*float32
	if err := json.Unmarshal(b, &read); err != nil {
		return err
	}
	*v = make(Values, len(read))
	for i, f := range read {
		if (*v)[i] = unknown; f != nil {
			(*v)[i] = *f
		}
	}
	return nil
}

// History is one node's last hour: a ring of points. Safe for concurrent use.
type History struct {
	mu     sync.Mutex
	points []point // a ring once it is full
	next   int     // where the next point goes
	most   int
}

// NewHistory makes a history of reports that come every interval.
func NewHistory(interval time.Duration) *History {
	return &History{most: int(Keep/max(interval, time.Second)) + 1}
}

// Add appends a report, unless it is older than the last one. The first of a machine has no rates, and is left out.
func (h *History) Add(r *Report) {
	if r.IntervalSec == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	p := pointOf(r)
	if n := len(h.points); n > 0 && h.points[(h.next+n-1)%n].at >= p.at {
		return
	}
	if len(h.points) < h.most {
		h.points = append(h.points, p)
		return
	}
	h.points[h.next] = p
	h.next = (h.next + 1) % h.most
}

// Since gives the points at from and later.
func (h *History) Since(from time.Time) Series {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := Series{Time: []int64{}, Values: map[string]Values{}}
	names := Columns()
	for _, name := range names {
		s.Values[name] = Values{}
	}
	h.each(from, func(p *point) {
		s.Time = append(s.Time, p.at)
		for i, name := range names {
			s.Values[name] = append(s.Values[name], p.values[i])
		}
	})
	return s
}

// each visits the points at from and later, oldest first. mu is held.
func (h *History) each(from time.Time, visit func(*point)) {
	for i := range h.points {
		if p := &h.points[(h.next+i)%len(h.points)]; p.at >= from.Unix() {
			visit(p)
		}
	}
}

// mean is a column's mean over the points since from; 0 without any.
func (h *History) mean(from time.Time, name string) float64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	names := Columns()
	column, sum, n := 0, 0.0, 0
	for column < columns-1 && names[column] != name {
		column++
	}
	h.each(from, func(p *point) {
		if v := p.values[column]; v == v {
			sum, n = sum+float64(v), n+1
		}
	})
	return sum / float64(max(n, 1))
}
