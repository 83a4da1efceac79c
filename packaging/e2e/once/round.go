package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// round is one thing that happens to the nodes while the replies to one call of each kind are lost.
// The clients' gateway is always n1's.
type round struct {
	name    string
	quick   bool
	primary string   // at first
	events  []string // what the runner does before the calls are sent again
	after   []string // and once all is over
	meddle  bool     // another client changes what the calls have done before they are sent again
}

func rounds() []round {
	stop := []string{"stop n1", "start n1"}
	kill := []string{"kill n1", "start n1"}
	start := []string{"start n3"}
	return []round{
		{name: "handed over", quick: true, primary: "n1", events: []string{"primary n2"}},
		{name: "handed over, meddled", primary: "n1", events: []string{"primary n2"}, meddle: true},
		{name: "handed over elsewhere", primary: "n2", events: []string{"primary n3"}},
		{name: "killed", primary: "n3", events: []string{"kill n3"}, after: start},
		{name: "killed, meddled", quick: true, primary: "n3", events: []string{"kill n3"}, after: start, meddle: true},
		{name: "gateway restarted", primary: "n2", events: stop},
		{name: "gateway restarted, meddled", primary: "n2", events: stop, meddle: true},
		{name: "gateway and primary killed", primary: "n1", events: kill},
		{name: "gateway and primary killed, meddled", primary: "n1", events: kill, meddle: true},
	}
}

// play makes one call of each operation and returns what was wrong with each; err when the round
// itself failed.
func (r *round) play(name string, all []operation) (errs []error, err error) {
	if _, err := ask("primary", r.primary); err != nil {
		return nil, err
	}
	var calls []string
	for i := range all {
		calls = append(calls, all[i].call)
		if err := furnish(filepath.Join(mounted, name, all[i].folder())); err != nil {
			return nil, err
		}
	}
	if _, err := ask("drop", strings.Join(calls, " ")); err != nil {
		return nil, err
	}
	var under sync.WaitGroup
	ended := make([]error, len(all))
	for i, op := range all {
		under.Go(func() { ended[i] = op.run(filepath.Join(name, op.folder())) })
	}
	if _, err := ask("dropped"); err != nil {
		return nil, fmt.Errorf("%w (%w)", err, errors.Join(ended...))
	}

	errs = make([]error, len(all))
	look := func(from string, op *operation) *state { return see(filepath.Join(from, name, op.folder())) }
	for i := range all {
		if got := look(meddlers, &all[i]).String(); got != all[i].want {
			errs[i] = fmt.Errorf("first it made %q, want %q", got, all[i].want)
		}
	}
	if err := askAll(r.events); err != nil {
		return nil, err
	}
	before := make([]*state, len(all))
	for i, op := range all {
		if r.meddle {
			if err := op.meddle(filepath.Join(meddlers, name, op.folder())); err != nil {
				return nil, fmt.Errorf("meddle with %s: %w", op.call, err)
			}
		}
		before[i] = look(meddlers, &all[i])
	}

	answer, err := ask("resend")
	if err != nil {
		return nil, err
	}
	under.Wait()
	if err := askAll(r.after); err != nil {
		return nil, err
	}
	for i := range all {
		op := &all[i]
		errs[i] = errors.Join(errs[i], sentAgain(answer, op.call))
		if ended[i] != nil {
			errs[i] = errors.Join(errs[i], fmt.Errorf("the program got: %w", ended[i]))
		}
		for _, from := range observers() {
			if diff := look(from, op).differs(before[i], op.settles); diff != "" {
				errs[i] = errors.Join(errs[i], fmt.Errorf("seen from %s: %s", from, diff))
			}
		}
	}
	return errs, os.RemoveAll(filepath.Join(meddlers, name))
}

func askAll(requests []string) error {
	for _, request := range requests {
		if _, err := ask(request); err != nil {
			return err
		}
	}
	return nil
}

// sentAgain looks up what became of a call: a line CALL STATUS-LOST TIMES-SENT-AGAIN STATUS-RECEIVED.
func sentAgain(answer, call string) error {
	for line := range strings.Lines(answer) {
		var first, again, last int
		if _, err := fmt.Sscanf(line, call+" %d %d %d", &first, &again, &last); err != nil {
			continue
		}
		if first != 0 || again < 1 || last != 0 {
			return fmt.Errorf("the lost reply had status %d, the call was sent again %d times and got status %d", first, again, last)
		}
		return nil
	}
	return errors.New("no reply to it was lost")
}
