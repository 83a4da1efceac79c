package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"trinas/replica"
)

// order has a strike carried out, once for each number.
func (h *Host) order(r *running, req request) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return fmt.Errorf("the agent is stopping")
	case req.Number == r.order:
		return nil // asked again
	case req.Victim == h.opt.Node.Name():
		return refuse("node %s does not strike itself", req.Victim)
	case r.order != 0 && r.round == nil:
		return refuse("node %s: strike %d is still under way", h.opt.Node.Name(), r.order)
	}
	r.order, r.round = req.Number, nil
	h.running.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), roundTimeout)
		defer cancel()
		go func() {
			select {
			case <-h.quit:
				cancel()
			case <-r.over:
				cancel()
			case <-ctx.Done():
			}
		}()
		s := &strike{host: h, run: r, req: req, round: Round{Number: req.Number, Victim: req.Victim}}
		if err := s.carryOut(ctx); err != nil {
			s.round.Error = err.Error()
		}
		h.mu.Lock()
		r.round = &s.round
		h.mu.Unlock()
	})
	return nil
}

func (h *Host) roundOf(r *running, number int) *Round {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.order != number {
		return &Round{Number: number, Error: fmt.Sprintf("node %s has forgotten the strike: its agent was started anew meanwhile", h.opt.Node.Name())}
	}
	return r.round
}

// strike is one strike, carried out by this node on another one.
type strike struct {
	host  *Host
	run   *running
	req   request
	round Round
	nodes []string // whose probes take part
	boot  int64    // of the victim's agent, before
}

func (s *strike) carryOut(ctx context.Context) error {
	kind := s.run.Kind
	first := s.req.Victim
	if kind == SlowDisk {
		first = s.req.To
	}
	s.round.Role = "secondary"
	if first == s.req.Victim {
		s.round.Role = "primary"
	}
	// Again until nothing is missing at the moment of the strike: another loss would be one too many.
	if err := s.poll(ctx, func() error { return s.prepare(ctx, first) }); err != nil {
		return err
	}
	hello, err := s.ask(ctx, s.req.Victim, request{Do: doHello})
	if err != nil {
		return err
	}
	s.boot = hello.Boot
	if _, err := s.marks(ctx, false); err != nil {
		return err
	}
	if kind == SlowDisk {
		return s.slow(ctx, first)
	}
	s.host.opt.Log.Warn("drill: a node is struck", "event", "drill-strike", "volume", s.run.Volume, "peer", s.req.Victim, "kind", kind)
	return s.move(ctx)
}

// prepare makes a node the primary, and reports what is missing then.
func (s *strike) prepare(ctx context.Context, first string) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	for _, node := range s.nodes { // one whose log is slow does not take over: the strike would measure that
		hello, err := s.askOnce(ctx, node, request{Do: doHello})
		if err != nil {
			return err
		}
		if hello.Slow {
			return fmt.Errorf("the log's disk of %s counts as slow", node)
		}
	}
	if err := s.host.opt.Node.Transfer(ctx, s.run.Volume, first); err != nil {
		return fmt.Errorf("make %s the primary beforehand: %w", first, err)
	}
	soon, cancel := context.WithTimeout(ctx, stayTime)
	defer cancel()
	if _, err := s.run.probe.await(soon, func(w written) bool { return w.primary == first }); err != nil {
		return fmt.Errorf("wait until %s is primary: %w", first, err)
	}
	if err := pause(ctx, tailTime); err != nil { // what that move cost is not the strike's
		return err
	}
	if p, _ := s.host.opt.Node.Primary(s.run.Volume); p != first {
		return fmt.Errorf("%s did not stay primary", first)
	}
	return s.ready(ctx)
}

// move strikes and waits for another primary, then for all replicas.
func (s *strike) move(ctx context.Context) error {
	victim := s.req.Victim
	done := make(chan error, 1)
	s.round.At = time.Now()
	go func() {
		if s.run.Kind == Handover {
			done <- s.host.opt.Node.Transfer(ctx, s.run.Volume, s.req.To)
			return
		}
		_, err := s.askOnce(ctx, victim, request{Do: doAct, Kind: s.run.Kind}) // of a kill nobody answers
		done <- err
	}()
	// One that is back before another has taken over may stay primary.
	watch, enough := context.WithCancel(ctx)
	defer enough()
	acted := make(chan error, 1)
	go func() {
		err := <-done
		if s.run.Kind == Kill {
			err = s.returned(ctx)
		}
		acted <- err
		if s.run.Kind != Handover && pause(watch, stayTime) == nil {
			enough()
		}
	}()
	w, err := s.run.probe.await(watch, func(w written) bool {
		return w.at.After(s.round.At) && w.primary != "" && w.primary != victim
	})
	switch {
	case err == nil:
		s.round.Move, s.round.To = w.at.Sub(s.round.At), w.primary
	case ctx.Err() == nil && watch.Err() != nil:
		s.round.To = victim
	default:
		return fmt.Errorf("wait for another primary than %s: %w", victim, err)
	}
	if err := <-acted; err != nil {
		return fmt.Errorf("%s: %w", victim, err)
	}
	if err := s.settled(ctx); err != nil {
		return err
	}
	s.round.UpToDate = time.Since(s.round.At)
	if err := pause(ctx, tailTime); err != nil { // pauses that are not over yet
		return err
	}
	s.round.Windows, err = s.marks(ctx, false)
	return err
}

// returned waits until the victim's agent has been started anew.
func (s *strike) returned(ctx context.Context) error {
	return s.poll(ctx, func() error {
		hello, err := s.askOnce(ctx, s.req.Victim, request{Do: doHello})
		if err == nil && hello.Boot == s.boot {
			err = fmt.Errorf("the agent of %s still runs", s.req.Victim)
		}
		return err
	})
}

// slow measures for slowTime without, then for as long with a throttle on the victim.
func (s *strike) slow(ctx context.Context, primary string) (err error) {
	if err := pause(ctx, slowTime); err != nil {
		return err
	}
	if s.round.Normal, err = s.marks(ctx, true); err != nil {
		return err
	}
	s.host.opt.Log.Warn("drill: a node is struck", "event", "drill-strike", "volume", s.run.Volume, "peer", s.req.Victim, "kind", s.run.Kind)
	s.round.At = time.Now()
	if _, err := s.ask(ctx, s.req.Victim, request{Do: doAct, Kind: SlowDisk}); err != nil {
		return err
	}
	if err := pause(ctx, slowTime); err != nil {
		return err
	}
	if s.round.Windows, err = s.marks(ctx, true); err != nil {
		return err
	}
	s.round.To, _ = s.host.opt.Node.Primary(s.run.Volume)
	if err := s.settled(ctx); err != nil {
		return err
	}
	s.round.UpToDate = time.Since(s.round.At)
	return nil
}

// settled waits until nothing is missing.
func (s *strike) settled(ctx context.Context) error {
	return s.poll(ctx, func() error { return s.ready(ctx) })
}

// ready reports what is missing: a replica that is not UpToDate, a node that is not connected.
func (s *strike) ready(ctx context.Context) error {
	st := s.host.opt.Node.Status(ctx)
	s.nodes = s.nodes[:0]
	for _, n := range st.Nodes {
		s.nodes = append(s.nodes, n.Name)
	}
	return Ready(st, s.run.Volume)
}

// Ready reports why no node may be struck now: nil, or what is missing.
func Ready(st replica.Status, volume string) error {
	for _, n := range st.Nodes {
		if !n.Connected || n.Joining || n.Leaving {
			return fmt.Errorf("node %s is not connected, or joins or leaves: a drill needs all nodes", n.Name)
		}
	}
	i := slices.IndexFunc(st.Volumes, func(v replica.VolumeStatus) bool { return v.Name == volume })
	if i < 0 {
		return fmt.Errorf("volume %s: %w (see trinas volume list)", volume, replica.ErrNoVolume)
	}
	v := st.Volumes[i]
	for _, r := range v.Replicas {
		if r.State != replica.UpToDate {
			return fmt.Errorf("the replica of volume %s on %s is %s: a drill needs all replicas UpToDate (see trinas status)", volume, r.Node, r.State)
		}
	}
	if v.Primary == "" {
		return fmt.Errorf("volume %s has no primary", volume)
	}
	return nil
}

// marks collects what all probes have seen since the last marks.
func (s *strike) marks(ctx context.Context, samples bool) (map[string]Window, error) {
	out := map[string]Window{}
	for _, node := range s.nodes {
		err := s.poll(ctx, func() error {
			a, err := s.askOnce(ctx, node, request{Do: doMark, Samples: samples})
			if err != nil {
				return err
			}
			out[node] = add(out[node], *a.Window)
			if out[node].Answers == 0 {
				return fmt.Errorf("the probe on %s has no answer yet", node)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// add joins two windows of one node.
func add(a, b Window) Window {
	return Window{Answers: a.Answers + b.Answers, Longest: max(a.Longest, b.Longest), Pauses: a.Pauses + b.Pauses,
		Writes: append(a.Writes, b.Writes...)}
}

// poll calls f until it returns nil, a refusal, or ctx ends.
func (s *strike) poll(ctx context.Context, f func() error) error { return poll(ctx, lookEvery, f) }

// ask asks until there is an answer.
func (s *strike) ask(ctx context.Context, node string, req request) (a answer, err error) {
	err = s.poll(ctx, func() error {
		a, err = s.askOnce(ctx, node, req)
		return err
	})
	return a, err
}

func (s *strike) askOnce(ctx context.Context, node string, req request) (answer, error) {
	req.Session = s.run.ID
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return ask(ctx, s.host.opt.Node.Ask, node, req)
}

// asker brings bytes to the agent of a node and its answer back.
type asker func(ctx context.Context, node, topic string, body []byte) ([]byte, error)

// ask asks once.
func ask(ctx context.Context, by asker, node string, req request) (a answer, err error) {
	body, err := json.Marshal(req)
	if err != nil {
		return a, err
	}
	raw, err := by(ctx, node, Topic, body)
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		return a, fmt.Errorf("node %s: its answer cannot be read: %w", node, err)
	}
	if a.Refused != "" {
		return a, refusal(a.Refused)
	}
	return a, nil
}

// poll calls f until it returns nil or a refusal, or ctx ends.
func poll(ctx context.Context, every time.Duration, f func() error) error {
	for {
		err := f()
		if err == nil || errors.Is(err, errRefused) {
			return err
		}
		if pause(ctx, every) != nil {
			return fmt.Errorf("%w (%w)", err, ctx.Err())
		}
	}
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
