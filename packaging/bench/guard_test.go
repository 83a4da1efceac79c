package main

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

// Goal: the first run is saved; a later one of the same machine is held against it, by speed and by
// processor time; one of another machine is not.
func TestGuard(t *testing.T) {
	run := func(speed, cpu float64) *figures {
		return &figures{Machine: "m", Seconds: 1, Rows: []row{{Pattern: "4 KiB write",
			Ours:    result{PerSecond: speed, CPUPer1000Ops: cpu},
			Ganesha: result{PerSecond: 1000, CPUPer1000Ops: 1}}}}
	}
	path := filepath.Join(t.TempDir(), "saved.json")
	var out strings.Builder
	if err := run(500, 3).guard(path, &out); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		speed, cpu float64
		worse      bool
	}{{500, 3, false}, {360, 3.8, false}, {340, 3, true}, {500, 4, true}, {900, 1, false}} {
		out.Reset()
		if err := run(c.speed, c.cpu).guard(path, &out); errors.Is(err, errWorse) != c.worse || !c.worse && err != nil {
			t.Errorf("%g/s, %g s of CPU: %v", c.speed, c.cpu, err)
		}
		if strings.Contains(out.String(), "worse") != c.worse {
			t.Errorf("%g/s, %g s of CPU:\n%s", c.speed, c.cpu, &out)
		}
	}
	other := run(500, 3)
	other.Machine = "another"
	if err := other.guard(path, &out); err == nil || errors.Is(err, errWorse) {
		t.Errorf("a run of another machine: %v", err)
	}
}
