package main

import (
	"fmt"
	"os"
	"strings"
)

// setupTitle is the section of README.md whose commands are run.
const setupTitle = "## Set it up on three nodes"

// step is a command of that section.
type step struct {
	command string
	on      []int // machines, from 0
}

// places says where a command belongs, by how its comment begins.
func places() map[string][]int {
	return map[string][]int{"on each": {0, 1, 2}, "on the first": {0}, "on the second": {1}, "on the third": {2}, "anywhere": {2}}
}

// leftOut are commands that a machine without Proxmox cannot run.
func leftOut() map[string]string {
	return map[string]string{"pvesm": "this is no Proxmox VE node"}
}

// readSteps returns the commands of README's set-up section in their order. A command whose place is
// not known is an error: it would not be tested.
func readSteps(path string) ([]step, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	_, section, found := strings.Cut(string(b), setupTitle+"\n")
	if !found {
		return nil, fmt.Errorf("%s has no section %q", path, setupTitle)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var steps []step
	var above []int // the place that a line without a command gives to the next one
	for line := range strings.Lines(section) {
		code, isCode := strings.CutPrefix(line, "    ")
		if !isCode || strings.TrimSpace(code) == "" {
			continue
		}
		command, comment, _ := strings.Cut(code, "#")
		s := step{command: strings.TrimSpace(command), on: above}
		for begin, on := range places() {
			if strings.HasPrefix(strings.TrimSpace(comment), begin) {
				s.on = on
			}
		}
		if above = nil; s.command == "" {
			above = s.on
			continue
		}
		if s.on == nil {
			return nil, fmt.Errorf("%s: %q: where is it to be run? its comment must begin with one of: on each, on the first, "+
				"on the second, on the third, anywhere", path, strings.TrimSpace(line))
		}
		steps = append(steps, s)
	}
	return steps, nil
}

// fill puts what trinas init or trinas token printed in the place of README's example of it.
func (s step) fill(printed string) (string, error) {
	want := strings.Fields(s.command)
	if len(want) < 2 || want[0] != "trinas" || want[1] != "join" {
		return s.command, nil
	}
	for line := range strings.Lines(printed) {
		got := strings.Fields(line)
		if len(got) == len(want) && got[0] == "trinas" && got[1] == "join" && got[3] == want[3] {
			return strings.Join(got, " "), nil
		}
	}
	return "", fmt.Errorf("README has %q, and nothing like it was printed before:\n%s", s.command, printed)
}
