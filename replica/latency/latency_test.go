package latency

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

// Goal: buckets cover all durations without gap or overlap, and none is more than a quarter wide.
func TestBuckets(t *testing.T) {
	for i := range Buckets - 1 {
		low, high := floorOf(i), Bound(i)
		if bucketOf(low) != i || bucketOf(high-1) != i || bucketOf(high) != i+1 {
			t.Fatalf("bucket %d is %s to %s: its ends are in buckets %d and %d, the next begins in %d",
				i, low, high, bucketOf(low), bucketOf(high-1), bucketOf(high))
		}
		if low >= 4*time.Microsecond && (high-low)*4 > low {
			t.Errorf("bucket %d is %s to %s", i, low, high)
		}
	}
	if got := Bound(Buckets - 1); got != 0 {
		t.Errorf("the last bucket ends at %s", got)
	}
	var h Histogram
	h.Observe(-time.Second)
	h.Observe(100 * time.Hour)
	c := h.Counts()
	if c.Buckets[0] != 1 || c.Buckets[Buckets-1] != 1 || c.Sum != 100*time.Hour || c.Quantile(1) < time.Minute {
		t.Errorf("%v, quantile %s", c, c.Quantile(1))
	}
}

// Goal: quantiles are right to a quarter. Method: random durations, beside a sorted list.
func TestQuantile(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var h Histogram
	var all []time.Duration
	for range 10000 {
		d := time.Duration(r.ExpFloat64() * float64(3*time.Millisecond))
		all = append(all, d)
		h.Observe(d)
	}
	slices.Sort(all)
	c := h.Counts()
	for _, q := range []float64{0.01, 0.5, 0.9, 0.99} {
		want := all[int(q*float64(len(all)))]
		if got := c.Quantile(q); got < want*3/4 || got > want*5/4 {
			t.Errorf("quantile %g is %s, of the list %s", q, got, want)
		}
	}
	if none := (&Counts{}).Quantile(0.5); none != 0 {
		t.Errorf("quantile of nothing: %s", none)
	}
}

// Goal: nothing is counted twice or lost when counts are taken while others count.
func TestTake(t *testing.T) {
	var h Histogram
	var counting sync.WaitGroup
	for range 4 {
		counting.Go(func() {
			for range 10000 {
				h.Observe(time.Millisecond)
			}
		})
	}
	var taken Counts
	add := func(c Counts) {
		taken.Sum += c.Sum
		for i := range c.Buckets {
			taken.Buckets[i] += c.Buckets[i]
		}
	}
	ended := make(chan struct{})
	go func() { counting.Wait(); close(ended) }()
	for more := true; more; {
		select {
		case <-ended:
			more = false
		default:
		}
		add(h.Take())
	}
	if taken.Total() != 40000 || taken.Sum != 40*time.Second {
		t.Errorf("%d taken, %s", taken.Total(), taken.Sum)
	}
	before := h.Counts()
	h.Observe(time.Second)
	after := h.Counts()
	if d := after.Since(&before); d.Total() != 1 || d.Sum != time.Second {
		t.Errorf("since: %d, %s", d.Total(), d.Sum)
	}
}

func BenchmarkObserve(b *testing.B) {
	var h Histogram
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			h.Observe(1234 * time.Microsecond)
		}
	})
}
