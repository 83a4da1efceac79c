package main

import (
	"fmt"
	"strings"
	"time"
)

// transcript sorts what a guest or a program says: "ok NAME" is a check that passed, "not ok NAME:
// WHY" one that did not, "= TEXT" a result that is always shown, anything else a remark.
type transcript struct {
	label   string // of the lines that are printed
	prefix  string // of the checks' names: "n2: " where several guests make the same checks
	verbose bool
	start   time.Time

	passed, failed []string // names; "NAME: WHY"
}

func newTranscript(label, prefix string, verbose bool) *transcript {
	return &transcript{label: label, prefix: prefix, verbose: verbose, start: time.Now()}
}

// line takes a line. Called by one goroutine.
func (t *transcript) line(line string) {
	name, passed := strings.CutPrefix(line, "ok ")
	why, failed := strings.CutPrefix(line, "not ok ")
	switch {
	case passed:
		t.passed = append(t.passed, t.prefix+name)
	case failed:
		t.failed = append(t.failed, t.prefix+why)
	}
	result, shown := strings.CutPrefix(line, "= ")
	switch {
	case shown:
		t.print(result)
	case failed || t.verbose:
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
	fmt.Printf("%-11s %6.2f s  %s\n", t.label, time.Since(t.start).Seconds(), line)
}
