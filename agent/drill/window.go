package drill

import (
	"slices"
	"time"
)

const (
	pauseFloor = 20 * time.Millisecond // shorter times without an answer do not count into a sum
	maxSamples = 16384                 // latencies kept of one window
)

// Window is what a probe has seen between two marks.
type Window struct {
	Answers int           `json:"answers"`
	Longest time.Duration `json:"longest_ns"` // without an answer; what goes on at the mark counts until then
	Pauses  time.Duration `json:"pauses_ns"`  // sum of all times of pauseFloor and more without an answer
	// Writes are the latencies of the writes, in microseconds, the first maxSamples.
	Writes []int32 `json:"writes_us,omitempty"`
}

// gap counts a time without an answer.
func (w *Window) gap(d time.Duration) {
	w.Longest = max(w.Longest, d)
	if d >= pauseFloor {
		w.Pauses += d
	}
}

func (w *Window) write(took time.Duration) {
	if len(w.Writes) < maxSamples {
		w.Writes = append(w.Writes, int32(min(took.Microseconds(), 1<<30)))
	}
}

// percentile is the smallest value that at least p percent of the values do not exceed; 0 of none.
func percentile[T int32 | time.Duration](values []T, p float64) T {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := int(p/100*float64(len(sorted)) + 0.999999)
	return sorted[min(max(rank, 1), len(sorted))-1]
}
