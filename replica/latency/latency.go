// Package latency counts how long things took, without a lock and without allocating, and says
// afterwards how long they took mostly. It must never hold up what it counts.
//
// Floor 0: imports nothing of trinas.
package latency

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Buckets is the number of a Histogram's buckets: four for each doubling from 1 µs to 67 s, so that
// a bucket is at most a quarter wider than its lower bound, and one for what took longer.
const Buckets = 101

// Histogram counts durations. The zero value is ready. Safe for concurrent use; it must not be
// copied.
type Histogram struct {
	counts [Buckets]atomic.Uint64
	sum    atomic.Int64 // nanoseconds
}

// Counts is what a Histogram has counted at some moment, or between two.
type Counts struct {
	Buckets [Buckets]uint64 // by bucket, not cumulative
	Sum     time.Duration   // of those that were observed
}

// Observe counts one duration. Below zero, which a clock that is set back gives, counts as zero.
func (h *Histogram) Observe(d time.Duration) {
	h.Count(d)
	h.sum.Add(int64(max(d, 0)))
}

// Count is Observe without the sum, for whoever wants quantiles only: it touches one word less.
func (h *Histogram) Count(d time.Duration) { h.counts[bucketOf(max(d, 0))].Add(1) }

// bucketOf: 0 to 3 µs have a bucket each; above, the highest bit says which doubling, and the two
// bits after it which quarter of that.
func bucketOf(d time.Duration) int {
	micros := uint64(d / time.Microsecond)
	if micros < 4 {
		return int(micros)
	}
	top := bits.Len64(micros) - 1
	return min(4*(top-1)+int(micros>>(top-2)&3), Buckets-1)
}

// Bound is the upper bound of bucket i, itself excluded; the last bucket has none, and 0 is returned.
func Bound(i int) time.Duration {
	if i >= Buckets-1 {
		return 0
	}
	return floorOf(i + 1)
}

// floorOf is the lower bound of bucket i.
func floorOf(i int) time.Duration {
	if i < 4 {
		return time.Duration(i) * time.Microsecond
	}
	return time.Duration(4+i%4) << (i/4 - 1) * time.Microsecond
}

// Counts is what was counted since the beginning.
func (h *Histogram) Counts() (c Counts) {
	for i := range h.counts {
		c.Buckets[i] = h.counts[i].Load()
	}
	c.Sum = time.Duration(h.sum.Load())
	return c
}

// Take is what was counted since the last Take, which starts anew. What is counted meanwhile goes
// to one of the two.
func (h *Histogram) Take() (c Counts) {
	for i := range h.counts {
		if h.counts[i].Load() != 0 {
			c.Buckets[i] = h.counts[i].Swap(0)
		}
	}
	c.Sum = time.Duration(h.sum.Swap(0))
	return c
}

// Since is what was counted after before, an earlier state of the same histogram.
func (c *Counts) Since(before *Counts) (d Counts) {
	for i := range c.Buckets {
		d.Buckets[i] = c.Buckets[i] - before.Buckets[i]
	}
	d.Sum = c.Sum - before.Sum
	return d
}

// Total is how many durations were counted.
func (c *Counts) Total() (n uint64) {
	for _, b := range c.Buckets {
		n += b
	}
	return n
}

// Quantile is the duration that the share q (0 to 1) of all counted ones did not exceed, to a
// quarter, by interpolation within a bucket; 0 when nothing was counted.
func (c *Counts) Quantile(q float64) time.Duration {
	total := c.Total()
	if total == 0 {
		return 0
	}
	rank := q * float64(total)
	below := uint64(0)
	for i, n := range c.Buckets {
		if n > 0 && float64(below+n) >= rank {
			from := floorOf(i)
			if i == Buckets-1 {
				return from
			}
			inside := max(0, rank-float64(below)) / float64(n)
			return from + time.Duration(inside*float64(Bound(i)-from))
		}
		below += n
	}
	return floorOf(Buckets - 1)
}
