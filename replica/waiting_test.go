package replica

import (
	"slices"
	"testing"
	"time"

	"trinas/replica/volume"
)

// Goal: a file whose requests are sent away, and come back a while later, counts as waited for all the while; one
// whose request was carried out does not; and what is remembered is bounded.
func TestWaiting(t *testing.T) {
	var w waiting
	check := func(now time.Duration, want ...volume.FileID) {
		t.Helper()
		if got := w.files(1, now); !slices.Equal(got, want) {
			t.Errorf("at %s %d are waited for, want %d", now, got, want)
		}
	}
	w.enter(1, 7)
	w.enter(1, 7)
	w.enter(1, 8)
	check(time.Hour, 7, 8)
	w.leave(1, 7, false, time.Hour)
	w.leave(1, 8, true, time.Hour)
	check(2*time.Hour, 7)
	w.leave(1, 7, false, 2*time.Hour)
	check(2*time.Hour+waitingKept-1, 7)
	check(2*time.Hour + waitingKept)
	if len(w.by) != 0 {
		t.Errorf("%d volumes are remembered", len(w.by))
	}
	for id := range volume.FileID(2 * maxSentAway) {
		w.enter(1, id)
		w.leave(1, id, false, 0)
	}
	if n := len(w.files(1, 1)); n != maxSentAway {
		t.Errorf("%d files are remembered, want %d", n, maxSentAway)
	}
}
