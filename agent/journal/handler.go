package journal

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"maps"
	"strings"
	"sync"

	native "github.com/coreos/go-systemd/v22/journal"
)

// maxMessageBytes is the longest line: a datagram to the journal must not need a file of its own.
const maxMessageBytes = 32 << 10

// send gives one entry to the journal (native.Send).
type send func(message string, priority native.Priority, fields map[string]string) error

// Connected reports whether stderr is connected to the systemd journal (systemd.exec(5),
// JOURNAL_STREAM).
func Connected() bool {
	yes, err := native.StderrIsJournalStream()
	return err == nil && yes
}

// New returns a handler that sends to the journal when Connected, and else writes text to w. Lines
// below level are left out, and those that repeat more often than their event may.
func New(w io.Writer, level slog.Leveler) slog.Handler {
	if Connected() {
		return newHandler(w, level, native.Send)
	}
	return newHandler(w, level, nil)
}

// handler gives records to the journal, or writes them as text.
type handler struct {
	out     *output
	text    slog.Handler // lays a record out in out.buf
	fields  fields       // of the attributes given by With
	grouped bool         // attributes that come now are in a group: none is a field
}

// output is what all handlers that come from one New share.
type output struct {
	events map[string]Event
	send   send // nil: text to w

	mu    sync.Mutex // guards below
	w     io.Writer
	buf   bytes.Buffer
	limit limiter
}

func newHandler(w io.Writer, level slog.Leveler, send send) *handler {
	o := &output{events: table(), send: send, w: w, limit: limiter{seen: map[string]*repetition{}}}
	opt := &slog.HandlerOptions{Level: level}
	if send != nil {
		opt.ReplaceAttr = withoutFields
	}
	return &handler{out: o, text: slog.NewTextHandler(&o.buf, opt), fields: fields{}}
}

// withoutFields drops what the journal keeps in fields of its own and shows by itself: time,
// priority, the message, the event's name and this node's.
func withoutFields(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	switch a.Key {
	case slog.TimeKey, slog.LevelKey, slog.MessageKey, "event", "node":
		return slog.Attr{}
	}
	return a
}

// Enabled is slog.Handler's.
func (h *handler) Enabled(ctx context.Context, l slog.Level) bool { return h.text.Enabled(ctx, l) }

// WithAttrs is slog.Handler's.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	next.text = h.text.WithAttrs(attrs)
	if !h.grouped {
		next.fields = maps.Clone(h.fields)
		for _, a := range attrs {
			next.fields.take(a)
		}
	}
	return &next
}

// WithGroup is slog.Handler's.
func (h *handler) WithGroup(name string) slog.Handler {
	next := *h
	next.text = h.text.WithGroup(name)
	next.grouped = h.grouped || name != ""
	return &next
}

// Handle is slog.Handler's.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	f := h.fields
	if !h.grouped {
		f = maps.Clone(f)
		r.Attrs(func(a slog.Attr) bool {
			f.take(a)
			return true
		})
	}
	o := h.out
	event, known := o.events[f["TRINAS_EVENT"]]
	o.mu.Lock()
	defer o.mu.Unlock()
	if known && event.Every > 0 {
		leftOut, show := o.limit.pass(f.object(), r.Time, event.Every)
		if !show {
			return nil
		}
		if leftOut > 0 {
			r = r.Clone()
			r.AddAttrs(slog.Int("left_out", leftOut))
		}
	}
	o.buf.Reset()
	if err := h.text.Handle(ctx, r); err != nil {
		return err
	}
	if o.send == nil {
		_, err := o.w.Write(o.buf.Bytes())
		return err
	}
	message := r.Message
	if attrs := strings.TrimSpace(o.buf.String()); attrs != "" {
		message += " " + attrs
	}
	message = message[:min(len(message), maxMessageBytes)]
	f["SYSLOG_IDENTIFIER"] = "trinas"
	if known {
		f["MESSAGE_ID"] = event.ID
	}
	if err := o.send(message, priority(r.Level), f); err != nil {
		_, err := io.WriteString(o.w, message+"\n")
		return err
	}
	return nil
}

// fields are an entry's fields in the journal, by name.
type fields map[string]string

// take keeps an attribute that is a field.
func (f fields) take(a slog.Attr) {
	switch a.Key {
	case "event", "volume", "node", "peer":
		f["TRINAS_"+strings.ToUpper(a.Key)] = a.Value.Resolve().String()
	}
}

// object names what an entry is about, for the limiter.
func (f fields) object() string {
	return f["TRINAS_EVENT"] + "\x00" + f["TRINAS_VOLUME"] + "\x00" + f["TRINAS_PEER"]
}

// priority is the journal's word for a level (syslog(3)).
func priority(l slog.Level) native.Priority {
	switch {
	case l >= slog.LevelError:
		return native.PriErr
	case l >= slog.LevelWarn:
		return native.PriWarning
	case l >= slog.LevelInfo:
		return native.PriInfo
	}
	return native.PriDebug
}
