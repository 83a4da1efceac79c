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
// itself failed. name is the folder that it uses.
func (r *round) play(name string, all []operation) (errs []error, err error) {
	if _, err := runner.Ask("primary", r.primary); err != nil {
		return nil, err
	}
	calls, err := begin(name, all)
	if err != nil {
		return nil, err
	}
	errs = make([]error, len(all))
	for i := range all {
		if got := all[i].see(meddlers, name).String(); got != all[i].want {
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
		before[i] = op.see(meddlers, name)
	}
	answer, err := runner.Ask("resend")
	if err != nil {
		return nil, err
	}
	ended := calls.wait()
	if err := askAll(r.after); err != nil {
		return nil, err
	}
	for i, op := range all {
		errs[i] = errors.Join(errs[i], sentAgain(answer, op.call), ended[i], op.unchanged(name, before[i]))
	}
	return errs, os.RemoveAll(filepath.Join(meddlers, name))
}

// calls are those of a round, under way.
type calls struct {
	under sync.WaitGroup
	errs  []error // what the programs got; to be read after wait
}

func (c *calls) wait() []error {
	c.under.Wait()
	return c.errs
}

// begin makes all calls and returns when they have been carried out and their replies are lost.
func begin(name string, all []operation) (*calls, error) {
	var names []string
	for i := range all {
		names = append(names, all[i].call)
		if err := furnish(filepath.Join(mounted, name, all[i].folder())); err != nil {
			return nil, err
		}
	}
	if _, err := runner.Ask("drop", strings.Join(names, " ")); err != nil {
		return nil, err
	}
	c := &calls{errs: make([]error, len(all))}
	for i, op := range all {
		c.under.Go(func() {
			if err := op.run(filepath.Join(name, op.folder())); err != nil {
				c.errs[i] = fmt.Errorf("the program got: %w", err)
			}
		})
	}
	_, err := runner.Ask("dropped")
	return c, err
}

func askAll(requests []string) error {
	for _, request := range requests {
		if _, err := runner.Ask(request); err != nil {
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
