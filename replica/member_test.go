package replica

import (
	"errors"
	"strings"
	"testing"

	"trinas/replica/disk"
)

// Goal: an empty data directory, one of another node, one of a newer format and one without its log
// are each refused with a line that names the directory and the next step.
func TestOpen_RefusesWrongDirectories(t *testing.T) {
	opt := Options{Disk: disk.OS(t.TempDir()), Name: "a", Advertise: "127.0.0.1:1", SegmentBytes: 1 << 20}
	if _, err := Open(opt); !errors.Is(err, ErrNoIdentity) {
		t.Fatalf("empty directory: %v", err)
	}
	if _, err := Init(opt, "office", "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := Init(opt, "office", "a"); err == nil || !strings.Contains(err.Error(), "belongs to node") {
		t.Errorf("init again: %v", err)
	}
	refused := func(what string, opt Options, words ...string) {
		t.Helper()
		n, err := Open(opt)
		if err == nil {
			n.Close()
			t.Fatalf("%s: opened", what)
		}
		for _, w := range append(words, opt.Disk.Path(".")) {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q does not name %q", what, err, w)
			}
		}
	}
	other := opt
	other.Name = "b"
	refused("another node's", other, `"a"`, `"b"`, "node.name")

	raw, err := readFile(opt.Disk, identityFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := replaceFile(opt.Disk, identityFile, []byte(strings.Replace(string(raw), `"format": 1`, `"format": 2`, 1))); err != nil {
		t.Fatal(err)
	}
	refused("newer format", opt, "format 2", "install")
	if err := replaceFile(opt.Disk, identityFile, raw); err != nil {
		t.Fatal(err)
	}
	if err := opt.Disk.RemoveAll(logDir); err != nil {
		t.Fatal(err)
	}
	refused("no log", opt, "log", "missing")
}
