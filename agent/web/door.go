package web

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	TokenLife   = 10 * time.Minute
	SessionLife = 12 * time.Hour

	maxTokens   = 16 // that have not been used; the oldest goes
	maxSessions = 64 // the oldest goes
	maxFailures = 5  // of one host, or of all others beyond maxHosts, within failureTime
	maxHosts    = 256
	failureTime = time.Minute
)

// door knows who may enter. Of tokens and sessions it keeps sums only.
type door struct {
	mu       sync.Mutex // guards below
	tokens   []pass
	sessions []pass
	failures map[netip.Prefix]failure
}

type pass struct {
	sum   [sha256.Size]byte
	until time.Time
}

type failure struct {
	count int
	since time.Time
}

func newDoor() *door { return &door{failures: map[netip.Prefix]failure{}} }

// token makes one that is good once.
func (d *door) token(now time.Time) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	text := rand.Text() // 130 bits
	d.tokens = add(d.tokens, text, now.Add(TokenLife), now, maxTokens)
	return text
}

// enter changes a token for a session. A host that has failed too often is refused even with a good one.
func (d *door) enter(remote, token string, now time.Time) (session string, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	host := d.host(remote, now)
	if d.failures[host].count >= maxFailures {
		return "", false
	}
	at := find(d.tokens, token, now)
	if at < 0 {
		f := d.failures[host]
		if f.count == 0 {
			f.since = now
		}
		f.count++
		d.failures[host] = f
		return "", false
	}
	d.tokens = append(d.tokens[:at], d.tokens[at+1:]...)
	session = rand.Text()
	d.sessions = add(d.sessions, session, now.Add(SessionLife), now, maxSessions)
	return session, true
}

// open reports whether a session lasts.
func (d *door) open(session string, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return find(d.sessions, session, now) >= 0
}

// leave ends a session.
func (d *door) leave(session string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if at := find(d.sessions, session, time.Time{}); at >= 0 {
		d.sessions = append(d.sessions[:at], d.sessions[at+1:]...)
	}
}

// host is whose failures count together: an IPv4 address, an IPv6 network of 64 bits, or, when too many
// are known, everybody else. What is over is forgotten. mu is held.
func (d *door) host(remote string, now time.Time) netip.Prefix {
	for h, f := range d.failures {
		if now.Sub(f.since) >= failureTime {
			delete(d.failures, h)
		}
	}
	text, _, _ := net.SplitHostPort(remote)
	ip, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}
	}
	ip, bits := ip.Unmap().WithZone(""), 64
	if ip.Is4() {
		bits = 32
	}
	p, _ := ip.Prefix(bits) // both fit
	if _, known := d.failures[p]; !known && len(d.failures) >= maxHosts {
		return netip.Prefix{}
	}
	return p
}

// add adds a pass, without those that are over, and without the oldest when there are too many.
func add(passes []pass, text string, until, now time.Time, most int) []pass {
	var out []pass
	for _, p := range passes {
		if now.Before(p.until) {
			out = append(out, p)
		}
	}
	if len(out) >= most {
		out = out[1:]
	}
	return append(out, pass{sha256.Sum256([]byte(text)), until})
}

// find is where a text's pass is, -1 when it has none that lasts. It takes as long whatever the text is.
func find(passes []pass, text string, now time.Time) int {
	sum := sha256.Sum256([]byte(text))
	at := -1
	for i := range passes {
		if subtle.ConstantTimeCompare(sum[:], passes[i].sum[:]) == 1 && now.Before(passes[i].until) {
			at = i
		}
	}
	return at
}
