package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Goal: every scenario's folder can be loaded, is explained and expects something.
func TestScenarios(t *testing.T) {
	all, err := loadScenarios(".", nil, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if len(s.expect) == 0 {
			t.Errorf("%s expects nothing", s.Name)
		}
		names := []string{scriptFile, "README.md"}
		if s.Where == onHost {
			names = names[1:]
		}
		for _, name := range names {
			if _, err := os.Stat(filepath.Join(s.Dir, name)); err != nil {
				t.Error(err)
			}
		}
	}
	if quick, err := loadScenarios(".", nil, true); err != nil || len(quick) == 0 || len(quick) >= len(all) {
		t.Errorf("%d of %d scenarios are quick, %v", len(quick), len(all), err)
	}
	if _, err := loadScenarios(".", []string{"none"}, false); err == nil {
		t.Error("a scenario that is not there was found")
	}
}

// Goal: a setting that means nothing is refused, not taken for another.
func TestScenario_Validate(t *testing.T) {
	tests := []struct {
		name  string
		s     scenario
		fails bool
	}{
		{"guests", scenario{Where: onGuest, Guests: guestEach}, false},
		{"a program", scenario{Where: onHost, Guests: guestOne, goCode: true}, false},
		{"no program", scenario{Where: onHost, Guests: guestOne}, true},
		{"where", scenario{Where: "moon", Guests: guestOne}, true},
		{"guests of a kind unknown", scenario{Where: onGuest, Guests: "two"}, true},
	}
	for _, tt := range tests {
		if err := tt.s.validate(); (err != nil) != tt.fails {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// Goal: only exactly the checks that are expected let a scenario pass.
func TestScenario_Compare(t *testing.T) {
	s := &scenario{expect: []string{"a", "b"}}
	tests := []struct {
		name   string
		passed []string
		want   string // "": nothing is wrong
	}{
		{"as expected", []string{"a", "b"}, ""},
		{"ended early", []string{"a"}, "not passed: b"},
		{"one more", []string{"a", "b", "c"}, "not expected: c"},
		{"other order", []string{"b", "a"}, "order"},
		{"twice", []string{"a", "b", "b"}, "number of times"},
	}
	for _, tt := range tests {
		err := s.compare(tt.passed)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if err := (&scenario{}).compare(nil); err == nil {
		t.Error("nothing expected, nothing passed, and all well")
	}
}
