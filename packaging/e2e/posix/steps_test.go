package main

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Goal: a step fails when the call gives anything but what the step says: checks cannot pass by
// accident.
func TestStep(t *testing.T) {
	t.Chdir(t.TempDir())
	w := &world{held: map[string]int{}, marks: map[string]unix.Stat_t{}}
	defer w.close()
	tests := []struct {
		step string
		want string // in the error; "": the step holds
	}{
		{`create f 640`, ""},
		{`create f = EEXIST`, ""},
		{`create f`, `got "EEXIST", want "success"`},
		{`open f O_RDONLY = ENOENT`, `got "", want "ENOENT"`},
		{`write f abc`, ""},
		{`read f = abc`, ""},
		{`read f = abd`, `want "abd"`},
		{`read f = ""`, `got "abc"`},
		{`stat f = type=file size=3 mode=640`, ""},
		{`stat f = type=file size=4`, `want "type=file size=4"`},
		{`stat nothing = type=file`, `got "ENOENT"`},
		{`create {x*256} = ENAMETOOLONG`, ""},
		{`create \x01`, ""},
		{`list . = ` + `\x01 f`, ""},
		{`list . = f`, `want "f"`},
		{`list .`, `want "success"`},
		{`link f g`, ""},
		{`same f g = true`, ""},
		{`same f \x01 = true`, `got "false"`},
		{`fread nobody 0 1 = EBADF`, ""},
		{`sing f`, `unknown call "sing"`},
	}
	for _, tt := range tests {
		err := w.step(tt.step)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.step, err, tt.want)
		}
	}
}

// Goal: "as" takes the rights of one thread, and this process keeps its own.
func TestStep_As(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir, err := os.MkdirTemp("/tmp", "posix-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	t.Chdir(dir)
	w := &world{}
	for _, step := range []string{
		"chmod . 755", "as 1000:1000 create f = EACCES", "chmod . 777", "as 1000:1001,7 create f",
		"stat f = uid=1000 gid=1001", "as 1000:1001 chown f -1 7 = EPERM", "as 1000:1001,7 chown f -1 7", "chown f 0 0",
	} {
		if err := w.step(step); err != nil {
			t.Errorf("%s: %v", step, err)
		}
	}
	if os.Geteuid() != 0 {
		t.Error("the rights stayed changed")
	}
}

// Goal: every text is read, and no step of one is lost.
func TestLoad(t *testing.T) {
	for _, nfs := range []bool{false, true} {
		checks, err := load(nfs)
		if err != nil {
			t.Fatal(err)
		}
		if len(checks) < 80 {
			t.Errorf("%d checks only", len(checks))
		}
		seen := map[string]bool{}
		for _, c := range checks {
			if seen[c.name] {
				t.Errorf("two checks are called %s", c.name)
			}
			seen[c.name] = true
		}
	}
}
