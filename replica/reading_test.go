package replica

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"trinas/replica/volume"
)

// Goal: a read on a primary that keeps its majority and commits nothing ends with the request's context, and
// as not the primary when the leadership ends.
func TestGroup_QueryEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &group{self: 1}
		v := newView(1, 2)
		v.readyAt = 5
		g.view.Store(v)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		var res volume.Result
		if err := g.query(ctx, &volume.Op{Kind: volume.GetAttr}, &res); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the context has ended: %v", err)
		}
		time.AfterFunc(time.Second, v.end)
		if err := g.query(context.Background(), &volume.Op{Kind: volume.GetAttr}, &res); !errors.Is(err, errNotPrimary) {
			t.Errorf("the leadership has ended: %v", err)
		}
	})
}
