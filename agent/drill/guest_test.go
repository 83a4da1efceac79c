package drill

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fakeProxmox puts programs that stand for Proxmox's, fping and ssh into PATH. Guest 100 runs on n1; a
// migration to n9 fails; while one is under way the guest does not answer.
func fakeProxmox(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, script := range map[string]string{
		"pvesh": `printf '[{"vmid":7,"node":"n3","status":"stopped"},{"vmid":100,"node":"%s","status":"running"}]' "$(cat $D/node)"`,
		"qm": `echo "qm $*" >>$D/log
case "$1" in
guest) printf '[{"ip-addresses":[{"ip-address":"127.0.0.1"},{"ip-address":"fe80::1"}]},{"ip-addresses":[{"ip-address":"192.0.2.7"}]}]' ;;
migrate) test "$3" != n9 || { echo "no such node" >&2; exit 2; }
  touch $D/away; sleep 0.5; echo "$3" >$D/node; rm $D/away ;;
esac`,
		"ha-manager": `echo "ha-manager $*" >>$D/log; echo "$4" >$D/node`,
		"ssh":        `echo "ssh $3" >>$D/log; shift 3; exec "$@"`,
		"fping": `i=0; while :; do test -e $D/away || echo "$4 : [$i], 64 bytes, 0.05 ms (0.05 avg, 0% loss)"
  test -e $D/away && echo "$4 : [$i], timed out"; i=$((i+1)); sleep 0.05; done`,
	} {
		text := "#!/bin/sh\nD=" + dir + "\n" + script + "\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "node"), []byte("n1"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return dir
}

// Goal: a guest is found, pinged all the while, moved by qm migrate or by HA, from the node where it is;
// the time without answers is the migration's, and what fails is said in the program's own words.
// Method: programs that stand for Proxmox's.
func TestGuest(t *testing.T) {
	dir := fakeProxmox(t)
	ctx := t.Context()
	if err := (&Guest{ID: 8}).Start(ctx); err == nil || !strings.Contains(err.Error(), "no guest 8") {
		t.Errorf("no such guest: %v", err)
	}
	if err := (&Guest{ID: 7}).Start(ctx); err == nil || !strings.Contains(err.Error(), "stopped on n3") {
		t.Errorf("a guest that does not run: %v", err)
	}
	g := &Guest{ID: 100}
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := g.Follow(ctx, "n1"); err != nil { // it is there
		t.Error(err)
	}
	if err := g.Follow(ctx, "n2"); err != nil {
		t.Error(err)
	}
	if err := g.Follow(ctx, "n9"); err == nil || !strings.Contains(err.Error(), "no such node") {
		t.Errorf("a failed migration: %v", err)
	}
	g.HA = true
	if err := g.Follow(ctx, "n3"); err != nil {
		t.Error(err)
	}
	r, err := g.Stop()
	if err != nil || r.Address != "192.0.2.7" || r.Pings.Answers == 0 || len(r.Moves) != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	if m := r.Moves[0]; m.From != "n1" || m.To != "n2" || m.Took < 500*time.Millisecond || m.Longest < 400*time.Millisecond || m.Longest > m.Took {
		t.Errorf("move: %+v", m)
	}
	log, err := os.ReadFile(filepath.Join(dir, "log"))
	want := "ssh root@n1\nqm guest cmd 100 network-get-interfaces\nssh root@n1\nqm migrate 100 n2 --online\n" +
		"ssh root@n2\nqm migrate 100 n9 --online\nssh root@n2\nha-manager crm-command relocate vm:100 n3\n"
	if err != nil || string(log) != want {
		t.Errorf("programs: %v\n%s", err, log)
	}
	if text := fmt.Sprint(r.table().rows); !strings.Contains(text, "n1 -> n2") {
		t.Error(text)
	}
}
