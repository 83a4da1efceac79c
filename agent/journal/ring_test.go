package journal

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Goal: a ring has what names an event, with its fields and how long it lasted; what repeats as often as
// the log shows it; nothing without an event; and lines go on to the next handler as its level says.
func TestRing_Entries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring := NewRing("")
		var sent strings.Builder
		log := slog.New(ring.Over(slog.NewTextHandler(&sent, &slog.HandlerOptions{Level: slog.LevelWarn})))
		log.Info("waits", "event", "agent-waiting")
		ring.Name("n1")
		node := log.With("node", "n1")
		node.Warn("connection lost", "event", "peer-down", "peer", "n2", "refused", true)
		time.Sleep(3 * time.Second)
		node.Info("connected", "event", "peer-up", "peer", "n2")
		node.With("volume", "vm").Info("primary changed", "event", "primary", "primary", "n2", "took", 250*time.Millisecond)
		node.Info("no event at all")
		node.Debug("debug", "event", "primary")
		for range 10 {
			node.Warn("refused", "event", "operation-refused", "volume", "vm")
		}
		var got []string
		for _, e := range ring.Since(time.Time{}) {
			got = append(got, fmt.Sprintf("%s %s %s%s %s %v %s", e.Node, e.Event, e.Volume, e.Peer, e.Level, e.Details, e.Took))
		}
		want := []string{
			"n1 agent-waiting  info map[] 0s",
			"n1 peer-down n2 warning map[refused:true] 0s",
			"n1 peer-up n2 info map[] 3s",
			"n1 primary vm info map[primary:n2] 250ms",
			"n1 operation-refused vm warning map[] 0s",
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if text := sent.String(); strings.Contains(text, "waits") || strings.Count(text, "refused") < 10 {
			t.Errorf("next handler got\n%s", text)
		}
	})
}

// Goal: a ring is bounded, in order and with IDs of their own whatever the clock does.
func TestRing_Bounds(t *testing.T) {
	ring := NewRing("n1")
	now := time.Unix(1e9, 0)
	ids := map[string]bool{}
	for i := range 3 * MaxKept {
		ring.add(Entry{Event: "primary", Volume: fmt.Sprint(i), Time: now.Add(-time.Duration(i) * time.Second)})
	}
	all := ring.Since(time.Time{})
	for i, e := range all {
		ids[e.ID] = true
		if i > 0 && !e.Time.After(all[i-1].Time) {
			t.Fatalf("entry %d is not after the one before", i)
		}
	}
	if len(all) > MaxKept || len(all) < MaxKept/2 || len(ids) != len(all) || all[len(all)-1].Volume != fmt.Sprint(3*MaxKept-1) {
		t.Errorf("%d entries, %d ids, the last %s", len(all), len(ids), all[len(all)-1].Volume)
	}
	if len(ring.begun) > MaxKept {
		t.Errorf("it remembers %d beginnings", len(ring.begun))
	}
}

// Goal: entries are there after a restart, also with a last line cut short, what began before it is
// known, and the files are bounded.
func TestRing_Kept(t *testing.T) {
	dir := t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	ring := NewRing("n1")
	ended := make(chan error, 1)
	go func() { ended <- ring.Keep(ctx, dir) }()
	path := filepath.Join(dir, keptName)
	await := func(what string, holds func(string) bool) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			b, _ := os.ReadFile(path)
			if holds(string(b)) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("no %s in time", what)
			}
		}
	}
	await("file", func(string) bool {
		_, err := os.Stat(path)
		return err == nil
	})
	for i := range 3000 {
		ring.add(Entry{Event: "primary", Volume: fmt.Sprint("v", i), Time: time.Now(), Details: map[string]string{"x": strings.Repeat("y", 200)}})
		if i%100 == 0 { // no more than wait for the disk
			await("line", func(text string) bool { return strings.Contains(text, fmt.Sprintf(`"v%d"`, i)) })
		}
	}
	ring.add(Entry{Event: "agent-stopping", Time: time.Now()})
	await("last line", func(text string) bool { return strings.Contains(text, "agent-stopping") })
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for _, name := range KeptNames() {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() > maxKeptBytes+4096 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(f, `{"id":"cut sho`)
	f.Close()

	again := NewRing("n1")
	again.add(Entry{Event: "agent-waiting", Time: time.Now()})
	again.Load(dir)
	again.add(Entry{Event: "agent-ready", Time: time.Now().Add(time.Minute)})
	all := again.Since(time.Time{})
	n := len(all)
	if n < 500 || all[n-3].Event != "agent-stopping" || all[n-2].Event != "agent-waiting" || all[n-1].Took < time.Minute {
		t.Errorf("%d entries, the last: %+v", n, all[max(0, n-3):])
	}
}
