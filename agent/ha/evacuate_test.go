package ha

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"trinas/replica"
)

// What the configuration says by default.
const (
	evacuateAfter = 30 * time.Second
	returnAfter   = 10 * time.Minute
)

// command is a stand-in for ha-manager: it notes its words, a line a call, and fails while a file "broken" is
// beside it.
func command(t *testing.T) (path string, calls func() string) {
	t.Helper()
	dir := t.TempDir()
	path = filepath.Join(dir, "ha-manager")
	script := "#!/bin/sh\necho \"$@\" >>" + dir + "/calls\n[ ! -e " + dir + "/broken ] || { echo no quorum; exit 2; }\n"
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path, func() string {
		b, _ := os.ReadFile(filepath.Join(dir, "calls")) // none yet: no calls
		return string(b)
	}
}

// rig is an Evacuator with its surroundings; time is told to it.
type rig struct {
	*Evacuator
	t       *testing.T
	now     time.Time
	summary replica.Summary
	calls   func() string
	log     bytes.Buffer
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, now: time.Unix(1800000000, 0), summary: replica.Summary{Connected: 3, Nodes: 3}}
	path, calls := command(t)
	r.calls = calls
	r.Evacuator = &Evacuator{Node: "pve1", Dir: tree(t), Look: func() replica.Summary { return r.summary },
		After: evacuateAfter, Return: returnAfter, Command: path, Log: slog.New(slog.NewTextHandler(&r.log, nil))}
	return r
}

// pass lets time pass, with a look every evacuateEvery, and returns the calls of all times.
func (r *rig) pass(d time.Duration) string {
	for end := r.now.Add(d); r.now.Before(end); r.now = r.now.Add(evacuateEvery) {
		r.complain(r.t.Context(), r.step(r.t.Context(), r.now))
	}
	return r.calls()
}

// manager has HA take the node for what is given.
func (r *rig) manager(state string) {
	change(r.t, r.Dir, "ha/manager_status", `{"node_status":{"pve1":"`+state+`"}}`)
}

const (
	enabled  = "crm-command node-maintenance enable pve1\n"
	disabled = "crm-command node-maintenance disable pve1\n"
)

// Goal: the node is evacuated once it was degraded for a while, and comes back once it was well for a
// longer while, not sooner, and also when the agent was started anew meanwhile.
func TestEvacuator(t *testing.T) {
	r := newRig(t)
	if got := r.pass(time.Hour); got != "" {
		t.Fatalf("well: %s", got)
	}
	r.summary.LogSlow = true
	if got := r.pass(evacuateAfter - evacuateEvery); got != "" {
		t.Errorf("slow for a moment: %s", got)
	}
	r.summary.LogSlow = false
	r.pass(evacuateEvery)
	r.summary.Failed = []string{"vms"}
	if got := r.pass(evacuateAfter); got != "" {
		t.Errorf("failed, but not for long: %s", got)
	}
	if got := r.pass(2 * evacuateEvery); got != enabled {
		t.Errorf("degraded: %q", got)
	}
	if !strings.Contains(r.log.String(), "event=ha-evacuated") || !strings.Contains(r.log.String(), "out of service: vms") {
		t.Errorf("log: %s", r.log.String())
	}
	r.manager("maintenance")
	if got := r.pass(time.Hour); got != enabled {
		t.Errorf("in maintenance: %q", got)
	}
	again := *r.Evacuator
	again.bad, again.well, again.tried = time.Time{}, time.Time{}, time.Time{}
	r.Evacuator = &again
	r.summary.Failed, r.summary.Resyncs = nil, []replica.Resync{{Volume: "vms"}}
	if got := r.pass(time.Hour); got != enabled {
		t.Errorf("being brought up to date: %q", got)
	}
	r.summary.Resyncs = nil
	if got := r.pass(returnAfter); got != enabled {
		t.Errorf("well, but not for long: %q", got)
	}
	if got := r.pass(time.Hour); got != enabled+disabled {
		t.Errorf("well: %q", got)
	}
	if strings.Count(r.log.String(), "event=") != 2 {
		t.Errorf("log: %s", r.log.String())
	}
}

// Goal: a mode that an admin has begun is the admin's; where HA is not used, or this node is cut off, nothing is
// done.
func TestEvacuator_LeavesAlone(t *testing.T) {
	r := newRig(t)
	r.summary.LogSlow = true
	r.manager("maintenance")
	r.pass(time.Hour)
	r.summary.LogSlow = false
	if got := r.pass(time.Hour); got != "" {
		t.Errorf("an admin's: %s", got)
	}
	change(t, r.Dir, "ha/manager_status", "")
	r.summary.LogSlow = true
	if got := r.pass(time.Hour); got != "" {
		t.Errorf("HA is not used: %s", got)
	}
	r.manager("online")
	r.summary.Connected = 1
	if got := r.pass(time.Hour); got != "" {
		t.Errorf("cut off: %s", got)
	}
}

// Goal: a command that fails is tried again, seldom, told once, and has not evacuated.
func TestEvacuator_CommandFails(t *testing.T) {
	r := newRig(t)
	broken := filepath.Join(filepath.Dir(r.Command), "broken")
	if err := os.WriteFile(broken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.summary.LogSlow = true
	if n := strings.Count(r.pass(10*time.Minute), enabled); n < 9 || n > 10 {
		t.Errorf("tried %d times in ten minutes", n)
	}
	if log := r.log.String(); strings.Contains(log, "ha-evacuated") || !strings.Contains(log, "no quorum") {
		t.Errorf("log: %s", log)
	}
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	before := strings.Count(r.calls(), enabled)
	r.pass(2 * evacuateAgain)
	if n := strings.Count(r.calls(), enabled) - before; n == 0 {
		t.Error("not tried again")
	}
	if !strings.Contains(r.log.String(), "ha-evacuated") {
		t.Errorf("log: %s", r.log.String())
	}
}
