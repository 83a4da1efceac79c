package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
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

// Mapping says that a program is served over TCP at Addr.
type Mapping struct {
	Prog, Vers uint32
	Addr       netip.AddrPort
}

// Portmap makes a server's programs known to clients that ask port 111: through rpcbind where it
// runs, else as a read-only port mapper of its own.
type Portmap struct {
	log      *slog.Logger
	mappings []Mapping
	local    string // rpcbind's socket
	network  string // rpcbind's, and our own, TCP and UDP address
	cancel   context.CancelFunc
	started  chan struct{} // closed when the two below are set
	serving  sync.WaitGroup
	once     sync.Once

	register func(ctx context.Context, set bool) error // how rpcbind was reached; nil: not at all
	server   *Server                                   // our own; nil: none
}

// portmapPatience bounds one exchange with rpcbind.
const portmapPatience = 5 * time.Second

// StartPortmap makes mappings known, in the background: NFS does not wait for it, and a failure
// is logged, once, and is not fatal.
func StartPortmap(log *slog.Logger, mappings []Mapping) *Portmap {
	return startPortmap(log, mappings, "/run/rpcbind.sock", net.JoinHostPort("127.0.0.1", strconv.Itoa(portmapPort)))
}

func startPortmap(log *slog.Logger, mappings []Mapping, local, network string) *Portmap {
	ctx, cancel := context.WithCancel(context.Background())
	p := &Portmap{log: log, mappings: mappings, local: local, network: network, cancel: cancel, started: make(chan struct{})}
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
	if err := p.listen(); err != nil {
		p.log.Warn("cannot serve the port mapper: showmount and mounts without port= will not find the NFS server; start rpcbind, free the port, or set portmap to off",
			"event", "portmap-unavailable", "address", p.network, "error", err)
	}
}

// isAbsent reports whether err says that nobody answers there.
func isAbsent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// listen serves the port mapper ourselves.
func (p *Portmap) listen() error {
	l, err := net.Listen("tcp", p.network)
	if err != nil {
		return err
	}
	u, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		_ = l.Close()
		return err
	}
	p.server = NewServer(Options{
		MaxRecordBytes: maxPacketBytes, MaxConns: 64, MaxRequests: 4,
		MaxConnBytes: 64 << 10, MaxTotalBytes: 1 << 20, Log: p.log,
	}, p.program())
	p.serving.Go(func() { p.served(p.server.Serve(l)) })
	p.serving.Go(func() { p.served(p.server.ServePacket(u)) })
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
				for _, m := range p.mappings {
					reply.Body = appendMapping(AppendBool(reply.Body, true), m.Prog, m.Vers, protoTCP, uint32(m.Addr.Port()))
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
	for _, m := range p.mappings {
		if m.Prog == prog && m.Vers == vers && proto == protoTCP {
			return uint32(m.Addr.Port())
		}
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
	return p.exchange(ctx, "unix", p.local, rpcbindVersion, set, func(b []byte, m Mapping) []byte {
		b = AppendUint32(AppendUint32(b, m.Prog), m.Vers)
		netid, unspecified := "tcp", "0.0.0.0"
		if m.Addr.Addr().Is6() && !m.Addr.Addr().Is4In6() {
			netid, unspecified = "tcp6", "::"
		}
		host := m.Addr.Addr().Unmap().String()
		if m.Addr.Addr().IsUnspecified() {
			host = unspecified
		}
		b = AppendOpaque(b, netid)
		b = AppendOpaque(b, fmt.Sprintf("%s.%d.%d", host, m.Addr.Port()>>8, m.Addr.Port()&255))
		return AppendOpaque(b, "trinas")
	})
}

// registerNetwork talks to an rpcbind, or a portmap, that takes registrations over loopback from
// privileged ports.
func (p *Portmap) registerNetwork(ctx context.Context, set bool) error {
	return p.exchange(ctx, "tcp", p.network, portmapVersion, set, func(b []byte, m Mapping) []byte {
		return appendMapping(b, m.Prog, m.Vers, protoTCP, uint32(m.Addr.Port()))
	})
}

// exchange sets or unsets every mapping.
func (p *Portmap) exchange(ctx context.Context, network, address string, vers uint32, set bool,
	encode func([]byte, Mapping) []byte) error {
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
	for _, m := range p.mappings {
		b, err := c.Call(ctx, portmapProgram, vers, proc, nil, func(b []byte) []byte { return encode(b, m) })
		if err != nil {
			return fmt.Errorf("rpcbind at %s: program %d: %w", address, m.Prog, err)
		}
		d := NewDecoder(b)
		if done := d.Bool(); set && !done { // UNSET says false when there was nothing
			return fmt.Errorf("rpcbind at %s refuses to register program %d version %d", address, m.Prog, m.Vers)
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
