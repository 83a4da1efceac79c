package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"trinas/nfsgw/nfs3"
	"trinas/replica"
)

// Cluster is what a drill asks of its node. *replica.Node is one.
type Cluster interface {
	Name() string
	Status(ctx context.Context) replica.Status
	Known() replica.Status
	Primary(volume string) (string, bool)
	Transfer(ctx context.Context, volume, node string) error
	Ask(ctx context.Context, node, topic string, body []byte) ([]byte, error)
}

// HostOptions say what an agent's part in drills works with.
type HostOptions struct {
	Node       Cluster
	Gateway    Dial   // this node's own
	Dir        string // the data directory
	Throttle   *Throttle
	Lease      time.Duration // how long a session goes on that nobody renews: LeaseTime
	Supervised bool          // whoever started the agent starts it again when it is killed
	Log        *slog.Logger
}

// Host is an agent's part in drills. It has one session at a time.
type Host struct {
	opt     HostOptions
	boot    int64
	quit    chan struct{}
	running sync.WaitGroup

	mu     sync.Mutex // guards below
	closed bool
	now    *running // nil: no session
}

// running is a session in this process.
type running struct {
	session
	state *state
	until time.Time
	probe *probe
	round *Round // the strike that was ordered last, when it is over
	order int    // its number
	over  chan struct{}
}

// NewHost returns the agent's part, and goes on with the session that a killed agent had.
func NewHost(opt HostOptions) *Host {
	h := &Host{opt: opt, boot: time.Now().UnixNano(), quit: make(chan struct{})}
	if st, s, acknowledged, last, until, err := openState(h.statePath()); err != nil {
		opt.Log.Warn("cannot go on with a drill", "event", "drill-broken", "err", err)
	} else if st != nil {
		h.start(s, st, acknowledged, last, until)
	}
	return h
}

func (h *Host) statePath() string { return filepath.Join(h.opt.Dir, stateName) }

// Close ends the probe and what else runs. What a session has left stays, as after a kill: the next
// start of the agent goes on with it, or removes it. May be called twice.
func (h *Host) Close() {
	h.mu.Lock()
	r := h.now
	if !h.closed {
		h.closed = true
		close(h.quit)
	}
	h.mu.Unlock()
	if r != nil {
		r.probe.close()
	}
	h.running.Wait()
}

// start begins a session whose state has been made; mu is held or nobody else knows h.
func (h *Host) start(s session, st *state, acknowledged uint64, last, until time.Time) {
	r := &running{session: s, state: st, until: until, over: make(chan struct{})}
	file := NewFile(h.opt.Gateway, h.opt.Node.Name(), s.Volume, fileName(h.opt.Node.Name()), true)
	primary := func() string {
		p, _ := h.opt.Node.Primary(s.Volume)
		return p
	}
	r.probe = startProbe(file, st, primary, acknowledged, last)
	h.now = r
	h.running.Go(func() { h.expire(r) })
}

// expire ends a session that nobody renews.
func (h *Host) expire(r *running) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-h.quit:
			return
		case <-r.over:
			return
		case now := <-tick.C:
			h.mu.Lock()
			past := now.After(r.until)
			h.mu.Unlock()
			if !past {
				continue
			}
			h.opt.Log.Warn("a drill was left by those who asked for it: it is ended", "event", "drill-broken", "volume", r.Volume, "peer", r.By)
			ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
			if err := h.end(ctx, r); err != nil {
				h.opt.Log.Debug("end a drill; trying on", "err", err)
			}
			cancel()
		}
	}
}

// end removes everything of a session.
func (h *Host) end(ctx context.Context, r *running) error {
	r.probe.close()
	h.opt.Throttle.Slow(time.Time{})
	name := h.opt.Node.Name()
	file := NewFile(h.opt.Gateway, name, r.Volume, fileName(name), false)
	defer file.Close()
	if err := file.Remove(ctx); err != nil {
		return fmt.Errorf("remove the probe's file: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.now != r {
		return nil
	}
	h.now = nil
	close(r.over)
	h.opt.Log.Info("drill ended", "event", "drill-end", "volume", r.Volume)
	return r.state.remove()
}

// Answer answers an agent, or the command line through one (replica.Options.Answer).
func (h *Host) Answer(ctx context.Context, from string, body []byte) ([]byte, error) {
	var req request
	if err := json.Unmarshal(body, &req); err != nil {
		return nil, fmt.Errorf("decode what is asked: %w", err)
	}
	a, err := h.answer(ctx, from, req)
	if errors.Is(err, errRefused) {
		a, err = answer{Refused: err.Error()}, nil
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(a)
}

// errRefused is what is not to be asked again.
var errRefused = errors.New("refused")

type refusal string

func (r refusal) Error() string        { return string(r) }
func (r refusal) Is(target error) bool { return target == errRefused }

func refuse(format string, args ...any) error { return refusal(fmt.Sprintf(format, args...)) }

func (h *Host) answer(ctx context.Context, from string, req request) (answer, error) {
	switch req.Do {
	case doHello:
		return answer{Boot: h.boot, Supervised: h.opt.Supervised, Slow: h.opt.Node.Known().Log.Slow}, nil
	case doBegin:
		return answer{}, h.begin(from, req)
	}
	r := h.session(req.Session)
	if r == nil {
		if req.Do == doEnd {
			return answer{}, nil // it has ended
		}
		return answer{}, refuse("node %s: no such drill is under way: it was left for too long, or ended", h.opt.Node.Name())
	}
	switch req.Do {
	case doRenew:
		h.renew(r)
	case doMark:
		w := r.probe.mark(req.Samples)
		if err := r.probe.failure(); err != nil {
			return answer{}, refuse("the probe on %s has failed: %s", h.opt.Node.Name(), err)
		}
		return answer{Window: &w}, nil
	case doStrike:
		return answer{}, h.order(r, req)
	case doRound:
		return answer{Round: h.roundOf(r, req.Number)}, nil
	case doAct:
		return answer{}, h.act(r, req.Kind)
	case doStop:
		r.probe.close()
		t := r.probe.tally()
		return answer{Tally: &t}, nil
	case doCheck:
		return h.check(ctx, r, req)
	case doEnd:
		return answer{}, h.end(ctx, r)
	default:
		return answer{}, refuse("node %s does not know %q: install the same version of trinas on all nodes", h.opt.Node.Name(), req.Do)
	}
	return answer{}, nil
}

func (h *Host) session(id string) *running {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.now == nil || h.now.ID != id {
		return nil
	}
	return h.now
}

func (h *Host) begin(from string, req request) error {
	if err := req.Kind.Check(); err != nil {
		return refuse("%s", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return errors.New("the agent is stopping")
	case h.now != nil && h.now.ID == req.Session:
		return nil // asked again
	case h.now != nil:
		return refuse("a drill of volume %s, begun on %s, is under way on %s: one at a time; it ends by itself %s after those who asked for it are gone",
			h.now.Volume, h.now.By, h.opt.Node.Name(), h.opt.Lease)
	}
	s := session{ID: req.Session, Volume: req.Volume, Kind: req.Kind, By: from}
	until := time.Now().Add(h.opt.Lease)
	st, err := makeState(h.statePath(), s, until)
	if err != nil {
		return err
	}
	h.opt.Log.Info("drill begins", "event", "drill-begin", "volume", s.Volume, "kind", s.Kind, "peer", from)
	h.start(s, st, 0, time.Time{}, until)
	return nil
}

func (h *Host) renew(r *running) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r.until = time.Now().Add(h.opt.Lease)
	r.state.renew(r.until)
}

// act does to this node what the drill is about.
func (h *Host) act(r *running, kind Kind) error {
	if kind != r.Kind {
		return refuse("node %s: this drill is %s, not %s", h.opt.Node.Name(), r.Kind, kind)
	}
	switch kind {
	case Kill:
		if !h.opt.Supervised {
			return refuse("node %s: nobody would start its agent again", h.opt.Node.Name())
		}
		killSelf()
	case Silence:
		return stopSelf(silenceTime)
	case SlowDisk:
		h.opt.Throttle.Slow(time.Now().Add(slowTime))
	}
	return nil
}

// check reads another node's file through this node's gateway.
func (h *Host) check(ctx context.Context, r *running, req request) (answer, error) {
	if req.Ledger == nil || req.Ledger.Slots != probeSlots {
		return answer{}, refuse("node %s: no ledger to compare with", h.opt.Node.Name())
	}
	file := NewFile(h.opt.Gateway, h.opt.Node.Name(), r.Volume, fileName(req.Node), false)
	defer file.Close()
	found, err := CheckFile(ctx, file, *req.Ledger, blockBytes)
	return answer{Losses: &found}, err
}

// CheckFile compares a whole file with what was acknowledged. Not while it is written to.
func CheckFile(ctx context.Context, file *File, ledger Ledger, blockBytes int) (Losses, error) {
	perRead, size := uint64(max(1, nfs3.MaxIOBytes/blockBytes)), uint64(blockBytes)
	var found Losses
	for at := uint64(0); at < ledger.Slots; at += perRead {
		count := min(perRead, ledger.Slots-at)
		b, err := file.Read(ctx, int(count*size), int64(at*size))
		if err != nil {
			return found, fmt.Errorf("check acknowledged writes: %w", err)
		}
		for i := range count {
			from := min(i*size, uint64(len(b)))
			ledger.Check(at+i, b[from:min(from+size, uint64(len(b)))], &found)
		}
	}
	return found, nil
}
