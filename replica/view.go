package replica

import (
	"context"
	"sync/atomic"
	"time"
)

// view is what this node knows of a group's leadership. A new one is made whenever leader or term
// changes; the old one has ended then. Fields without a note never change.
type view struct {
	leader  uint64 // 0: unknown
	term    uint64
	readyAt uint64 // as leader: the index of the term's first entry; reads wait until it is applied

	leaseUntil atomic.Int64 // as leader: reads are safe before this moment of the group's clock

	ctx context.Context // ends with the view: calls sent to the leader hang on it
	end context.CancelFunc
}

func newView(leader, term uint64) *view {
	v := &view{leader: leader, term: term}
	v.ctx, v.end = context.WithCancel(context.Background())
	return v
}

func (v *view) ended() <-chan struct{} { return v.ctx.Done() }

// leased reports whether the leader may answer a read from its own replica at now.
func (v *view) leased(now time.Duration) bool { return int64(now) < v.leaseUntil.Load() }
