package replica

import (
	"testing"
	"time"
)

// Goal: a process that was stopped with a write under way does not take its disk for slow, whether the
// end of the write or the look comes first afterwards; a disk that is slow beside it still is.
func TestSlowLog_Stopped(t *testing.T) {
	const tick = 100 * time.Millisecond
	for _, ended := range []bool{true, false} {
		s := slowLog{every: tick}
		now := time.Hour
		s.look(0, now)
		now += 4 * time.Second // stopped
		if ended {
			s.synced(4*time.Second, now)
		}
		inFlight := 4 * time.Second
		if ended {
			inFlight = 0
		}
		if slow, _ := s.look(inFlight, now); slow {
			t.Errorf("write ended %t: a stopped process has a slow log", ended)
		}
		if !ended {
			s.synced(4*time.Second, now)
		}
		for range 3 { // writes of 300 ms, looked at all the while
			for taken := tick; taken <= 3*tick; taken += tick {
				now += tick
				s.look(taken, now)
			}
			s.synced(3*tick, now)
		}
		if slow, _ := s.look(0, now); !slow {
			t.Errorf("write ended %t: three writes of 300 ms after it were not noticed", ended)
		}
	}
}
