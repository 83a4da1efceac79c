package rounds

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"trinas/agent/drill"
	"trinas/packaging/lab"
)

const (
	slots       = 256 // blocks of a writer's file
	blockBytes  = 4096
	floodSlots  = 64 // of the file that fills the log
	floodBytes  = 256 << 10
	readPause   = 5 * time.Millisecond
	progressGap = 10 * time.Millisecond
)

// clients work on files of their own through each node, and read each other's.
type clients struct {
	nodes     []*lab.Node
	writers   []*lab.Writer // by node
	replacers []*lab.Replacer
	flooder   *lab.Writer
}

func newClients(nodes []*lab.Node) *clients {
	c := &clients{nodes: nodes, flooder: lab.NewWriter(nodes[0].File(volume, floodName, true), floodSlots, floodBytes)}
	for _, n := range nodes {
		c.writers = append(c.writers, lab.NewWriter(n.File(volume, writerName(n), true), slots, blockBytes))
		c.replacers = append(c.replacers, lab.NewReplacer(n, volume, "replaced-"+n.Name))
	}
	return c
}

const floodName = "flood"

func writerName(n *lab.Node) string { return "written-" + n.Name }

// work is the clients at work.
type work struct {
	ctx  context.Context
	stop context.CancelFunc
	all  sync.WaitGroup
}

// begin sets the clients to work. fail gets the first error: a call that was refused, a stale read.
func (c *clients) begin(ctx context.Context, fail context.CancelCauseFunc) *work {
	w := &work{}
	w.ctx, w.stop = context.WithCancel(ctx)
	run := func(f func(context.Context) error) {
		w.all.Go(func() {
			if err := f(w.ctx); err != nil {
				fail(err)
			}
		})
	}
	for i, n := range c.nodes {
		run(c.writers[i].Run)
		run(c.replacers[i].Run)
		run(func(ctx context.Context) error { return c.read(ctx, n) })
	}
	return w
}

func (w *work) end() {
	w.stop()
	w.all.Wait()
}

// ended reports whether end was called.
func (w *work) ended() bool { return w.ctx.Err() != nil }

// read reads slots of all writers through a node until ctx ends: no read may be stale.
func (c *clients) read(ctx context.Context, n *lab.Node) error {
	var files []*drill.File
	for _, owner := range c.nodes {
		f := n.File(volume, writerName(owner), true) // whoever is first makes it
		defer f.Close()
		files = append(files, f)
	}
	for ctx.Err() == nil {
		i := rand.IntN(len(files))
		if err := c.writers[i].Read(ctx, files[i], rand.Uint64N(slots)); err != nil && ctx.Err() == nil {
			return fmt.Errorf("read of %s through %s: %w", writerName(c.nodes[i]), n.Name, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(readPause):
		}
	}
	return nil
}

// awaitProgress waits until every writer has had answers to two more writes: the second began after
// the call.
func (c *clients) awaitProgress(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, moveLimit)
	defer cancel()
	for i, w := range c.writers {
		for from := w.Acknowledged(); w.Acknowledged() < from+2; {
			select {
			case <-ctx.Done():
				return fmt.Errorf("the writer through %s does not get on: %w", c.nodes[i].Name, ctx.Err())
			case <-time.After(progressGap):
			}
		}
	}
	return nil
}

// check compares all files, as they are seen through a node, with what was acknowledged.
func (c *clients) check(ctx context.Context, through *lab.Node) error {
	see := func(name string, w *lab.Writer) error {
		if w.Acknowledged() == 0 {
			return nil
		}
		found, err := w.Check(ctx, through.File(volume, name, false))
		if err == nil && found != (drill.Losses{}) {
			err = fmt.Errorf("%d lost, %d damaged, first %s", found.Lost, found.Damaged, found.First)
		}
		if err != nil {
			return fmt.Errorf("file %s through %s: %w", name, through.Name, err)
		}
		return nil
	}
	errs := []error{see(floodName, c.flooder)}
	for i, n := range c.nodes {
		errs = append(errs, see(writerName(n), c.writers[i]), c.replacers[i].Check(ctx, through))
	}
	return errors.Join(errs...)
}

// tally says how much was acknowledged so far.
func (c *clients) tally() string {
	var writes, replaced uint64
	for i := range c.nodes {
		writes += c.writers[i].Acknowledged()
		replaced += c.replacers[i].Acknowledged()
	}
	return fmt.Sprintf("%d writes, %d replacements", writes, replaced)
}
