package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// maxPacketBytes bounds calls and replies over UDP; the port mapper's are far smaller.
const maxPacketBytes = 8 << 10

// ServePacket answers calls that come as datagrams, one after the other, until Shutdown, which
// closes p; it then returns ErrServerClosed. It is for programs whose handlers are quick.
func (s *Server) ServePacket(p net.PacketConn) error {
	s.mu.Lock()
	if s.closing.Load() {
		s.mu.Unlock()
		return ErrServerClosed
	}
	s.packets[p] = struct{}{}
	s.work.Add(1)
	s.mu.Unlock()
	defer s.work.Done()

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	in := make([]byte, maxPacketBytes)
	for {
		n, from, err := p.ReadFrom(in)
		switch {
		case s.closing.Load():
			return ErrServerClosed
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("receive on %s: %w", p.LocalAddr(), err)
		case err != nil: // an ICMP error for an earlier reply
			continue
		}
		if out := s.answer(ctx, in[:n], from); len(out) > 0 && len(out) <= maxPacketBytes {
			_, _ = p.WriteTo(out, from) // a reply that is lost is asked for again
		}
	}
}

// answer runs one call; nil when it is none.
func (s *Server) answer(ctx context.Context, datagram []byte, from net.Addr) []byte {
	buf := s.pools.get(Headroom + len(datagram))
	copy(buf.mem[Headroom:], datagram)
	remote := netip.AddrPort{}
	if a, ok := from.(*net.UDPAddr); ok {
		remote = netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port())
	}
	c := &conn{server: s, remote: remote, ctx: ctx}
	r := s.newRequest(c, buf, len(datagram), 0)
	defer s.free(r)
	why, auth := r.Call.decode(r.Call.Args)
	if why == verdictServe && s.opt.PrivilegedPorts && remote.Port() >= 1024 && r.Proc != 0 {
		why, auth = verdictAuth, AuthTooWeak
	}
	switch why {
	case verdictDrop:
		return nil
	case verdictServe:
	default:
		return appendDenied(nil, r.XID, why, auth)
	}
	var stat AcceptStat
	if r.program, stat = s.choose(&r.Call, &r.Reply); r.program != nil {
		if stat = r.handle(); stat != Success {
			r.Body = nil
		}
	}
	out := make([]byte, replyBytes, replyBytes+len(r.Body))
	putAccepted(out, r.XID, stat)
	return append(out, r.Body...)[markBytes:]
}
