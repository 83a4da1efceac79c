package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// goArchitectures are those that packages are made for; which modules are linked may differ.
var goArchitectures = []string{"amd64", "arm64"}

// toolchain stands for the Go standard library among the modules.
const toolchain = "go"

// linked is a module, or the Go standard library, of which packages are in the binary.
type linked struct {
	name  string   // module path, or toolchain
	root  string   // directory
	files []string // its Go and assembly sources in the binary, sorted
}

// listed is what go list tells of a package.
type listed struct {
	Dir             string
	Standard        bool
	GoFiles, SFiles []string
	Module          *struct {
		Path, Dir string
		Main      bool
	}
}

// linkedModules lists what ./agent of the module at dir is linked from, by name. The module
// itself is left out.
func linkedModules(dir string) ([]linked, error) {
	byName := map[string]*linked{}
	for _, arch := range goArchitectures {
		packages, err := goList(dir, arch)
		if err != nil {
			return nil, err
		}
		for _, p := range packages {
			if err := add(byName, p); err != nil {
				return nil, err
			}
		}
	}
	var modules []linked
	for _, m := range byName {
		slices.Sort(m.files)
		m.files = slices.Compact(m.files)
		modules = append(modules, *m)
	}
	slices.SortFunc(modules, func(a, b linked) int { return strings.Compare(a.name, b.name) })
	return modules, nil
}

// add files the package under its module.
func add(byName map[string]*linked, p listed) error {
	m := linked{name: toolchain}
	switch {
	case p.Standard:
		root, err := goRoot()
		if err != nil {
			return err
		}
		m.root = root
	case p.Module == nil:
		return fmt.Errorf("package in %s belongs to no module", p.Dir)
	case p.Module.Main:
		return nil
	default:
		m.name, m.root = p.Module.Path, p.Module.Dir
	}
	if byName[m.name] == nil {
		byName[m.name] = &m
	}
	for _, f := range slices.Concat(p.GoFiles, p.SFiles) {
		byName[m.name].files = append(byName[m.name].files, filepath.Join(p.Dir, f))
	}
	return nil
}

func goList(dir, arch string) ([]listed, error) {
	cmd := exec.Command("go", "list", "-deps", "-json=Dir,Standard,GoFiles,SFiles,Module", "./agent")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list for %s: %w", arch, err)
	}
	var packages []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list for %s: %w", arch, err)
		}
		packages = append(packages, p)
	}
}

func goRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOROOT: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}
