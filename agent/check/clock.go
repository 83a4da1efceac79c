package check

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Clocks may differ by so much. File times come from whichever node is primary; a node whose clock
// is off by a minute cannot join.
const (
	clockWarning = time.Second
	clockError   = time.Minute
)

// clockSynced asks the kernel, whoever keeps its clock right (adjtimex(2), STA_UNSYNC).
func clockSynced() (bool, error) {
	var t unix.Timex
	if _, err := unix.Adjtimex(&t); err != nil {
		return false, err
	}
	return t.Status&unix.STA_UNSYNC == 0, nil
}

func checkClock(_ context.Context, s Subject, h Host) []Finding {
	var out []Finding
	synced, err := h.Synced()
	switch {
	case err != nil:
		out = append(out, Finding{"clock", Warning, "whether it is kept right cannot be told: " + err.Error(), "timedatectl shows it"})
	case !synced:
		out = append(out, Finding{"clock", Warning, "nothing keeps it right", "apt install chrony; chronyc tracking shows when it has found the time"})
	default:
		out = append(out, Finding{Check: "clock", Text: "is kept right by a time service"})
	}
	if s.Probe == nil {
		return out
	}
	for _, p := range s.Probe.Peers {
		if p.Error == "" {
			out = append(out, judgeClock(p.Node, p.ClockAhead, p.RoundTrip))
		}
	}
	return out
}

func judgeClock(node string, ahead, roundTrip time.Duration) Finding {
	way := "ahead"
	if ahead < 0 {
		way = "behind"
	}
	f := Finding{Check: "clock", Text: fmt.Sprintf("%s's is %s %s (give or take %s)", node,
		ahead.Abs().Round(100*time.Microsecond), way, (roundTrip / 2).Round(10*time.Microsecond))}
	const do = "set both right: timedatectl and chronyc tracking on both nodes show which is off"
	switch {
	case ahead.Abs() > clockError:
		f.Level, f.Do = Error, do
	case ahead.Abs() > clockWarning:
		f.Level, f.Do = Warning, do
	}
	return f
}
