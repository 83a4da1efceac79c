package main

import (
	"strings"
	"testing"
)

func TestFigures_Print(t *testing.T) {
	f := &figures{Date: "2026-01-02", Machine: "2 x Example, Linux 6.1", ImageBytes: 1 << 30, Seconds: 4, Rounds: 3,
		Rows: []row{
			{"4 KiB write", 4096, 0.3, result{1000, 0.25}, result{4000, 0.05}},
			{"1 MiB read", 1 << 20, 0.6, result{500, 1}, result{0, 0}},
		},
		Memory: []memory{{50 << 20, 200 << 20}},
	}
	const want = `
2026-01-02, 2 x Example, Linux 6.1; image 1024 MiB, 3 x 4 s each, medians

      pattern  trinas x3  ganesha x1  ratio  mark  CPU s/1000  ganesha's
  4 KiB write     1000/s      4000/s   0.25   0.3       0.250      0.050
   1 MiB read   524 MB/s      0 MB/s   0.00   0.6       1.000      0.000

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
