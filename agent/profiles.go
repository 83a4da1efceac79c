package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
)

// serveProfiles serves the runtime's profiles, for go tool pprof, where one was asked for. Only loopback addresses are
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
	d.profiles = serveWeb(l, mux, func(err error) { d.log.Warn("profiles ended", "event", "profiles-ended", "cause", err) })
	return nil
}
