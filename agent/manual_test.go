package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// Goal: every command has its man page, with its summary and its flags, and every shell its
// completion; the same sources and date give the same bytes.
func TestManual(t *testing.T) {
	program := filepath.Join(t.TempDir(), "manual")
	if out, err := exec.Command("go", "build", "-tags", "manual", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	dir, again := t.TempDir(), t.TempDir()
	for _, d := range []string{dir, again} {
		cmd := exec.Command(program, d)
		cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1767225600") // 2026-01-01 00:00 UTC
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("manual: %v\n%s", err, out)
		}
	}
	walk(newCommand(nil, nil), func(cmd *cobra.Command) {
		name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
		page := readBoth(t, dir, again, filepath.Join("man", name+".1"))
		for _, want := range []string{name + " - " + cmd.Short, `"Jan 2026"`} {
			if !strings.Contains(page, want) {
				t.Errorf("%s.1 lacks %q", name, want)
			}
		}
	})
	for file, want := range map[string]string{
		"man/trinas-join.1":           `\fB--token\fP`,
		"man/trinas.toml.5":           `data_dir = "/var/lib/trinas"`,
		"man/trinas-pve.5":            `\fBtrinas-cluster\fP`,
		"man/trinas-events.7":         "replica-failed",
		"trinas.catalog":              "Subject: A replica has left service",
		"completion/bash/trinas":      "complete -o default -F __start_trinas trinas",
		"completion/zsh/_trinas":      "#compdef trinas",
		"completion/fish/trinas.fish": "complete -c trinas",
	} {
		if !strings.Contains(readBoth(t, dir, again, file), want) {
			t.Errorf("%s lacks %q", file, want)
		}
	}
}

func walk(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, sub := range cmd.Commands() {
		walk(sub, visit)
	}
}

func readBoth(t *testing.T, dir, again, file string) string {
	t.Helper()
	a, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Error(err)
	}
	b, err := os.ReadFile(filepath.Join(again, file))
	if err != nil || !bytes.Equal(a, b) {
		t.Errorf("%s differs from run to run (%v)", file, err)
	}
	return string(a)
}
