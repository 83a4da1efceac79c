package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"trinas/packaging/lab"
)

// runProgram runs a shell script as a scenario's program on the host, with an answer for each request.
func runProgram(t *testing.T, limit time.Duration, script string) (*actor, error) {
	t.Helper()
	kit := t.TempDir()
	if err := os.Mkdir(filepath.Join(kit, answersDir), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(kit, "program"), []byte("#!/bin/bash\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	r := &runner{lab: &lab.Lab{}}
	s := &scenario{Name: "program", Where: onHost, limit: limit}
	a := r.cast(s)[0]
	e := &events{lab: r.lab, meeting: newMeeting([]string{a.name}), say: t.Logf, fail: cancel}
	err := r.runHost(ctx, s, a, kit, func(share, line string) { e.request(ctx, a, share, line) })
	e.close()
	return a, err
}

// Goal: a program on the host is heard, answered, and not waited for longer than itself takes,
// whatever it leaves behind.
func TestRunner_RunHost(t *testing.T) {
	a, err := runProgram(t, time.Minute, `
		echo "ok $VOLUME $NODE"
		echo "@1 meet here word"
		until [ -e answers/1 ]; do sleep 0.01; done
		echo "ok $(cat answers/1)"
		echo "@2 nonsense"
		until [ -e answers/2 ]; do sleep 0.01; done
		echo "not ok told: $(cat answers/2)"
		sleep 1000 &`)
	if err != nil {
		t.Error(err)
	}
	if want := []string{"program host", "word"}; !slices.Equal(a.passed, want) {
		t.Errorf("passed %q, want %q", a.passed, want)
	}
	if want := []string{`told: error: unknown request "nonsense"`}; !slices.Equal(a.failed, want) {
		t.Errorf("failed %q, want %q", a.failed, want)
	}
}

// Goal: a program that fails, or that takes too long, is an error that says which.
func TestRunner_RunHost_Fails(t *testing.T) {
	tests := []struct {
		script string
		limit  time.Duration
		want   string
	}{
		{"exit 3", time.Minute, "exit status 3"},
		{"sleep 1000", 100 * time.Millisecond, "not done within"},
	}
	for _, tt := range tests {
		if _, err := runProgram(t, tt.limit, tt.script); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.script, err, tt.want)
		}
	}
}
