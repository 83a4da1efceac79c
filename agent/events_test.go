package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"trinas/agent/control"
	"trinas/agent/journal"
)

// Goal: what several nodes tell of one thing is one line, what each tells of itself is not, and lines
// are in order whoever told them first.
func TestEvents_Merge(t *testing.T) {
	at := func(ms int) time.Time { return time.Unix(1000, 0).UTC().Add(time.Duration(ms) * time.Millisecond) }
	entry := func(ms int, node, event, peer string, took time.Duration, details ...string) journal.Entry {
		e := journal.Entry{ID: node + at(ms).String(), Time: at(ms), Node: node, Event: event, Peer: peer, Took: took,
			Level: "info", Text: "text", Details: map[string]string{}}
		for i := 0; i+1 < len(details); i += 2 {
			e.Details[details[i]] = details[i+1]
		}
		return e
	}
	merged := mergeEvents([]journal.Entry{
		entry(10, "n1", "primary", "", 200*time.Millisecond, "primary", "n2", "term", "5"),
		entry(400, "n1", "primary", "", 0, "primary", "n3", "term", "6"),
		entry(8000, "n1", "peer-down", "n3", 0),
		entry(0, "n2", "primary", "", 300*time.Millisecond, "primary", "n2", "term", "5"),
		entry(5, "n2", "resync-begin", "", 0),
		entry(20, "n2", "peer-down", "n3", 0),
		entry(390, "n2", "primary", "", 0, "primary", "n3", "term", "6"),
		entry(6, "n3", "resync-begin", "", 0),
	})
	var got []string
	for _, e := range merged {
		got = append(got, strings.Join(e.Nodes, ",")+" "+e.Event+" "+e.Details["term"]+" "+e.Took.String())
	}
	want := "n2,n1 primary 5 300ms|n2 resync-begin  0s|n3 resync-begin  0s|n2 peer-down  0s|n2,n1 primary 6 0s|n1 peer-down  0s"
	if strings.Join(got, "|") != want {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "|"), want)
	}
	if text := eventsText(merged); !strings.Contains(text, "text primary=n2 term=5 took=300ms") || !strings.Contains(text, "node=n3") {
		t.Errorf("text:\n%s", text)
	}
}

// Goal: --follow shows each event once, also when another node tells it later, or its entry comes late.
func TestEvents_Follow(t *testing.T) {
	var out bytes.Buffer
	c := &cli{out: &out}
	event := func(text string, ids ...string) control.Event {
		return control.Event{Entry: journal.Entry{Time: time.Unix(1000, 0), Text: text}, IDs: ids}
	}
	shown := map[string]time.Time{}
	for _, look := range [][]control.Event{
		{event("one", "a")},
		{event("one", "a", "b"), event("two", "c")},
		{event("late", "d"), event("one", "b", "a"), event("two", "c")},
	} {
		if err := c.showNew(look, shown); err != nil {
			t.Fatal(err)
		}
	}
	for text, want := range map[string]int{"one": 1, "two": 1, "late": 1} {
		if got := strings.Count(out.String(), text); got != want {
			t.Errorf("%q is shown %d times", text, got)
		}
	}
}

func TestEvents_Since(t *testing.T) {
	now := time.Unix(1e9, 0)
	for text, want := range map[string]time.Time{"90s": now.Add(-90 * time.Second), "2001-09-09T01:46:40Z": now} {
		if got, err := sinceTime(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	for _, bad := range []string{"yesterday", "-5m", ""} {
		if _, err := sinceTime(bad, now); err == nil || !strings.Contains(err.Error(), "--since") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
