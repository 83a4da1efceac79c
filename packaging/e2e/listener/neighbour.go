package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"trinas/nfsgw/nfs3"
)

const (
	askInterval   = 20 * time.Millisecond
	freshInterval = 25                     // every so many requests: one over a connection of its own
	mostUnderWay  = 256                    // requests of the neighbour; each further one has failed
	wanted        = 100 * time.Millisecond // for 99 of 100
)

// neighbour asks for attributes and 4 KiB of data every askInterval, however long the answers take: a
// server that stands still for ten seconds so makes five hundred requests late, not one.
type neighbour struct {
	*scenario
	cancel context.CancelFunc
	done   chan struct{}

	mu    sync.Mutex
	took  []time.Duration // of requests that were answered well
	under int
	errs  []error
}

func (s *scenario) startNeighbour() *neighbour {
	ctx, cancel := context.WithCancel(s.ctx)
	n := &neighbour{scenario: s, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(n.done)
		if err := n.work(ctx); err != nil {
			n.mu.Lock()
			n.errs = append(n.errs, err)
			n.mu.Unlock()
		}
	}()
	return n
}

// stop waits for the requests under way.
func (n *neighbour) stop() error {
	n.cancel()
	<-n.done
	n.mu.Lock()
	defer n.mu.Unlock()
	return errors.Join(n.errs[:min(len(n.errs), 5)]...)
}

func (n *neighbour) work(ctx context.Context) error {
	c, err := n.client(neighbourHost, 0)
	if err != nil {
		return err
	}
	defer c.Close()
	var requests sync.WaitGroup
	defer requests.Wait()
	tick := time.NewTicker(askInterval)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		n.mu.Lock()
		full := n.under >= mostUnderWay
		n.under++
		n.mu.Unlock()
		if full {
			return fmt.Errorf("%d requests were not answered", mostUnderWay)
		}
		requests.Go(func() { n.request(context.WithoutCancel(ctx), c, i) })
	}
}

// request makes the i-th request.
func (n *neighbour) request(ctx context.Context, c *nfs3.Client, i int) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	begun := time.Now()
	var err error
	switch {
	case i%freshInterval == 0:
		var fresh *nfs3.Client
		if fresh, err = n.client(neighbourHost, 1+i/freshInterval%(portsPerHost-1)); err == nil {
			_, err = fresh.GetAttr(ctx, n.volume.file)
			fresh.Close()
		}
	case i%2 == 0:
		_, err = c.GetAttr(ctx, n.volume.file)
	default:
		var data []byte
		data, _, err = c.Read(ctx, n.volume.file, uint64(i*4096%largeBytes), 4096)
		if err == nil && len(data) != 4096 {
			err = fmt.Errorf("READ gave %d of 4096 bytes", len(data))
		}
	}
	took := time.Since(begun)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.under--
	if err != nil {
		n.errs = append(n.errs, fmt.Errorf("neighbour: %w", err))
		return
	}
	n.took = append(n.took, took)
}

// percentiles returns how long half, 99 of 100, and all of the requests took.
func (n *neighbour) percentiles() (count int, half, most, all time.Duration) {
	n.mu.Lock()
	took := slices.Clone(n.took)
	n.mu.Unlock()
	if len(took) == 0 {
		return
	}
	slices.SortFunc(took, cmp.Compare)
	return len(took), took[len(took)/2], took[len(took)*99/100], took[len(took)-1]
}

func (n *neighbour) summary() string {
	count, half, most, all := n.percentiles()
	return fmt.Sprintf("%d requests; half within %.1f ms, 99 of 100 within %.1f, all within %.1f", count, ms(half), ms(most), ms(all))
}

func (n *neighbour) verdict() error {
	count, _, most, _ := n.percentiles()
	if count < 100 || most > wanted {
		return errors.New(n.summary())
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
