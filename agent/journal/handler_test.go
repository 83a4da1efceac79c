package journal

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	native "github.com/coreos/go-systemd/v22/journal"
)

// entry is what the journal was given.
type entry struct {
	message  string
	priority native.Priority
	fields   map[string]string
}

// journaled returns a logger and the entries that it has sent.
func journaled(level slog.Level) (*slog.Logger, *[]entry) {
	var sent []entry
	h := newHandler(&bytes.Buffer{}, level, func(message string, priority native.Priority, fields map[string]string) error {
		sent = append(sent, entry{message, priority, fields})
		return nil
	})
	return slog.New(h), &sent
}

// Goal: a line arrives with the fields of the design, wherever its attributes were given.
func TestHandler_Fields(t *testing.T) {
	log, sent := journaled(slog.LevelInfo)
	node := log.With("node", "n1")
	node.With("volume", "vms").Info("primary changed", "event", "primary", "primary", "n2", "term", 5)
	node.Warn("connection lost", "event", "peer-down", "peer", "n3")
	node.Error("it broke", "event", "log-failed", "err", errors.New("input/output error"))
	node.Debug("not shown")
	want := []entry{
		{"primary changed volume=vms primary=n2 term=5", native.PriInfo, map[string]string{"TRINAS_EVENT": "primary",
			"TRINAS_VOLUME": "vms", "TRINAS_NODE": "n1", "MESSAGE_ID": table()["primary"].ID, "SYSLOG_IDENTIFIER": "trinas"}},
		{"connection lost peer=n3", native.PriWarning, map[string]string{"TRINAS_EVENT": "peer-down",
			"TRINAS_PEER": "n3", "TRINAS_NODE": "n1", "MESSAGE_ID": table()["peer-down"].ID, "SYSLOG_IDENTIFIER": "trinas"}},
		{`it broke err="input/output error"`, native.PriErr, map[string]string{"TRINAS_EVENT": "log-failed",
			"TRINAS_NODE": "n1", "MESSAGE_ID": table()["log-failed"].ID, "SYSLOG_IDENTIFIER": "trinas"}},
	}
	if got := fmt.Sprint(*sent); got != fmt.Sprint(want) {
		t.Errorf("got\n%v\nwant\n%v", got, fmt.Sprint(want))
	}
}

// Goal: a group's attributes are no fields, and a long line stays within its bound.
func TestHandler_Odd(t *testing.T) {
	log, sent := journaled(slog.LevelDebug)
	log.WithGroup("g").Debug("x", "volume", "vms")
	log.Info("long", "cause", strings.Repeat("y", 2*maxMessageBytes))
	if e := (*sent)[0]; e.message != "x g.volume=vms" || e.fields["TRINAS_VOLUME"] != "" || e.priority != native.PriDebug {
		t.Errorf("got %+v", e)
	}
	if n := len((*sent)[1].message); n != maxMessageBytes {
		t.Errorf("%d bytes", n)
	}
}

// Goal: without a journal, or with one that takes nothing, no line is lost: it is text.
func TestHandler_Text(t *testing.T) {
	var out bytes.Buffer
	slog.New(newHandler(&out, slog.LevelInfo, nil)).Info("primary changed", "event", "primary", "volume", "vms")
	if got := out.String(); !strings.HasPrefix(got, "time=") ||
		!strings.HasSuffix(got, ` level=INFO msg="primary changed" event=primary volume=vms`+"\n") {
		t.Errorf("text: %q", got)
	}
	out.Reset()
	dead := func(string, native.Priority, map[string]string) error { return errors.New("nobody listens") }
	slog.New(newHandler(&out, slog.LevelInfo, dead)).Info("primary changed", "event", "primary", "volume", "vms")
	if got := out.String(); got != "primary changed volume=vms\n" {
		t.Errorf("journal gone: %q", got)
	}
}

// Goal: stderr that is not the journal's is not taken for it.
func TestConnected(t *testing.T) {
	t.Setenv("JOURNAL_STREAM", "1:1")
	if Connected() {
		t.Error("a stream that is not stderr")
	}
}

// Goal: a line that may repeat is shown once per object and time, and says how many were left out;
// another object's, and other events', are shown. Method: virtual time.
func TestHandler_Repeated(t *testing.T) {
	every := table()["operation-refused"].Every
	if every == 0 {
		t.Fatal("operation-refused has no limit: take another event")
	}
	synctest.Test(t, func(t *testing.T) {
		log, sent := journaled(slog.LevelInfo)
		refused := func(volume string) { log.Warn("refused", "event", "operation-refused", "volume", volume) }
		for range 1000 {
			refused("a")
			refused("b")
		}
		log.Info("up", "event", "peer-up")
		log.Info("up", "event", "peer-up")
		time.Sleep(every)
		refused("a")
		time.Sleep(every)
		refused("a")
		var got []string
		for _, e := range *sent {
			got = append(got, e.message)
		}
		want := []string{"refused volume=a", "refused volume=b", "up", "up", "refused volume=a left_out=999", "refused volume=a"}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("got %q", got)
		}
	})
}

// Goal: the limiter's memory is bounded, and a clock that is set back silences nothing.
func TestLimiter_Bounds(t *testing.T) {
	l := limiter{seen: map[string]*repetition{}}
	now := time.Unix(1e9, 0)
	for i := range 10 * maxObjects {
		if _, show := l.pass(fmt.Sprint(i), now, time.Minute); !show {
			t.Fatalf("object %d was left out", i)
		}
	}
	if len(l.seen) > maxObjects {
		t.Errorf("it remembers %d objects", len(l.seen))
	}
	if _, show := l.pass(fmt.Sprint(10*maxObjects-1), now.Add(-time.Hour), time.Minute); !show {
		t.Error("left out after the clock was set back")
	}
}
