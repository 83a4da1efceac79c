package pve

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// folder is a cluster file system of the nodes.
func folder(t *testing.T, nodes ...string) Dir {
	t.Helper()
	d := t.TempDir()
	for _, n := range nodes {
		if err := os.MkdirAll(filepath.Join(d, "nodes", n), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(d, "priv"), 0o700); err != nil {
		t.Fatal(err)
	}
	return Dir(d)
}

// Goal: an invitation comes back as it was written, replaces the one before, is root's alone, and
// can be withdrawn.
func TestInvitation(t *testing.T) {
	d := folder(t, "pve2", "pve1")
	if err := os.WriteFile(filepath.Join(string(d), "nodes", "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if nodes, err := d.Nodes(); err != nil || fmt.Sprint(nodes) != "[pve1 pve2]" || !d.Present() {
		t.Errorf("nodes %v, %v", nodes, err)
	}
	if _, err := d.Invitation("pve2"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
	for _, token := range []string{"old", "new"} {
		want := Invitation{Cluster: "00ff", ClusterName: "office", Node: "PVE2", Addresses: []string{"192.0.2.1:7370"}, Token: token,
			Expires: time.Unix(1800000000, 0).UTC()}
		if err := d.Invite(want); err != nil {
			t.Fatal(err)
		}
		want.Format = 1
		if got, err := d.Invitation("pve2"); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %+v, %v", got, err)
		}
	}
	for path, mode := range map[string]fs.FileMode{"priv/trinas": 0o700, "priv/trinas/pve2.json": 0o600} {
		if info, err := os.Stat(filepath.Join(string(d), path)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	if names, err := d.Invited(); err != nil || fmt.Sprint(names) != "[pve2]" {
		t.Errorf("invited %v, %v", names, err)
	}
	for range 2 {
		if err := d.Withdraw("pve2"); err != nil {
			t.Error(err)
		}
	}
	if names, err := d.Invited(); err != nil || names != nil {
		t.Errorf("invited %v, %v", names, err)
	}
}

// Goal: no secret goes where others can read it, no name leaves the folder, and what is not an
// invitation for this node is not taken for one.
func TestInvitation_Bad(t *testing.T) {
	if Dir("").Present() || Dir(t.TempDir()).Present() {
		t.Error("present")
	}
	d := folder(t, "pve1")
	for _, name := range []string{"", "..", "../x", "a/b", "a b"} {
		if d.Invite(Invitation{Node: name}) == nil || d.Withdraw(name) == nil {
			t.Errorf("name %q was taken", name)
		}
	}
	if err := d.Invite(Invitation{Node: "pve1"}); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(d.folder(), "pve1.json"))
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{"another node's": string(raw), "cut": "{", "another version's": `{"format":2,"node":"pve9"}`} {
		if err := os.WriteFile(filepath.Join(d.folder(), "pve9.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Invitation("pve9"); err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "pve9.json") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := os.Chmod(filepath.Join(string(d), "priv"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := d.Invite(Invitation{Node: "pve2"}); err == nil || !strings.Contains(err.Error(), "0750") {
		t.Errorf("a folder that others may read: %v", err)
	}
	if _, err := d.Invitation("pve2"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it was written all the same: %v", err)
	}
}
