package nfsgw

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"trinas/nfsgw/nfs3"
	"trinas/nfsgw/rpc"
)

// listen opens what opt names and must be had.
func listen(opt Options) ([]net.Listener, error) {
	listeners := slices.Clone(opt.Listeners)
	addrs := opt.Addrs
	if len(listeners)+len(addrs)+len(opt.Further) == 0 {
		addrs = []string{DefaultAddr}
	}
	for _, addr := range addrs {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			closeAll(listeners)
			return nil, fmt.Errorf("nfs gateway: listen on %s: %w (is another NFS server running? stop it, or change the listen address)", addr, err)
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}

func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		_ = l.Close()
	}
}

// serve answers on l until the server shuts down.
func (s *Server) serve(l net.Listener) {
	s.mu.Lock()
	s.addrs = append(s.addrs, l.Addr())
	s.mu.Unlock()
	s.serving.Go(func() {
		if err := s.rpc.Serve(l); !errors.Is(err, rpc.ErrServerClosed) {
			s.log.Error("the NFS server stopped listening; restart the agent", "event", "nfs-ended", "address", l.Addr().String(), "error", err)
			s.failed <- fmt.Errorf("nfs gateway: %w", err)
		}
		_ = l.Close() // it is still open when the server closed before it could serve
	})
}

// furtherRetry is the pause between two tries to listen on a further address.
const furtherRetry = 500 * time.Millisecond

// open listens on a further address, trying until it can be had or the server shuts down: other
// hosts wait for that, the node's own clients do not. An address that is not up yet can be had at
// once (rpc.ListenFree); somebody else's port cannot.
func (s *Server) open(addr string) {
	if !assigned(addr) {
		s.log.Warn("no interface of this host has this address yet: other hosts reach the NFS server there as soon as one has",
			"event", "nfs-address-missing", "address", addr)
	}
	for told := false; ; told = true {
		l, err := rpc.ListenFree("tcp", addr)
		if err == nil {
			if told {
				s.log.Info("the NFS server listens now", "event", "nfs-listening", "address", addr)
			}
			s.serve(l)
			return
		}
		if !told {
			s.log.Warn("cannot listen for other hosts, trying on: stop the NFS server that is there, or mend nfs.listen; this node's own clients are not concerned",
				"event", "nfs-address-taken", "address", addr, "error", err)
		}
		select {
		case <-time.After(furtherRetry):
		case <-s.closing:
			return
		}
	}
}

// assigned reports whether an interface of this host has the address; true when that cannot be
// found out.
func assigned(addr string) bool {
	want, err := netip.ParseAddrPort(addr)
	if err != nil || want.Addr().IsUnspecified() || want.Addr().IsLoopback() {
		return true
	}
	all, err := net.InterfaceAddrs()
	return err != nil || slices.ContainsFunc(all, func(a net.Addr) bool {
		p, ok := a.(*net.IPNet)
		return ok && p.IP.Equal(want.Addr().AsSlice())
	})
}

// service is what the port mapper is told: both programs at every address, those included that
// are still to be opened.
func (s *Server) service(further []string) rpc.Service {
	out := rpc.Service{Programs: []rpc.ProgramVersion{
		{Number: nfs3.Program, Version: nfs3.Version}, {Number: nfs3.MountProgram, Version: nfs3.MountVersion},
	}}
	for _, a := range s.Addrs() {
		if tcp, ok := a.(*net.TCPAddr); ok {
			out.Addrs = append(out.Addrs, tcp.AddrPort())
		}
	}
	for _, text := range further {
		if a, err := netip.ParseAddrPort(text); err == nil {
			out.Addrs = append(out.Addrs, a)
		}
	}
	return out
}
