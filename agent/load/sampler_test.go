package load

import (
	"os"
	"testing"
	"time"
)

// Goal: on this machine, whatever it is, a sample is complete and plausible.
func TestSampler_ThisMachine(t *testing.T) {
	dir := t.TempDir()
	s := NewSampler(Options{DataDir: dir, Peers: func() []string { return []string{"127.0.0.1:7370", "garbage"} }})
	first, err := s.Sample()
	if err != nil || first.IntervalSec != 0 || first.CPUPercent != 0 || first.Network != (Rate{}) {
		t.Fatalf("first: %+v, %v", first, err)
	}
	for end := time.Now().Add(50 * time.Millisecond); time.Now().Before(end); { // something to measure
		if err := os.WriteFile(dir+"/f", make([]byte, 4096), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r, err := s.Sample()
	if err != nil || r.IntervalSec <= 0 || r.CPUPercent < 0 || r.CPUPercent > 100 || r.Memory.TotalBytes == 0 || r.Memory.UsedBytes == 0 ||
		r.Capacity.TotalBytes == 0 || r.Cores == 0 {
		t.Errorf("%+v, %v", r, err)
	}
	peers := 0
	for _, i := range r.Interfaces {
		if i.Peer {
			peers++
			if i.Name != "lo" {
				t.Errorf("127.0.0.1 is said to be reached by %s", i.Name)
			}
		}
	}
	if peers != 1 {
		t.Errorf("%d interfaces to 127.0.0.1: %+v", peers, r.Interfaces)
	}
	t.Logf("%+v disk %+v pressure %+v", r, r.LogDisk, r.Pressure)
}

func BenchmarkSample(b *testing.B) {
	s := NewSampler(Options{DataDir: b.TempDir()})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Sample(); err != nil {
			b.Fatal(err)
		}
	}
}
