package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// floors orders the packages of the module: a package imports only from lower floors. Programs
// around the product (packaging/...) stand above everything.
func floors() map[string]int {
	return map[string]int{
		"replica/disk": 0, "replica/latency": 0, "nfsgw/rpc": 0, "agent/config": 0, "agent/datadir": 0, "agent/journal": 0, "agent/load": 0, "agent/notify": 0, "agent/pve": 0, "agent/web/browser": 0,
		"replica/wal": 1, "replica/volume": 1, "replica/transport": 1, "nfsgw/nfs3": 1,
		"replica":     2,
		"replica/sim": 3, "nfsgw": 3, "agent/image": 3, "agent/drill": 3,
		"agent/check": 4, "agent/control": 4, "agent/ha": 4, "agent/metrics": 4, "agent/rescue": 4, "agent/web": 4,
		"agent": 5,
	}
}

const packagingFloor = 6

func floorOf(pkg string) (int, bool) {
	if strings.HasPrefix(pkg, "packaging/") {
		return packagingFloor, true
	}
	floor, known := floors()[pkg]
	return floor, known
}

// Goal: imports go down floors only, tests included, and every package has a floor. Programs of
// packaging may import each other.
func TestFloors(t *testing.T) {
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports,TestImports,XTestImports", "trinas/...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	seen := 0
	for {
		var p struct {
			ImportPath                         string
			Imports, TestImports, XTestImports []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		seen++
		pkg := strings.TrimPrefix(p.ImportPath, "trinas/")
		floor, known := floorOf(pkg)
		if !known {
			t.Errorf("package %s has no floor: give it one in agent/floors_test.go", pkg)
			continue
		}
		checkImports(t, pkg, floor, p.Imports)
		checkImports(t, pkg, floor, p.TestImports)
		checkImports(t, pkg, floor, p.XTestImports)
	}
	if seen < 10 {
		t.Fatalf("go list found %d packages only", seen)
	}
}

func checkImports(t *testing.T, pkg string, floor int, imports []string) {
	t.Helper()
	for _, path := range imports {
		imported, ours := strings.CutPrefix(path, "trinas/")
		if !ours || imported == pkg { // an external test imports its own package
			continue
		}
		below, known := floorOf(imported)
		if known && (below < floor || below == packagingFloor && floor == packagingFloor) {
			continue
		}
		t.Errorf("%s (floor %d) imports %s (floor %d): imports go down floors only", pkg, floor, imported, below)
	}
}
