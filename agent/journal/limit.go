package journal

import (
	"maps"
	"time"
)

// maxObjects is of how many objects the limiter remembers when they were last named. Beyond it, the
// ones whose time is over are forgotten, and if that is not enough, all.
const maxObjects = 1024

// limiter leaves out lines that repeat. The zero value is not usable: seen must be made.
type limiter struct{ seen map[string]*repetition }

// repetition is an object that was named lately.
type repetition struct {
	shown   time.Time // when its line was shown last
	until   time.Time // before it, none is shown
	leftOut int       // lines since shown
}

// pass reports whether a line about object, at now, is to be shown, when one in every is enough;
// and if so, how many were left out before it.
func (l *limiter) pass(object string, now time.Time, every time.Duration) (leftOut int, show bool) {
	r := l.seen[object]
	// A clock that was set back must not silence anything.
	if r != nil && now.Before(r.until) && !now.Before(r.shown) {
		r.leftOut++
		return 0, false
	}
	if r == nil {
		l.makeRoom(now)
		r = &repetition{}
		l.seen[object] = r
	}
	leftOut = r.leftOut
	*r = repetition{shown: now, until: now.Add(every)}
	return leftOut, true
}

func (l *limiter) makeRoom(now time.Time) {
	if len(l.seen) < maxObjects {
		return
	}
	maps.DeleteFunc(l.seen, func(_ string, r *repetition) bool { return !now.Before(r.until) })
	if len(l.seen) >= maxObjects {
		clear(l.seen)
	}
}
