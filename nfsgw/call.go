package nfsgw

import (
	"context"
	"errors"
	"hash/crc32"
	"time"

	"github.com/willscott/go-nfs"

	"trinas/nfsgw/nfs3"
	"trinas/nfsgw/rpc"
	"trinas/replica/volume"
)

// call is one NFS or MOUNT call on its way through the gateway; pooled, because an operation and
// its result are large.
type call struct {
	server *Server
	in     *rpc.Call
	out    *rpc.Reply
	vol    volume.ID
	op     volume.Op
	res    volume.Result
	began  time.Time
	ok     bool                 // the operation was carried out, and without an error
	onHold func(sent bool) bool // hold; made once, so that a request allocates nothing
}

func (s *Server) newCall(in *rpc.Call, out *rpc.Reply) *call {
	c, ok := s.calls.Get().(*call)
	if !ok {
		c = &call{server: s}
		c.onHold = c.hold
	}
	c.in, c.out = in, out
	return c
}

// end counts an NFS call, and frees it.
func (s *Server) end(c *call) {
	s.counters.count(c, time.Since(c.began))
	s.free(c)
}

func (s *Server) free(c *call) {
	*c = call{server: s, onHold: c.onHold} // nothing may keep buffers alive or show up in the next call
	s.calls.Put(c)
}

// run sends c.op, as kind, to the file that fh names, and returns how it ended. The operation's
// other fields are set already.
func (c *call) run(ctx context.Context, kind volume.Kind, fh []byte) nfs.NFSStatus {
	h, err := nfs3.ParseHandle(fh)
	if err != nil {
		return nfs.NFSStatusBadHandle
	}
	c.vol = volume.ID(h.Volume)
	c.op.Kind, c.op.File, c.op.Gen = kind, volume.FileID(h.File), h.Gen
	if status := c.allow(ctx); status != nfs.NFSStatusOk {
		return status
	}
	return c.do(ctx)
}

// runNamed is run for an operation on a name in the directory fh.
func (c *call) runNamed(ctx context.Context, kind volume.Kind, args *nfs3.NameArgs) nfs.NFSStatus {
	if len(args.Name) > volume.NameBytes {
		return nfs.NFSStatusNameTooLong
	}
	c.op.Name = args.Name
	return c.run(ctx, kind, args.FH)
}

// runPair is run for an operation on fh that also names something in a second directory.
func (c *call) runPair(ctx context.Context, kind volume.Kind, fh []byte, to *nfs3.NameArgs) nfs.NFSStatus {
	a, err := nfs3.ParseHandle(fh)
	b, err2 := nfs3.ParseHandle(to.FH)
	switch {
	case err != nil || err2 != nil:
		return nfs.NFSStatusBadHandle
	case a.Volume != b.Volume:
		return nfs.NFSStatusXDev
	case len(to.Name) > volume.NameBytes:
		return nfs.NFSStatusNameTooLong
	}
	c.op.File2, c.op.Gen2, c.op.Name2 = volume.FileID(b.File), b.Gen, to.Name
	return c.run(ctx, kind, fh)
}

// do sends c.op to c.vol on the caller's behalf.
func (c *call) do(ctx context.Context) nfs.NFSStatus {
	s := c.server
	c.op.Node = s.backend.Node()
	c.op.OnHold = c.onHold
	if c.op.Kind.Mutates() {
		c.op.ID = requestID(c.op.Node, c.in)
	}
	switch err := s.backend.Do(ctx, c.vol, &c.op, &c.res); {
	case err == nil:
		c.ok = c.res.Err == volume.OK
		return statusOf(c.res.Err)
	case s.noVolume != nil && errors.Is(err, s.noVolume):
		c.res = volume.Result{}
		return nfs.NFSStatusStale
	case ctx.Err() != nil: // the client is gone: whatever this says, nobody hears it
	default:
		s.log.Debug("request put off", "volume", uint64(c.vol), "procedure", c.in.Proc, "error", err)
	}
	c.res = volume.Result{}
	return nfs.NFSStatusJukebox
}

// hold is asked while c.op waits for a primary that its volume has long been without. The client has
// its other volumes on the same connection, so what waits leaves the connection's limits. Where too
// much waits already, the client is told to ask again later: if the operation cannot have been
// carried out (sent), and may be carried out twice. It might be a retransmission of one that was
// sent over an earlier connection, or by an earlier agent, and what asks again is a new request.
func (c *call) hold(sent bool) bool {
	kind := c.op.Kind
	repeatable := !kind.Mutates() || kind == volume.Write || kind == volume.SetAttr && c.op.Guard == nil
	later := repeatable && !sent
	return c.in.Hold(later) || !later
}

// sumBytes is how much of the arguments tells requests with the same xid apart.
const sumBytes = 256

// FNV-1a, 64 bits; here over words, and the same on every node and in every release.
const (
	fnvBasis = 0xcbf29ce484222325
	fnvPrime = 0x100000001b3
)

// requestID names a request so that its retransmission has the same name, also after a restart of
// this agent: a client keeps its source port and xid when it reconnects.
func requestID(node uint16, in *rpc.Call) volume.RequestID {
	addr := in.Remote.Addr().As16()
	client := uint64(fnvBasis)
	for _, v := range addr {
		client = (client ^ uint64(v)) * fnvPrime
	}
	client = (client ^ uint64(in.Remote.Port())) * fnvPrime
	client = (client ^ uint64(node)) * fnvPrime

	// Procedure and length (below 2^24) are where the checksum starts from.
	sum := crc32.Update(in.Proc<<24^uint32(len(in.Args)), crc32.MakeTable(crc32.Castagnoli),
		in.Args[:min(len(in.Args), sumBytes)])
	return volume.RequestID{Client: client, XID: in.XID, Sum: sum}
}

// sendWcc answers with a status and a file's attributes around the operation.
func (c *call) sendWcc(status nfs.NFSStatus, change *volume.Change) rpc.AcceptStat {
	res := nfs3.WccRes{Status: status, Wcc: wccOf(c.vol, change)}
	c.out.Body = res.Append(c.out.Body)
	return rpc.Success
}

// send answers with r.
func (c *call) send(r interface{ Append([]byte) []byte }) rpc.AcceptStat {
	c.out.Body = r.Append(c.out.Body)
	return rpc.Success
}
