package drill

import (
	"bytes"
	"context"
	"sync"
	"time"
)

const (
	blockBytes = 4096                 // of one write and read
	probeSlots = 256                  // of blockBytes, written round and round
	probePause = 2 * time.Millisecond // between a read and the next write: a probe must not load what it measures
)

// written is an acknowledged write, for those who watch.
type written struct {
	at      time.Time
	primary string // as this node knows it
}

// probe writes and reads one file all the time and notes when it was answered.
type probe struct {
	file    *File
	state   *state
	primary func() string

	stop  context.CancelFunc
	ended chan struct{}

	mu     sync.Mutex // guards below
	ledger Ledger
	window Window
	last   time.Time // of the last answer
	stale  int
	err    error
	watch  chan written // nil: nobody watches
}

// startProbe goes on after what was acknowledged up to last; both zero for a new probe.
func startProbe(file *File, st *state, primary func() string, acknowledged uint64, last time.Time) *probe {
	ctx, stop := context.WithCancel(context.Background())
	p := &probe{file: file, state: st, primary: primary, stop: stop, ended: make(chan struct{}), last: last}
	// The next write may have been under way when the agent was killed.
	p.ledger = Ledger{Slots: probeSlots, Begun: acknowledged, Acknowledged: acknowledged}
	if acknowledged > 0 {
		p.ledger.Begun++
	}
	go p.run(ctx)
	return p
}

// close ends the probe; may be called twice.
func (p *probe) close() {
	p.stop()
	<-p.ended
}

func (p *probe) run(ctx context.Context) {
	defer close(p.ended)
	defer p.file.Close()
	pause := time.NewTicker(probePause)
	defer pause.Stop()
	block := make([]byte, blockBytes)
	for {
		if err := p.once(ctx, block); err != nil {
			if ctx.Err() == nil {
				p.mu.Lock()
				p.err = err
				p.mu.Unlock()
			}
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
	}
}

// once writes one block and reads it back.
func (p *probe) once(ctx context.Context, block []byte) error {
	p.mu.Lock()
	slot, sequence := p.ledger.Next()
	p.mu.Unlock()
	EncodeBlock(block, slot, sequence)
	began := time.Now()
	if err := p.file.Write(ctx, block, int64(slot)*blockBytes); err != nil {
		return err
	}
	p.wrote(time.Now(), began)
	got, err := p.file.Read(ctx, blockBytes, int64(slot)*blockBytes)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answered(time.Now())
	if !bytes.Equal(got, block) {
		p.stale++
	}
	return nil
}

// wrote notes an acknowledged write.
func (p *probe) wrote(now, began time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ledger.Acknowledge()
	p.state.note(p.ledger.Acknowledged, now)
	p.window.write(now.Sub(began))
	p.answered(now)
	select {
	case p.watch <- written{now, p.primary()}:
	default: // nobody watches, or a watcher that has not taken the one before
	}
}

// answered notes an answer; mu is held.
func (p *probe) answered(now time.Time) {
	if !p.last.IsZero() {
		p.window.gap(now.Sub(p.last))
	}
	p.window.Answers++
	p.last = now
}

// mark returns what was seen since the last mark and begins anew.
func (p *probe) mark(samples bool) Window {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.window
	p.window = Window{}
	if !p.last.IsZero() {
		// Not over yet: it will count whole when it ends, but a window that ends inside of it has it too.
		w.gap(time.Since(p.last))
	}
	if !samples {
		w.Writes = nil
	}
	return w
}

// await returns the first write acknowledged after the call that is as wanted.
func (p *probe) await(ctx context.Context, wanted func(written) bool) (written, error) {
	watch := make(chan written, 64)
	p.mu.Lock()
	p.watch = watch
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.watch = nil
		p.mu.Unlock()
	}()
	for {
		select {
		case w := <-watch:
			if wanted(w) {
				return w, nil
			}
		case <-p.ended:
			return written{}, p.failure()
		case <-ctx.Done():
			return written{}, ctx.Err()
		}
	}
}

// failure is why the probe has ended by itself, nil while it has not.
func (p *probe) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

func (p *probe) tally() Tally {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := Tally{Ledger: p.ledger, Stale: p.stale}
	if p.err != nil {
		t.Error = p.err.Error()
	}
	return t
}
