package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Goal: whatever a call leaves behind when it is carried out again shows.
func TestState(t *testing.T) {
	tests := []struct {
		name   string
		change func(dir string) error
		want   string // in brief, afterwards
	}{
		{"a file more", func(dir string) error { return os.WriteFile(dir+"/new", nil, 0o644) }, "empty/ new= old=before"},
		{"a folder more", func(dir string) error { return os.Mkdir(dir+"/new", 0o755) }, "empty/ new/ old=before"},
		{"a link more", func(dir string) error { return os.Link(dir+"/old", dir+"/new") }, "empty/ new=before(2) old=before(2)"},
		{"a symlink more", func(dir string) error { return os.Symlink("target", dir+"/new") }, "empty/ new->target old=before"},
		{"a file less", func(dir string) error { return os.Remove(dir + "/old") }, "empty/"},
		{"other bytes", func(dir string) error { return os.WriteFile(dir+"/old", []byte("after!"), 0o644) }, "empty/ old=after!"},
		{"another mode", func(dir string) error { return os.Chmod(dir+"/old", 0o600) }, "empty/ old=before"},
		{"another time", func(dir string) error { return os.Chtimes(dir+"/old", time.Time{}, time.Unix(1, 0)) }, "empty/ old=before"},
		{"made anew", func(dir string) error { return errors.Join(os.Remove(dir+"/empty"), os.Mkdir(dir+"/empty", 0o755)) }, "empty/ old=before"},
	}
	for _, tt := range tests {
		dir := filepath.Join(t.TempDir(), "folder")
		if err := furnish(dir); err != nil {
			t.Fatal(err)
		}
		before := see(dir)
		if before.String() != "empty/ old=before" || see(dir).differs(before, false) != "" {
			t.Fatalf("%s: at first: %q, %s", tt.name, before, see(dir).differs(before, false))
		}
		if err := tt.change(dir); err != nil {
			t.Fatal(err)
		}
		if now := see(dir); now.String() != tt.want || now.differs(before, false) == "" {
			t.Errorf("%s: %q, want %q; differs: %q", tt.name, now, tt.want, now.differs(before, false))
		}
	}
	if s := see("/nothing/there"); s.differs(s, false) == "" {
		t.Error("a folder that is not there is as it was")
	}
}

// Goal: what the client's own SETATTR changes does not count where it sends one, and only there.
func TestState_Settled(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "new")
	if err := os.WriteFile(path, nil, 0); err != nil {
		t.Fatal(err)
	}
	before := see(dir)
	if err := errors.Join(os.Chmod(path, 0o644), os.Chtimes(path, time.Time{}, time.Unix(1, 0))); err != nil {
		t.Fatal(err)
	}
	if diff := see(dir).differs(before, true); diff != "" {
		t.Error(diff)
	}
	if see(dir).differs(before, false) == "" {
		t.Error("another mode and time do not show")
	}
}

// Goal: only a reply that was lost and whose call came again, both with OK, passes.
func TestSentAgain(t *testing.T) {
	const answer = "MKDIR 0 1 0\nREMOVE 0 1 2\nLINK 0 0 0\nCREATE 17 1 17\nCREATE/GUARDED 0 2 0"
	for call, want := range map[string]bool{"MKDIR": true, "CREATE/GUARDED": true,
		"REMOVE": false, "LINK": false, "CREATE": false, "RMDIR": false} {
		if err := sentAgain(answer, call); (err == nil) != want {
			t.Errorf("%s: %v", call, err)
		}
	}
}
