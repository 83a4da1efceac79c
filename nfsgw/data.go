package nfsgw

import (
	"context"

	"github.com/willscott/go-nfs"

	"trinas/nfsgw/nfs3"
	"trinas/nfsgw/rpc"
	"trinas/replica/volume"
)

// readBytes is the reply memory that a READ of count bytes takes.
func readBytes(count uint32) int {
	n := int(min(count, volume.MaxIOBytes))
	return nfs3.ReadDataOffset + n + rpc.Pad(n)
}

// replyBytes says how much memory a call's results may take, before the call is run.
func replyBytes(in *rpc.Call) int {
	switch nfs.NFSProcedure(in.Proc) {
	case nfs.NFSProcedureRead:
		var args nfs3.ReadArgs
		if args.Decode(in.Args) == nil {
			return readBytes(args.Count)
		}
	case nfs.NFSProcedureReadlink:
		return readLinkBytes
	case nfs.NFSProcedureReadDir:
		var args nfs3.ReadDirArgs
		if args.Decode(in.Args) == nil {
			return int(min(args.Count, maxDirBytes)) + dirSlackBytes
		}
	case nfs.NFSProcedureReadDirPlus:
		var args nfs3.ReadDirPlusArgs
		if args.Decode(in.Args) == nil {
			return int(min(args.MaxCount, maxDirBytes)) + dirSlackBytes
		}
	}
	return 0
}

// read is READ (RFC 1813 §3.3.6). The bytes go from the object straight to their place in the
// reply; the rest is written around them.
func (c *call) read(ctx context.Context) rpc.AcceptStat {
	var args nfs3.ReadArgs
	if args.Decode(c.in.Args) != nil {
		return rpc.GarbageArgs
	}
	count := min(args.Count, volume.MaxIOBytes)
	c.out.Reserve(readBytes(count))
	mem := c.out.Body[:nfs3.ReadDataOffset+int(count)]
	c.op.Offset, c.op.Count = args.Offset, count
	c.op.Data = mem[nfs3.ReadDataOffset:nfs3.ReadDataOffset:len(mem)]

	res := nfs3.ReadRes{Status: c.run(ctx, volume.Read, args.FH)}
	res.Obj = postOpOf(c.vol, &c.res.Obj)
	res.EOF, res.Data = c.res.EOF, c.res.Data
	if len(res.Data) > int(count) {
		return rpc.SystemErr // more than was asked for: no client could make sense of it
	}
	inPlace := len(res.Data) > 0 && &res.Data[0] == &mem[nfs3.ReadDataOffset]
	if res.Status != nfs.NFSStatusOk || !res.Obj.Present || !inPlace {
		// The data is elsewhere (the primary is another node), or has to move to the front.
		return c.send(&res)
	}
	res.AppendHead(mem[:0], len(res.Data))
	body := mem[:nfs3.ReadDataOffset+len(res.Data)]
	var zeros [3]byte
	c.out.Body = append(body, zeros[:rpc.Pad(len(res.Data))]...)
	return rpc.Success
}

// write is WRITE (RFC 1813 §3.3.7). The payload stays where it was received.
func (c *call) write(ctx context.Context) rpc.AcceptStat {
	var args nfs3.WriteArgs
	if args.Decode(c.in.Args) != nil {
		return rpc.GarbageArgs
	}
	data := args.Data[:min(len(args.Data), volume.MaxIOBytes)] // more than wtmax: a short write
	c.op.Offset, c.op.Data, c.op.Room = args.Offset, data, c.in.Room(data)
	res := nfs3.WriteRes{Status: c.run(ctx, volume.Write, args.FH)}
	res.Wcc = wccOf(c.vol, &c.res.Obj)
	res.Count, res.Committed, res.Verifier = c.res.Count, nfs3.FileSync, uint64(c.vol)
	return c.send(&res)
}

// commit is COMMIT (RFC 1813 §3.3.21). It commits the whole file, whatever range was asked for.
func (c *call) commit(ctx context.Context) rpc.AcceptStat {
	var args nfs3.ReadArgs
	if args.Decode(c.in.Args) != nil {
		return rpc.GarbageArgs
	}
	res := nfs3.CommitRes{Status: c.run(ctx, volume.Commit, args.FH)}
	res.Wcc, res.Verifier = wccOf(c.vol, &c.res.Obj), uint64(c.vol)
	return c.send(&res)
}
