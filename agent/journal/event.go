// Package journal is what the agent says to its admin: the table of all events, and the slog
// handler that sends them to the systemd journal with native fields, or as text to stderr where no
// journal listens. The catalog (journalctl -x) and the manual page trinas-events(7) are written
// from the same table. It must never fail the agent: a line that cannot be sent goes to stderr.
//
// Floor 0: imports nothing of trinas. Packages of all floors name their events by the slog
// attribute "event"; a test compares the names that the sources use with the table.
package journal

import (
	"bytes"
	"fmt"
	"log/slog"
	"time"
)

// Event is a kind of line in the log.
type Event struct {
	// Name is the value of the attribute "event", and of the journal's field TRINAS_EVENT. Programs
	// may rely on it and on ID: they are never changed, and never used for anything else.
	Name string
	// ID is the journal's MESSAGE_ID: 32 lower-case hexadecimal digits (sd-id128(3)).
	ID string
	// Level is how severe it is: Info for what an admin would ask about later, Warn for what may
	// need somebody, Error for what does.
	Level slog.Level
	// Text is the event in one line.
	Text string
	// Meaning says what has happened and what follows from it; Next what to do, "" for nothing.
	Meaning, Next string
	// Every, when not 0: of lines with the same volume and peer at most one in so long is shown. The
	// next one says how many were left out.
	Every time.Duration
	// Ends names the event that this one ends: it has lasted from there.
	Ends string
	// Shared: every node that notices it tells it; it is one thing all the same.
	Shared bool
}

// table returns the events by name.
func table() map[string]Event {
	byName := map[string]Event{}
	for _, e := range Events() {
		byName[e.Name] = e
	}
	return byName
}

// LevelText is a level in the words of trinas-events(7): "info", "warning" or "error".
func LevelText(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "error"
	case l >= slog.LevelWarn:
		return "warning"
	case l >= slog.LevelInfo:
		return "info"
	}
	return "debug"
}

// Catalog is the table as a message catalog: an entry per event, as catalog files have them
// (https://systemd.io/CATALOG).
//
//	-- 32 hexadecimal digits
//	Subject: text
//	Defined-By: trinas
//	Documentation: man:trinas-events(7)
//
//	Meaning, Next.
func Catalog() []byte {
	var b bytes.Buffer
	b.WriteString("# Explains the events of trinas to journalctl -x. Made from the agent's table of events.\n")
	for _, e := range Events() {
		fmt.Fprintf(&b, "\n-- %s\nSubject: %s\nDefined-By: trinas\nDocumentation: man:trinas-events(7)\n\n%s\n",
			e.ID, e.Text, e.Meaning)
		if e.Next != "" {
			fmt.Fprintf(&b, "\nWhat to do: %s\n", e.Next)
		}
	}
	return b.Bytes()
}
