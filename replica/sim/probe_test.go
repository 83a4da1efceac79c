package sim

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"trinas/replica"
)

// Goal: a probe tells of each other node its clock, version and way back, and of one that is cut
// off that it cannot be asked, in bounded time.
func TestProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blocked := ""
		c := New(t, 31, 3, func(o *replica.Options) {
			o.Version, o.Level = "1.2.3", 7
			o.Reach = func(_ context.Context, addr string) error {
				if addr == blocked {
					return errors.New("filtered")
				}
				return nil
			}
		})
		p := c.Node(1).Probe(t.Context())
		if len(p.Peers) != 2 || p.CertificateEnds.Before(time.Now().AddDate(9, 0, 0)) {
			t.Fatalf("probe: %+v", p)
		}
		for _, peer := range p.Peers {
			if peer.Error != "" || peer.Version != "1.2.3" || peer.BackError != "" || peer.LargeError != "" ||
				peer.RoundTrip <= 0 || peer.ClockAhead.Abs() > peer.RoundTrip || !peer.CertificateEnds.After(time.Now()) {
				t.Errorf("peer: %+v", peer)
			}
		}
		for _, peer := range c.Node(1).Present(t.Context()) {
			if peer.Error != "" || peer.Version != "1.2.3" || peer.Level != 7 {
				t.Errorf("present: %+v", peer)
			}
		}
		c.Net.Isolate(3)
		blocked = "node1:7370"
		began := time.Now()
		p = c.Node(1).Probe(t.Context())
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("took %s", took)
		}
		began = time.Now()
		present := c.Node(1).Present(t.Context())
		if took := time.Since(began); took > 3*time.Second || present[0].Error != "" || present[1].Error == "" {
			t.Errorf("present: %+v after %s", present, took)
		}
		if p.Peers[0].BackError != "filtered" || p.Peers[1].Error == "" || strings.Contains(p.Peers[1].Error, "\n") {
			t.Errorf("probe: %+v", p)
		}
	})
}
