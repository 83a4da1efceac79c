package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"trinas/agent/config"
)

// Files of a scenario's folder.
const (
	settingsFile = "scenario.toml"
	scriptFile   = "guest.sh"
	expectFile   = "expect"       // names of the checks that pass, one a line, in their order
	quickFile    = "expect.quick" // the same with -quick, where fewer checks are made then
)

// Who plays a scenario: values of where and guests.
const (
	onGuest      = "guest"   // the script, in guests
	onHost       = "host"    // the program, on the host
	guestOne     = "one"     // one guest, plugged into n1
	guestEach    = "each"    // one guest per node, at the same time
	guestOutside = "outside" // one guest that is no node, on the nodes' network
)

// scenario is a folder with a script that guests run, or a program that the host runs, and what is expected of it.
type scenario struct {
	Name string `toml:"-"` // of the folder, and of the volume
	Dir  string `toml:"-"`

	Where    string      `toml:"where"`    // onHost: the folder's program runs there, and no guest
	Guests   string      `toml:"guests"`   // guestOne (default), guestEach, guestOutside
	Quick    bool        `toml:"quick"`    // runs with -quick too, its script then with QUICK=1
	Limit    string      `toml:"limit"`    // the longest that the guest may take: "90s"
	Memory   string      `toml:"memory"`   // of the guest: "512M"
	Modules  []string    `toml:"modules"`  // kernel modules beside nfsv3
	Disk     config.Size `toml:"disk"`     // "8GiB": the guest is a node itself, the third, with a disk of that size for it; see member.go
	Programs []string    `toml:"programs"` // programs of the host that the script uses and Debian's base lacks

	limit      time.Duration
	expect     []string
	expectPath string // the file that expect is from
	goCode     bool   // the folder holds a Go program: it is built and lies beside the script under Name
}

// loadScenarios returns the scenarios named, or all, in the order of their names.
func loadScenarios(folder string, names []string, quick bool) ([]*scenario, error) {
	found, err := filepath.Glob(filepath.Join(folder, "*", settingsFile))
	if err != nil {
		return nil, err
	}
	var all []*scenario
	for _, path := range found {
		name := filepath.Base(filepath.Dir(path))
		if len(names) > 0 && !slices.Contains(names, name) {
			continue
		}
		s, err := loadScenario(filepath.Dir(path), quick)
		if err != nil {
			return nil, fmt.Errorf("scenario %s: %w", name, err)
		}
		if s.Quick || !quick {
			all = append(all, s)
		}
	}
	for _, name := range names {
		if !slices.ContainsFunc(all, func(s *scenario) bool { return s.Name == name }) {
			return nil, fmt.Errorf("no scenario %q in %s (or it is not quick)", name, folder)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no scenario in %s", folder)
	}
	return all, nil
}

func loadScenario(dir string, quick bool) (*scenario, error) {
	s := &scenario{Name: filepath.Base(dir), Dir: dir, Memory: "512M", Where: onGuest, Guests: guestOne}
	b, err := os.ReadFile(filepath.Join(dir, settingsFile))
	if err != nil {
		return nil, err
	}
	if err := toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields().Decode(s); err != nil {
		return nil, fmt.Errorf("%s: %w", settingsFile, err)
	}
	if s.limit, err = time.ParseDuration(s.Limit); err != nil {
		return nil, fmt.Errorf("%s: limit: %w", settingsFile, err)
	}
	s.expectPath = filepath.Join(dir, expectFile)
	if path := filepath.Join(dir, quickFile); quick && exists(path) {
		s.expectPath = path
	}
	b, err = os.ReadFile(s.expectPath)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		s.expect = append(s.expect, strings.TrimSuffix(line, "\n"))
	}
	code, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	s.goCode = len(code) > 0
	return s, s.validate()
}

func (s *scenario) validate() error {
	if !slices.Contains([]string{onGuest, onHost}, s.Where) {
		return fmt.Errorf("%s: where = %q: %s or %s", settingsFile, s.Where, onGuest, onHost)
	}
	if !slices.Contains([]string{guestOne, guestEach, guestOutside}, s.Guests) {
		return fmt.Errorf("%s: guests = %q: %s, %s or %s", settingsFile, s.Guests, guestOne, guestEach, guestOutside)
	}
	if s.Where == onHost && !s.goCode {
		return fmt.Errorf("where = %q wants a Go program in the folder", onHost)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// compare returns what is wrong with the checks that passed, nil when they are the ones expected.
func (s *scenario) compare(passed []string) error {
	if len(s.expect) == 0 {
		return fmt.Errorf("file %s is missing or empty; passed are %d checks", s.expectPath, len(passed))
	}
	if slices.Equal(passed, s.expect) {
		return nil
	}
	var errs []error
	for _, name := range s.expect {
		if !slices.Contains(passed, name) {
			errs = append(errs, fmt.Errorf("expected and not passed: %s", name))
		}
	}
	for _, name := range passed {
		if !slices.Contains(s.expect, name) {
			errs = append(errs, fmt.Errorf("passed and not expected: %s", name))
		}
	}
	if errs == nil {
		return fmt.Errorf("the checks passed in another order, or another number of times, than file %s has them", s.expectPath)
	}
	return errors.Join(errs...)
}
