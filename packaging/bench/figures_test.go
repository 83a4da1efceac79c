package main

import (
	"strings"
	"testing"
	"time"
)

func TestFigures_Print(t *testing.T) {
	f := &figures{Date: "2026-01-02", Machine: "2 x Example, Linux 6.1", ImageBytes: 1 << 30, Seconds: 4, Rounds: 3,
		Rows: []row{
			{"4 KiB write", 4096, 0.8, 8, result{1000, 0.25}, result{4000, 0.05}, &result{100, 2}},
			{"1 MiB read", 1 << 20, 0, 0, result{500, 1}, result{0, 0}, nil},
		},
		Kernel: []kernelRow{
			{"tar x", false, 0.5, kernelResult{20, 1000, 4, rpcCounts{"CREATE": {900, 50}, "WRITE": {900, 70}}},
				kernelResult{10, 1000, 1, rpcCounts{"CREATE": {900, 30}}}, kernelResult{40, 1000, 1, nil}},
			{"fio", true, 0, kernelResult{4, 8000, 2, nil}, kernelResult{4, 16000, 1, nil}, kernelResult{4, 4000, 1, nil}},
		},
		Long:   []trial{{"restore", 1.25, 1.2, false, "", "500, 400 MB/s"}, {"idle", 120, 100, true, " MiB", ""}},
		Memory: []memory{{50 << 20, 200 << 20}},
	}
	const want = `
2026-01-02, 2 x Example, Linux 6.1; 3 x 4 s each, medians

QEMU's client, image of 1024 MiB
      pattern  trinas x3  ganesha x1  ratio  goal  GlusterFS x3  ratio  goal  CPU s/1000  ganesha's
  4 KiB write     1000/s      4000/s   0.25   0.8         100/s  10.00   8.0       0.250      0.050
   1 MiB read   524 MB/s      0 MB/s   0.00     -                                  1.000      0.000

Linux' client
   work  trinas x3  ganesha x1  ratio  mark  synced x1  ratio  calls  ganesha's  CPU s/1000  ganesha's
  tar x    20.00 s     10.00 s   0.50   0.5    40.00 s   2.00   1800        900       4.000      1.000
    fio     2000/s      4000/s   0.50     -     1000/s   2.00      0          0       0.250      0.062

trial    measured    goal                     
restore  1.25        at least 1.2     met     500, 400 MB/s
idle     120.00 MiB  at most 100 MiB  MISSED  

agent 1: 50 MiB resident idle, 200 MiB at most
`
	var b strings.Builder
	f.print(&b)
	if b.String() != want {
		t.Errorf("got:%s\nwant:%s", b.String(), want)
	}
}

func TestMedian(t *testing.T) {
	for want, runs := range map[float64][]result{
		5: {{PerSecond: 9}, {PerSecond: 5}, {PerSecond: 1}},
		2: {{PerSecond: 8}, {PerSecond: 2}},
		7: {{PerSecond: 7}},
	} {
		if got := median(runs).PerSecond; got != want {
			t.Errorf("median of %v: %v, want %v", runs, got, want)
		}
	}
}

// Every block is visited before any is again: the step and the number of blocks have no common
// divisor.
func TestPatterns_Step(t *testing.T) {
	for _, p := range patterns() {
		if p.step%p.size != 0 || p.step/p.size%2 == 0 {
			t.Errorf("%s: step %d is no odd multiple of %d", p.name, p.step, p.size)
		}
	}
}

// Goal: percentiles and sums of loads that ran together, and one after the other.
func TestLoaded(t *testing.T) {
	ms := func(all ...time.Duration) (rounds []time.Duration) {
		for _, r := range all {
			rounds = append(rounds, r*time.Millisecond)
		}
		return rounds
	}
	a := loaded{writes: 32, took: time.Second, rounds: ms(1, 3), cpu: time.Millisecond}
	b := loaded{writes: 32, took: 2 * time.Second, rounds: ms(2, 20), cpu: time.Millisecond}
	for name, c := range map[string]struct {
		sum                         loaded
		perSecond, p50, tail, micro float64
	}{
		"together": {a.and(b), 32, 3, 20. / 3, 31.25},
		"in turn":  {a.then(b), 64. / 3, 3, 20. / 3, 31.25},
	} {
		if s := c.sum; s.perSecond() != c.perSecond || s.millis(0.5) != c.p50 || s.tail() != c.tail || s.cpuMicros() != c.micro {
			t.Errorf("%s: %v", name, s)
		}
	}
}
