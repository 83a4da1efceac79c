package main

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// transcript sorts what a guest says: "ok NAME" is a check that passed, "not ok NAME: WHY" one that
// did not, anything else a remark.
type transcript struct {
	scenario string
	verbose  bool
	start    time.Time

	passed, failed []string // names; "NAME: WHY"

	mu sync.Mutex // held while a line is printed
}

func newTranscript(scenario string, verbose bool) *transcript {
	return &transcript{scenario: scenario, verbose: verbose, start: time.Now()}
}

// line takes a line of the guest. Called by one goroutine.
func (t *transcript) line(line string) {
	name, passed := strings.CutPrefix(line, "ok ")
	why, failed := strings.CutPrefix(line, "not ok ")
	switch {
	case passed:
		t.passed = append(t.passed, name)
	case failed:
		t.failed = append(t.failed, why)
	}
	if failed || t.verbose {
		t.print(line)
	}
}

// note takes a remark of the runner itself, from any goroutine.
func (t *transcript) note(format string, args ...any) {
	if t.verbose {
		t.print("# " + fmt.Sprintf(format, args...))
	}
}

func (t *transcript) print(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Printf("%-10s %6.2f s  %s\n", t.scenario, time.Since(t.start).Seconds(), line)
}
