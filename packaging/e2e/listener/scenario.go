package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"trinas/packaging/e2e/ask"
	"trinas/packaging/lab"
)

// recordTimeout and writeTimeout are the server's (nfsgw/rpc, Options): how long a record may take to
// arrive, and a client not take its replies. slack is for a busy machine.
const (
	recordTimeout = 60 * time.Second
	writeTimeout  = 60 * time.Second
	slack         = 5 * time.Second
)

// Bounds of what the agent may grow by, in bytes. A connection that is idle costs its read-ahead of
// 8 KiB and a goroutine; Go's collector lets the heap double before it looks. Clients that take
// nothing may hold the server's budget (256 MiB for all).
const (
	idleGrowth   = 1000 * 32 << 10
	silentGrowth = 1000 * 32 << 10
	greedyGrowth = 320 << 20
)

// scenario is one run. Its checks come in the order of play.
type scenario struct {
	ctx    context.Context
	volume *volume
	agent  ask.Node
	quick  bool

	slow []*slowCheck // under way
}

// slowCheck is one that only time can decide.
type slowCheck struct {
	name   string
	decide func(ctx context.Context) error // waits
}

func (s *scenario) later(name string, decide func(context.Context) error) {
	s.slow = append(s.slow, &slowCheck{name, decide})
}

func (s *scenario) play() error {
	neighbour := s.startNeighbour()
	for _, step := range []struct {
		name string
		run  func() error
	}{
		{"ports", s.ports}, {"idle", s.idle}, {"silent", s.silent}, {"other", s.other}, {"greedy", s.greedy},
		{"endless", s.endless}, {"gone", s.gone}, {"malformed", s.malformed},
	} {
		if err := step.run(); err != nil {
			return errors.Join(fmt.Errorf("%s: %w", step.name, err), neighbour.stop())
		}
		fmt.Printf("after %s the neighbour has made %s\n", step.name, neighbour.summary())
	}
	for _, c := range s.slow {
		if !s.quick {
			report(c.name, c.decide(s.ctx))
		}
	}
	report("neighbour: every request well, 99 of 100 within 100 ms", errors.Join(neighbour.stop(), neighbour.verdict()))
	fmt.Printf("the neighbour made %s\n", neighbour.summary())
	report("no handler has panicked", s.panics())
	return nil
}

// panics looks for what the agent logs when a request makes it panic.
func (s *scenario) panics() error {
	b, err := os.ReadFile(s.agent.Log)
	if err != nil {
		return err
	}
	for line := range bytes.Lines(b) {
		if bytes.Contains(line, []byte("panic")) {
			return fmt.Errorf("%s has: %s", s.agent.Log, line[:min(len(line), 300)])
		}
	}
	return nil
}

// growth runs f and then, for a second, finds the most by which the agent's resident memory exceeds
// what it was before.
func (s *scenario) growth(what string, limit int64, f func() error) error {
	before, _, err := lab.Memory(s.agent.PID)
	if err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	most := before
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		now, _, err := lab.Memory(s.agent.PID)
		if err != nil {
			return err
		}
		most = max(most, now)
	}
	fmt.Printf("%s: the agent's memory went from %.1f to %.1f MiB\n", what, mib(before), mib(most))
	if most-before > limit {
		return fmt.Errorf("the agent grew by %.1f MiB, more than %.1f", mib(most-before), mib(limit))
	}
	return nil
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }
