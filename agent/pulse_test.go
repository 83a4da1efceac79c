package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"trinas/agent/config"
	"trinas/agent/control"
	"trinas/agent/datadir"
	"trinas/replica"
	"trinas/replica/disk"
)

// Goal: a loop that is at work and makes no step in stuckAfter hangs; one that idles, or goes on, or
// was looked at once after a long pause of the process, does not.
func TestPulse_Hung(t *testing.T) {
	p := &pulse{stuckAfter: 3 * beatEvery}
	look := func(logSteps uint64, logBusy bool, volumeSteps uint64) string {
		return fmt.Sprint(p.hung([]replica.Vital{
			{Name: replica.LogVital, Steps: logSteps, Busy: logBusy}, {Name: "volume vms", Steps: volumeSteps, Busy: true}}))
	}
	for i, step := range []struct {
		steps  uint64
		busy   bool
		volume uint64
		want   string
	}{
		{7, true, 1, "[]"}, {7, true, 2, "[]"}, {7, true, 3, "[]"}, // three looks: two of them still
		{8, true, 4, "[]"}, {8, true, 5, "[]"}, {8, true, 6, "[]"}, {8, true, 7, "[log]"}, {8, true, 8, "[log]"},
		{9, true, 9, "[]"}, {9, false, 10, "[]"}, {9, false, 11, "[]"}, {9, false, 12, "[]"}, {9, false, 13, "[]"}, // idle
		{9, true, 13, "[]"}, {9, true, 13, "[]"}, {9, true, 13, "[log volume vms]"}, {10, true, 13, "[volume vms]"},
		{10, true, 14, "[]"},
	} {
		if got := look(step.steps, step.busy, step.volume); got != step.want {
			t.Errorf("look %d: %s hangs, want %s", i, got, step.want)
		}
	}
}

func TestStatusLine(t *testing.T) {
	s := replica.Summary{Primary: []string{"a", "b"}, Secondary: []string{"c"}, Connected: 3, Nodes: 3}
	if got, want := statusLine(s, nil), "primary of 2, secondary of 1 volumes; 3 of 3 nodes connected"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	s.Alone, s.Failed, s.Resyncs, s.Connected = []string{"d"}, []string{"e"}, []replica.Resync{{Volume: "c", Percent: 41}}, 2
	want := "does not go on: log; replica failed: e; no primary: d; resync of c: 41%; primary of 2, secondary of 1 volumes; 2 of 3 nodes connected"
	if got := statusLine(s, []string{"log"}); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Goal: an agent whose log hangs ends by itself, with an error that says so, and does not wait for
// the disk. Method: a disk that never answers a write of the log any more.
func TestDaemon_LogHangs(t *testing.T) {
	c := testConfig(t)
	c.Log.StuckAfter = config.Duration(2 * time.Second)
	mem := disk.NewMem(1)
	var frozen atomic.Bool
	forever := make(chan struct{})
	mem.OnOp(func(op, name string, off, n int64) error {
		if frozen.Load() && op == "writesync" && strings.HasSuffix(name, ".wal") {
			<-forever
		}
		return nil
	})
	d := newDaemon(c, "", slog.New(slog.DiscardHandler))
	d.files = mem.FS()
	ended := make(chan error, 1)
	go func() { ended <- d.Run(t.Context()) }()
	client := control.NewClient(c.Control.Socket)
	defer client.Close()
	waitFor(t, client, "an agent", inState(control.Waiting))
	if _, err := client.Init(t.Context(), "lab", ""); err != nil {
		t.Fatal(err)
	}
	waitFor(t, client, "a primary", func(st control.Status) bool { return st.Status != nil && st.Cluster.Primary != "" })

	frozen.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { _, _ = client.Token(ctx) }() // something to write; it gets no answer
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "the disk under the data directory hangs") {
			t.Errorf("the agent ended: %v", err)
		}
	case <-time.After(15 * time.Second):
		t.Fatal("the agent goes on")
	}
	if lock, err := datadir.Exclusive(c.DataDir); !errors.Is(err, datadir.ErrInUse) {
		t.Errorf("another agent could have the data directory: %v, %v", lock, err)
	}

	// A stop meanwhile does not wait for the disk for ever, and keeps the lock as well.
	d.hung = false
	ctx, cancelStop := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancelStop()
	if err := d.stopNode(ctx); err == nil || !strings.Contains(err.Error(), "did not stop") || !d.hung {
		t.Errorf("stop of a node that hangs: %v", err)
	}

	// Let go of what hangs, and close what the process's end would have.
	frozen.Store(false)
	close(forever)
	d.hung = false
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}
