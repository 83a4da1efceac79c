package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"time"
)

// profiles serves the runtime's profiles, for go tool pprof.
type profiles struct {
	http  *http.Server
	ended chan struct{}
}

// serveProfiles starts the profile server where one was asked for. Only loopback addresses are
// taken: profiles show memory.
func (d *daemon) serveProfiles() error {
	if d.pprof == "" {
		return nil
	}
	a, err := netip.ParseAddrPort(d.pprof)
	if err != nil || !a.Addr().IsLoopback() {
		return fmt.Errorf("--pprof %q: must be a loopback address and a port, such as 127.0.0.1:6060", d.pprof)
	}
	l, err := net.Listen("tcp", d.pprof)
	if err != nil {
		return fmt.Errorf("--pprof: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	p := &profiles{http: &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		if err := p.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			d.log.Warn("profiles ended", "event", "profiles-ended", "cause", err)
		}
	}()
	d.profiles = p
	return nil
}

func (d *daemon) stopProfiles() error {
	if d.profiles == nil {
		return nil
	}
	err := d.profiles.http.Close()
	<-d.profiles.ended
	return err
}
