package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"trinas/packaging/lab"
	"trinas/packaging/lab/guest"
)

// runner runs scenarios one after the other on one cluster, each with a guest and a volume of its
// own.
type runner struct {
	lab                    *lab.Lab
	binary                 string // the trinas program
	folder                 string
	quick, verbose, update bool

	init string // the guest's first process, built
}

func (r *runner) runAll(ctx context.Context, scenarios []*scenario) error {
	r.init = filepath.Join(r.lab.Dir, "init")
	if err := build(ctx, "trinas/packaging/lab/guest/init", r.init); err != nil {
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
	return r.runGuest(ctx, s, "")
}

// runGuest runs a scenario's guest, with a disk when one is named.
func (r *runner) runGuest(ctx context.Context, s *scenario, disk string) (int, error) {
	addresses := make([]string, len(r.lab.Nodes))
	for i, n := range r.lab.Nodes {
		addresses[i] = n.Addr
	}
	quick := ""
	if r.quick {
		quick = "1"
	}
	m := &guest.Machine{
		Init: r.init, Memory: s.Memory, Limit: s.limit, Disk: disk,
		Modules: append([]string{"nfsv3"}, s.Modules...),
		Args:    []string{"bash", scriptFile},
		Env:     []string{"VOLUME=" + s.Name, "NODES=" + strings.Join(addresses, " "), "QUICK=" + quick},
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	t := newTranscript(s.Name, r.verbose)
	events := &events{lab: r.lab, volume: s.Name, say: t.note, fail: cancel}
	m.Line = func(line string) {
		if request, ok := strings.CutPrefix(line, requestMark); ok {
			events.request(ctx, m.Share(), request)
			return
		}
		t.line(line)
	}
	status, err := r.lab.RunGuest(ctx, m, func() error { return r.prepare(ctx, s, m.Share()) })
	err = errors.Join(err, events.close())
	if cause := context.Cause(ctx); cause != nil {
		err = errors.Join(cause, err)
	}
	if err == nil && status != 0 {
		err = fmt.Errorf("%s ended with status %d", scriptFile, status)
	}
	for _, n := range r.lab.Nodes {
		if !n.Running() {
			err = errors.Join(err, fmt.Errorf("the agent of %s has ended by itself; see %s", n.Name, n.LogFile()))
		}
	}
	if r.update && err == nil {
		text := strings.Join(t.passed, "\n") + "\n"
		return len(t.passed), os.WriteFile(filepath.Join(s.Dir, expectFile), []byte(text), 0o644)
	}
	if err == nil || len(t.failed) > 0 {
		err = errors.Join(err, s.compare(t.passed))
	}
	return len(t.passed), err
}

// prepare fills the folder that the guest runs in.
func (r *runner) prepare(ctx context.Context, s *scenario, share string) error {
	if err := os.MkdirAll(filepath.Join(share, answersDir), 0o755); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(s.Dir, "*.[sp][hy]")) // shell and Python
	if err != nil {
		return err
	}
	for _, path := range append(files, filepath.Join(r.folder, "checks.sh")) {
		b, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(filepath.Join(share, filepath.Base(path)), b, 0o644)
		}
		if err != nil {
			return err
		}
	}
	if s.Disk > 0 {
		if err := copyFile(r.binary, filepath.Join(share, "trinas")); err != nil {
			return err
		}
	}
	if !s.goCode {
		return nil
	}
	return build(ctx, "./"+s.Dir, filepath.Join(share, s.Name))
}

// build builds a program that needs no libraries.
func build(ctx context.Context, pkg, out string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w: %s", pkg, err, bytes.TrimSpace(b))
	}
	return nil
}
