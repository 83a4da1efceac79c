package main

import (
	"testing"
	"time"
)

func TestTimeline_LongestGap(t *testing.T) {
	zero := time.Unix(1000, 0)
	at := func(ms int) time.Time { return zero.Add(time.Duration(ms) * time.Millisecond) }
	var line timeline
	for _, ms := range []int{0, 10, 20, 520, 530, 560} {
		line.add(at(ms))
	}
	for _, test := range []struct{ from, to, want int }{
		{0, 20, 10},
		{15, 540, 500},   // whole inside
		{100, 540, 500},  // began before
		{15, 300, 280},   // goes on
		{525, 600, 40},   // the tail
		{100, 300, 280},  // nothing inside: since the last answer before
		{600, 1000, 440}, // after everything: since the last answer
	} {
		got := line.longestGap(at(test.from), at(test.to))
		if want := time.Duration(test.want) * time.Millisecond; got != want {
			t.Errorf("gap in %d to %d ms: %v, want %v", test.from, test.to, got, want)
		}
	}
	if got := (&timeline{}).longestGap(at(0), at(50)); got != 50*time.Millisecond {
		t.Errorf("no answer at all: %v, want 50 ms", got)
	}
}
