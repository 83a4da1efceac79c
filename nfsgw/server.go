package nfsgw

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/willscott/go-nfs"

	"trinas/nfsgw/nfs3"
	"trinas/nfsgw/rpc"
)

// DefaultAddr is where the gateway listens unless told otherwise: on loopback only.
const DefaultAddr = "127.0.0.1:2049"

// Values of Options.Portmap.
const (
	PortmapAuto = "auto" // register with rpcbind, or be the port mapper where none answers
	PortmapOff  = "off"
)

// Options say how a gateway runs.
type Options struct {
	Addrs     []string       // TCP addresses to listen on; when nothing else is given: DefaultAddr
	Listeners []net.Listener // already open (socket activation); the gateway closes them
	Further   []string       // TCP addresses to listen on as soon as they can be had
	Portmap   string         // PortmapAuto or PortmapOff; empty: off
	RPC       rpc.Options    // bounds, and PrivilegedPorts; its Log is ignored
	NoVolume  error          // what Backend.Do's errors match when the volume does not exist
	Log       *slog.Logger   // nil: nothing is logged
}

// Server is a running gateway.
type Server struct {
	backend  Backend
	noVolume error
	log      *slog.Logger
	rpc      *rpc.Server
	mounts   mountTable
	calls    sync.Pool // *call
	serving  sync.WaitGroup
	portmap  *rpc.Portmap
	failed   chan error // what made a listener fail; holds one per listener
	closing  chan struct{}
	counters counters
	close    sync.Once

	mu    sync.Mutex
	addrs []net.Addr // of the listeners that are open
}

// Listen starts a gateway. When it returns, clients can connect.
func Listen(b Backend, opt Options) (*Server, error) {
	s := &Server{backend: b, noVolume: opt.NoVolume, log: opt.Log, closing: make(chan struct{})}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	switch opt.Portmap {
	case "", PortmapAuto, PortmapOff:
	default:
		closeAll(opt.Listeners)
		return nil, fmt.Errorf("nfs gateway: portmap is %q; it must be %q or %q", opt.Portmap, PortmapAuto, PortmapOff)
	}
	listeners, err := listen(opt)
	if err != nil {
		return nil, err
	}
	opt.RPC.Log = s.log
	s.rpc = rpc.NewServer(opt.RPC,
		rpc.Program{Number: nfs3.Program, Low: nfs3.Version, High: nfs3.Version, Handle: s.handleNFS, ReplyBytes: replyBytes},
		rpc.Program{Number: nfs3.MountProgram, Low: nfs3.MountVersion, High: nfs3.MountVersion, Handle: s.handleMount})
	s.failed = make(chan error, len(listeners)+len(opt.Further))
	for _, l := range listeners {
		s.serve(l)
	}
	if opt.Portmap == PortmapAuto {
		s.portmap = rpc.StartPortmap(s.log, s.service(opt.Further))
	}
	for _, addr := range opt.Further {
		s.serving.Go(func() { s.open(addr) })
	}
	return s, nil
}

// Addrs is where the gateway listens now.
func (s *Server) Addrs() []net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.addrs)
}

// Failed delivers an error when a listener fails for good.
func (s *Server) Failed() <-chan error { return s.failed }

// Shutdown leaves the port mapper, stops taking requests, waits for those under way and closes.
// When ctx ends first they are dropped, and clients send them again. It may be called twice.
func (s *Server) Shutdown(ctx context.Context) error {
	s.close.Do(func() { close(s.closing) })
	s.portmap.Close()
	err := s.rpc.Shutdown(ctx)
	s.serving.Wait()
	return err
}

// handleNFS runs one NFS procedure.
func (s *Server) handleNFS(ctx context.Context, in *rpc.Call, out *rpc.Reply) rpc.AcceptStat {
	c := s.newCall(in, out)
	c.began = time.Now()
	defer s.end(c)
	switch nfs.NFSProcedure(in.Proc) {
	case nfs.NFSProcedureGetAttr:
		return c.getAttr(ctx)
	case nfs.NFSProcedureSetAttr:
		return c.setAttr(ctx)
	case nfs.NFSProcedureLookup:
		return c.lookup(ctx)
	case nfs.NFSProcedureAccess:
		return c.access(ctx)
	case nfs.NFSProcedureReadlink:
		return c.readLink(ctx)
	case nfs.NFSProcedureRead:
		return c.read(ctx)
	case nfs.NFSProcedureWrite:
		return c.write(ctx)
	case nfs.NFSProcedureCreate:
		return c.create(ctx)
	case nfs.NFSProcedureMkDir:
		return c.mkDir(ctx)
	case nfs.NFSProcedureSymlink:
		return c.symlink(ctx)
	case nfs.NFSProcedureMkNod:
		return c.mkNod(ctx)
	case nfs.NFSProcedureRemove:
		return c.remove(ctx)
	case nfs.NFSProcedureRmDir:
		return c.rmDir(ctx)
	case nfs.NFSProcedureRename:
		return c.rename(ctx)
	case nfs.NFSProcedureLink:
		return c.link(ctx)
	case nfs.NFSProcedureReadDir:
		return c.readDir(ctx)
	case nfs.NFSProcedureReadDirPlus:
		return c.readDirPlus(ctx)
	case nfs.NFSProcedureFSStat:
		return c.fsStat(ctx)
	case nfs.NFSProcedureFSInfo:
		return c.fsInfo(ctx)
	case nfs.NFSProcedurePathConf:
		return c.pathConf(ctx)
	case nfs.NFSProcedureCommit:
		return c.commit(ctx)
	}
	return rpc.ProcUnavail
}
