package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"trinas/packaging/lab"
	"trinas/packaging/lab/guest"
)

// runner runs scenarios one after the other on one cluster, each with guests and a volume of its own.
type runner struct {
	lab                    *lab.Lab
	binary                 string // the trinas program
	kernel                 string // the folder that packaging/kernel.sh makes
	folder                 string
	quick, verbose, update bool

	init string // the guest's first process, built
	disk string // the guest's, which is a node then; "": none
}

func (r *runner) runAll(ctx context.Context, scenarios []*scenario) error {
	r.init = filepath.Join(r.lab.Dir, "init")
	if err := guest.Build(ctx, "trinas/packaging/lab/guest/init", r.init); err != nil {
		return err
	}
	begun := time.Now()
	formCtx, cancel := context.WithTimeout(ctx, formTimeout)
	defer cancel()
	if err := r.lab.Form(formCtx); err != nil {
		return err
	}
	fmt.Printf("three agents, one cluster (%v)\n", time.Since(begun).Round(10*time.Millisecond))
	var errs []error
	for _, s := range scenarios {
		begun := time.Now()
		passed, err := r.run(ctx, s)
		verdict := "PASS"
		if err != nil {
			verdict = "FAIL"
			err = fmt.Errorf("scenario %s: %w", s.Name, err)
		}
		fmt.Printf("%-10s %s  %d checks, %.1f s\n", s.Name, verdict, passed, time.Since(begun).Seconds())
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// run runs one scenario and returns how many checks passed.
func (r *runner) run(ctx context.Context, s *scenario) (int, error) {
	if s.Disk > 0 {
		return r.runMember(ctx, s)
	}
	if err := r.lab.CreateVolume(ctx, s.Name); err != nil {
		return 0, err
	}
	return r.perform(ctx, s)
}

// perform runs a scenario on the cluster; its volume is there, or will be.
func (r *runner) perform(ctx context.Context, s *scenario) (int, error) {
	kit := filepath.Join(r.lab.Dir, "kit-"+s.Name)
	if err := r.prepare(ctx, s, kit); err != nil {
		return 0, err
	}
	actors := r.cast(s)
	err := r.play(ctx, s, kit, actors)
	for _, n := range r.lab.Nodes {
		if !n.Running() {
			err = errors.Join(err, fmt.Errorf("the agent of %s has ended by itself; see %s", n.Name, n.LogFile()))
		}
	}
	var passed, failed []string
	for _, a := range actors {
		passed, failed = append(passed, a.passed...), append(failed, a.failed...)
	}
	if len(failed) > 0 && err == nil {
		err = fmt.Errorf("%d checks failed", len(failed))
	}
	if r.update && err == nil {
		text := strings.Join(passed, "\n") + "\n"
		return len(passed), os.WriteFile(s.expectPath, []byte(text), 0o644)
	}
	if err == nil || len(failed) > 0 {
		err = errors.Join(err, s.compare(passed))
	}
	return len(passed), err
}

// play runs all actors at once and returns when they have ended and nothing disturbs any more.
func (r *runner) play(ctx context.Context, s *scenario, kit string, actors []*actor) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	names := make([]string, len(actors))
	for i, a := range actors {
		names[i] = a.name
	}
	e := &events{lab: r.lab, volume: s.Name, meeting: newMeeting(names), say: actors[0].note, fail: cancel}
	errs := make([]error, len(actors))
	var ended sync.WaitGroup
	for i, a := range actors {
		ended.Go(func() {
			run := r.runGuest
			if s.Where == onHost {
				run = r.runHost
			}
			err := run(ctx, s, a, kit, func(share, line string) { e.request(ctx, a, share, line) })
			if err != nil && len(actors) > 1 {
				err = fmt.Errorf("%s: %w", a.name, err)
			}
			errs[i] = err
			e.meeting.leave(a.name)
		})
	}
	ended.Wait()
	e.close()
	err := errors.Join(append(errs, e.closeRelay(), e.healCut())...)
	if cause := context.Cause(ctx); cause != nil {
		err = errors.Join(cause, err)
	}
	return err
}

// prepare fills a folder with what the scenario's actors need; each gets a copy.
func (r *runner) prepare(ctx context.Context, s *scenario, kit string) error {
	if err := os.MkdirAll(filepath.Join(kit, answersDir), 0o755); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(s.Dir, "*.[sp][hy]")) // shell and Python
	if err != nil {
		return err
	}
	for _, path := range append(files, filepath.Join(r.folder, "checks.sh")) {
		b, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(filepath.Join(kit, filepath.Base(path)), b, 0o644)
		}
		if err != nil {
			return err
		}
	}
	if s.Disk > 0 {
		if err := copyFile(r.binary, filepath.Join(kit, "trinas")); err != nil {
			return err
		}
	}
	if !s.goCode {
		return nil
	}
	return guest.Build(ctx, "./"+s.Dir, filepath.Join(kit, s.Name))
}
