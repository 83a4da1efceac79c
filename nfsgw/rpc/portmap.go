package rpc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"
)

// The port mapper (RFC 1833): version 2 is what clients ask, version 4 what is said to rpcbind on
// its local socket.
const (
	portmapProgram = 100000
	portmapVersion = 2
	rpcbindVersion = 4
	portmapPort    = 111
	protoTCP       = 6
	protoUDP       = 17

	procSet     = 1
	procUnset   = 2
	procGetPort = 3
	procDump    = 4
)

// ProgramVersion is one version of a program, served over TCP.
type ProgramVersion struct{ Number, Version uint32 }

// Service is what clients are to find: programs, all of which are served at every one of some
// addresses, which have one port.
type Service struct {
	Programs []ProgramVersion
	Addrs    []netip.AddrPort
}

// port is the service's port; 0 when it has no address.
func (s *Service) port() uint16 {
	if len(s.Addrs) == 0 {
		return 0
	}
	return s.Addrs[0].Port()
}

// universal is what rpcbind is told for IPv4, or IPv6: the one address, or, when there are several,
// the unspecified one: rpcbind then names to each client the address that it was asked at. It is
// not valid when there is none.
func (s *Service) universal(v6 bool) (out netip.AddrPort) {
	for _, a := range s.Addrs {
		switch is6 := a.Addr().Is6() && !a.Addr().Is4In6(); {
		case is6 != v6:
		case out.IsValid() && v6:
			out = netip.AddrPortFrom(netip.IPv6Unspecified(), a.Port())
		case out.IsValid():
			out = netip.AddrPortFrom(netip.IPv4Unspecified(), a.Port())
		default:
			out = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
		}
	}
	return out
}

// hosts are the addresses that a port mapper of our own answers at: the service's.
func (s *Service) hosts() (out []netip.Addr) {
	for _, a := range s.Addrs {
		if a.Addr().IsUnspecified() {
			return []netip.Addr{a.Addr()}
		}
		if !slices.Contains(out, a.Addr().Unmap()) {
			out = append(out, a.Addr().Unmap())
		}
	}
	return out
}

// Portmap makes a service known to clients that ask port 111: through rpcbind where it runs, else
// as a read-only port mapper of its own.
type Portmap struct {
	log     *slog.Logger
	service Service
	local   string // rpcbind's socket
	network string // rpcbind's TCP address; our own port mapper has its port
	cancel  context.CancelFunc
	started chan struct{} // closed when the two below are set
	serving sync.WaitGroup
	once    sync.Once

	register func(ctx context.Context, set bool) error // how rpcbind was reached; nil: not at all
	server   *Server                                   // our own; nil: none
}

// portmapPatience bounds one exchange with rpcbind.
const portmapPatience = 5 * time.Second

// StartPortmap makes a service known, in the background: NFS does not wait for it, and a failure
// is logged, once, and is not fatal.
func StartPortmap(log *slog.Logger, service Service) *Portmap {
	return startPortmap(log, service, "/run/rpcbind.sock", net.JoinHostPort("127.0.0.1", strconv.Itoa(portmapPort)))
}

func startPortmap(log *slog.Logger, service Service, local, network string) *Portmap {
	ctx, cancel := context.WithCancel(context.Background())
	p := &Portmap{log: log, service: service, local: local, network: network, cancel: cancel, started: make(chan struct{})}
	go func() {
		defer close(p.started)
		p.start(ctx)
	}()
	return p
}

// start registers, or begins to serve.
func (p *Portmap) start(ctx context.Context) {
	var refused error
	for _, register := range []func(context.Context, bool) error{p.registerLocal, p.registerNetwork} {
		// UNSET first: a registration that another process left behind would win.
		err := register(ctx, false)
		if err == nil {
			err = register(ctx, true)
		}
		if err == nil {
			p.register = register
			return
		}
		if !isAbsent(err) {
			refused = errors.Join(refused, err)
		}
	}
	if ctx.Err() != nil {
		return
	}
	if refused != nil {
		p.log.Warn("rpcbind does not register the NFS server: showmount and mounts without port= will not find it; see the log of rpcbind, or set portmap to off",
			"event", "portmap-refused", "error", refused)
		return
	}
	p.answer()
}

// isAbsent reports whether err says that nobody answers there.
func isAbsent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// answer serves the port mapper ourselves, at every address of the service where that can be.
func (p *Portmap) answer() {
	_, port, _ := net.SplitHostPort(p.network)
	server := NewServer(Options{
		MaxRecordBytes: maxPacketBytes, MaxConns: 64, MaxRequests: 4,
		MaxConnBytes: 64 << 10, MaxTotalBytes: 1 << 20, Log: p.log,
	}, p.program())
	for _, host := range p.service.hosts() {
		address := net.JoinHostPort(host.String(), port)
		if err := p.listen(server, address); err != nil {
			p.log.Warn("cannot serve the port mapper: showmount and mounts without port= will not find the NFS server; start rpcbind, free the port, or set portmap to off",
				"event", "portmap-unavailable", "address", address, "error", err)
			continue
		}
		p.server = server
	}
}

// listen has server answer at address, over TCP and UDP.
func (p *Portmap) listen(server *Server, address string) error {
	l, err := ListenFree("tcp", address)
	if err != nil {
		return err
	}
	u, err := listenPacketFree("udp", address)
	if err != nil {
		_ = l.Close()
		return err
	}
	p.serving.Go(func() { p.served(server.Serve(l)) })
	p.serving.Go(func() { p.served(server.ServePacket(u)) })
	return nil
}

func (p *Portmap) served(err error) {
	if !errors.Is(err, ErrServerClosed) {
		p.log.Warn("the port mapper stopped", "event", "portmap-ended", "error", err)
	}
}

// program answers GETPORT and DUMP (RFC 1833 §3.2); nobody can register anything.
func (p *Portmap) program() Program {
	return Program{Number: portmapProgram, Low: portmapVersion, High: portmapVersion,
		Handle: func(_ context.Context, call *Call, reply *Reply) AcceptStat {
			switch call.Proc {
			case procSet, procUnset:
				reply.Body = AppendBool(reply.Body, false)
			case procGetPort:
				d := NewDecoder(call.Args)
				prog, vers, proto, _ := d.Uint32(), d.Uint32(), d.Uint32(), d.Uint32()
				if d.End() != nil {
					return GarbageArgs
				}
				reply.Body = AppendUint32(reply.Body, p.port(prog, vers, proto))
			case procDump:
				for _, v := range p.service.Programs {
					reply.Body = appendMapping(AppendBool(reply.Body, true), v.Number, v.Version, protoTCP, uint32(p.service.port()))
				}
				for _, proto := range [...]uint32{protoTCP, protoUDP} {
					reply.Body = appendMapping(AppendBool(reply.Body, true), portmapProgram, portmapVersion, proto, portmapPort)
				}
				reply.Body = AppendBool(reply.Body, false)
			default:
				return ProcUnavail
			}
			return Success
		}}
}

// port is a program's port; 0 when it is not served.
func (p *Portmap) port(prog, vers, proto uint32) uint32 {
	if proto == protoTCP && slices.Contains(p.service.Programs, ProgramVersion{prog, vers}) {
		return uint32(p.service.port())
	}
	if prog == portmapProgram && vers == portmapVersion && (proto == protoTCP || proto == protoUDP) {
		return portmapPort
	}
	return 0
}

// appendMapping appends the mapping of RFC 1833 §3.1: | prog 4 | vers 4 | prot 4 | port 4 |
func appendMapping(b []byte, prog, vers, proto, port uint32) []byte {
	b = AppendUint32(AppendUint32(b, prog), vers)
	return AppendUint32(AppendUint32(b, proto), port)
}

// registerLocal talks to rpcbind on its socket, where it takes registrations by default. It is
// the rpcb of RFC 1833 §2.1: | prog 4 | vers 4 | netid <> | universal address <> | owner <> |
func (p *Portmap) registerLocal(ctx context.Context, set bool) error {
	var all [][]byte
	for _, v6 := range [...]bool{false, true} {
		addr, netid := p.service.universal(v6), "tcp"
		if !addr.IsValid() {
			continue
		}
		if v6 {
			netid = "tcp6"
		}
		for _, v := range p.service.Programs {
			b := AppendOpaque(AppendUint32(AppendUint32(nil, v.Number), v.Version), netid)
			b = AppendOpaque(b, fmt.Sprintf("%s.%d.%d", addr.Addr(), addr.Port()>>8, addr.Port()&255))
			all = append(all, AppendOpaque(b, "trinas"))
		}
	}
	return p.exchange(ctx, "unix", p.local, rpcbindVersion, set, all)
}

// registerNetwork talks to an rpcbind, or a portmap, that takes registrations over loopback from
// privileged ports. Version 2 knows ports only.
func (p *Portmap) registerNetwork(ctx context.Context, set bool) error {
	var all [][]byte
	for _, v := range p.service.Programs {
		all = append(all, appendMapping(nil, v.Number, v.Version, protoTCP, uint32(p.service.port())))
	}
	return p.exchange(ctx, "tcp", p.network, portmapVersion, set, all)
}

// exchange sets or unsets everything, given as arguments.
func (p *Portmap) exchange(ctx context.Context, network, address string, vers uint32, set bool, all [][]byte) error {
	ctx, cancel := context.WithTimeout(ctx, portmapPatience)
	defer cancel()
	c, err := Dial(ctx, network, address, true)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	proc := uint32(procUnset)
	if set {
		proc = procSet
	}
	for _, args := range all {
		b, err := c.Call(ctx, portmapProgram, vers, proc, nil, func(b []byte) []byte { return append(b, args...) })
		program := binary.BigEndian.Uint32(args)
		if err != nil {
			return fmt.Errorf("rpcbind at %s: program %d: %w", address, program, err)
		}
		d := NewDecoder(b)
		if done := d.Bool(); set && !done { // UNSET says false when there was nothing
			return fmt.Errorf("rpcbind at %s refuses to register program %d", address, program)
		}
	}
	return nil
}

// Close takes the registrations back, or stops serving. A nil Portmap has nothing to close.
func (p *Portmap) Close() {
	if p == nil {
		return
	}
	p.once.Do(func() {
		p.cancel()
		<-p.started
		if p.server != nil {
			_ = p.server.Shutdown(context.Background())
		}
		p.serving.Wait()
		if p.register != nil {
			if err := p.register(context.Background(), false); err != nil {
				p.log.Warn("cannot take the NFS server's registration back from rpcbind", "event", "portmap-left", "error", err)
			}
		}
	})
}
