package journal

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// MaxKept is how many entries a Ring keeps.
const MaxKept = 1024

// Entry is something that has happened, as a node tells it: a line of its log of Info or above that
// names an event.
type Entry struct {
	// ID is the entry's own among all of the cluster's: the node and the time.
	ID      string            `json:"id"`
	Time    time.Time         `json:"time"` // by that node's clock
	Node    string            `json:"node"`
	Event   string            `json:"event"`
	Level   string            `json:"level"` // LevelText
	Volume  string            `json:"volume,omitempty"`
	Peer    string            `json:"peer,omitempty"`
	Text    string            `json:"text"`
	Details map[string]string `json:"details,omitempty"` // the line's other attributes
	// Took is how long it took, or how long what it ends has lasted; 0: unknown, or it takes no time.
	Took time.Duration `json:"took_ns,omitempty"`
}

// Ring keeps the newest entries in memory, of all loggers of its handler. It never waits for a disk.
type Ring struct {
	events map[string]Event

	mu      sync.Mutex // guards below
	node    string
	entries []Entry              // in order; MaxKept at most
	begun   map[string]time.Time // what an entry may end, by event and object; MaxKept at most
	limit   limiter
	kept    chan Entry // for Keep; nil: nobody
}

// NewRing returns an empty ring. node "": Name tells it.
func NewRing(node string) *Ring {
	return &Ring{events: table(), node: node, begun: map[string]time.Time{}, limit: limiter{seen: map[string]*repetition{}}}
}

// Name says which node this is.
func (r *Ring) Name(node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.node = node
}

// Since returns the entries after a moment, in order.
func (r *Ring) Since(t time.Time) []Entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Entry
	for _, e := range r.entries {
		if e.Time.After(t) {
			if e.Node == "" { // from before the node had a name
				e.Node = r.node
			}
			out = append(out, e)
		}
	}
	return out
}

// Over returns a handler that puts what happens into the ring, and hands every line on to next.
func (r *Ring) Over(next slog.Handler) slog.Handler { return &ringHandler{ring: r, next: next} }

// ringHandler is a logger's way into a Ring.
type ringHandler struct {
	ring    *Ring
	next    slog.Handler
	attrs   []slog.Attr
	grouped bool
}

// Enabled is slog.Handler's: a ring also takes what log_level leaves out.
func (h *ringHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelInfo || h.next.Enabled(ctx, l)
}

// WithAttrs is slog.Handler's.
func (h *ringHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	next.next = h.next.WithAttrs(attrs)
	if !h.grouped {
		next.attrs = append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)
	}
	return &next
}

// WithGroup is slog.Handler's.
func (h *ringHandler) WithGroup(name string) slog.Handler {
	next := *h
	next.next = h.next.WithGroup(name)
	next.grouped = h.grouped || name != ""
	return &next
}

// Handle is slog.Handler's.
func (h *ringHandler) Handle(ctx context.Context, rec slog.Record) error {
	if rec.Level >= slog.LevelInfo && !h.grouped {
		h.ring.add(entryOf(rec, h.attrs))
	}
	if !h.next.Enabled(ctx, rec.Level) {
		return nil
	}
	return h.next.Handle(ctx, rec)
}

// entryOf makes a line an entry.
func entryOf(rec slog.Record, attrs []slog.Attr) Entry {
	e := Entry{Time: rec.Time.Round(0), Level: LevelText(rec.Level), Text: rec.Message}
	take := func(a slog.Attr) bool {
		text := a.Value.Resolve().String()
		switch a.Key {
		case "event":
			e.Event = text
		case "volume":
			e.Volume = text
		case "node":
			e.Node = text
		case "peer":
			e.Peer = text
		case "took":
			if a.Value.Kind() == slog.KindDuration {
				e.Took = a.Value.Duration()
			}
		default:
			if e.Details == nil {
				e.Details = map[string]string{}
			}
			e.Details[a.Key] = text[:min(len(text), maxDetailBytes)]
		}
		return true
	}
	for _, a := range attrs {
		take(a)
	}
	rec.Attrs(take)
	return e
}

// maxDetailBytes bounds an attribute in an entry.
const maxDetailBytes = 1024

// add keeps an entry whose event is in the table, as often as the log shows such a line.
func (r *Ring) add(e Entry) {
	kind, known := r.events[e.Event]
	if !known {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if kind.Every > 0 {
		if _, show := r.limit.pass(strings.Join([]string{e.Event, e.Volume, e.Peer}, "\x00"), e.Time, kind.Every); !show {
			return
		}
	}
	if e.Node == "" {
		e.Node = r.node
	}
	if n := len(r.entries); n > 0 && !e.Time.After(r.entries[n-1].Time) {
		e.Time = r.entries[n-1].Time.Add(1) // in order, and an ID of its own, also when the clock is set back
	}
	e.ID = e.Node + "-" + e.Time.UTC().Format("20060102T150405.000000000")
	r.measure(kind, &e)
	r.keep(e)
	select {
	case r.kept <- e:
	default: // nobody keeps them, or the disk is too slow for them
	}
}

// measure notes when something began, or how long it has lasted. mu is held.
func (r *Ring) measure(kind Event, e *Entry) {
	object := e.Volume + "\x00" + e.Peer
	if len(r.begun) >= MaxKept {
		clear(r.begun)
	}
	r.begun[e.Event+"\x00"+object] = e.Time
	if kind.Ends == "" {
		return
	}
	began := kind.Ends + "\x00" + object
	if at, ok := r.begun[began]; ok && e.Took == 0 {
		e.Took = e.Time.Sub(at).Round(time.Millisecond)
	}
	delete(r.begun, began)
}

// keep puts an entry at the end. mu is held.
func (r *Ring) keep(e Entry) {
	if len(r.entries) >= MaxKept {
		r.entries = append(r.entries[:0], r.entries[MaxKept/8:]...)
	}
	r.entries = append(r.entries, e)
}
