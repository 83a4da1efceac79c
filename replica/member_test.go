package replica

import (
	"errors"
	"strings"
	"syscall"
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

// Goal: data without an identity is never taken for an empty directory, neither by the agent nor
// by init; wipe clears it, and nothing that is not trinas's.
func TestOpen_Orphan(t *testing.T) {
	opt := Options{Disk: disk.NewMem(1).FS(), Advertise: "127.0.0.1:1", SegmentBytes: 1 << 20}
	if _, err := Init(opt, "office", "a"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(opt.Disk.MkdirAll("lost+found"), opt.Disk.Remove(identityFile)); err != nil {
		t.Fatal(err)
	}
	_, openErr := Open(opt)
	_, initErr := Init(opt, "office", "a")
	for what, err := range map[string]error{"open": openErr, "init": initErr} {
		if err == nil || errors.Is(err, ErrNoIdentity) || !strings.Contains(err.Error(), "trinas rescue") || !strings.Contains(err.Error(), identityFile) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := Wipe(opt.Disk); err != nil {
		t.Fatal(err)
	}
	if left, err := opt.Disk.List("."); err != nil || len(left) != 1 || left[0] != "lost+found" {
		t.Errorf("left: %v, %v", left, err)
	}
	if _, err := Init(opt, "office", "a"); err != nil {
		t.Errorf("init after wipe: %v", err)
	}
}

// Goal: a wipe that is cut short at any point leaves a whole node, or a directory that counts as
// empty and that another wipe clears.
func TestWipe_CutShort(t *testing.T) {
	for k, done := 1, false; !done; k++ {
		d := disk.NewMem(uint64(k))
		opt := Options{Disk: d.FS(), Advertise: "127.0.0.1:1", Listen: "127.0.0.1:0", SegmentBytes: 1 << 20}
		if _, err := Init(opt, "office", "a"); err != nil {
			t.Fatal(err)
		}
		ops := 0
		d.OnOp(func(string, string, int64, int64) error {
			if ops++; ops == k {
				d.Crash()
				return syscall.EIO
			}
			return nil
		})
		done = Wipe(opt.Disk) == nil && ops < k
		d.OnOp(nil)
		opt.Disk = d.FS()
		n, err := Open(opt)
		if err == nil {
			n.Close()
		} else if !errors.Is(err, ErrNoIdentity) {
			t.Fatalf("cut at operation %d: %v", k, err)
		}
		if done && err == nil {
			t.Error("the node is still there")
		}
		if err := Wipe(opt.Disk); err != nil {
			t.Fatalf("again after a cut at operation %d: %v", k, err)
		}
		if left, err := opt.Disk.List("."); err != nil || len(left) != 0 {
			t.Errorf("cut at %d: left %v, %v", k, left, err)
		}
	}
}
