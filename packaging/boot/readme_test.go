package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Goal: README's own section is understood, ends with a volume, and a command without a place is
// refused.
func TestReadSteps(t *testing.T) {
	steps, err := readSteps("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var commands []string
	for _, s := range steps {
		commands = append(commands, s.command)
	}
	all := strings.Join(commands, "\n")
	for _, want := range []string{"apt install trinas", "trinas init", "trinas join", "trinas volume create"} {
		if !strings.Contains(all, want) {
			t.Errorf("README's set-up lacks %q", want)
		}
	}
	path := filepath.Join(t.TempDir(), "README.md")
	if err := os.WriteFile(path, []byte(setupTitle+"\n\n    trinas status   # somewhere\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readSteps(path); err == nil || !strings.Contains(err.Error(), "trinas status") {
		t.Errorf("a command without a place: %v", err)
	}
}

func TestStep_Fill(t *testing.T) {
	s := step{command: "trinas join 192.0.2.1:7370 --token TOKEN"}
	got, err := s.fill("On the next node, run:\n  trinas join 10.77.0.1:7370 --token abc\n")
	if err != nil || got != "trinas join 10.77.0.1:7370 --token abc" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := s.fill("trinas join 10.77.0.1:7370\n"); err == nil {
		t.Error("another command was taken")
	}
}
