package nfsgw

import (
	"context"

	"github.com/willscott/go-nfs"

	"trinas/nfsgw/nfs3"
	"trinas/nfsgw/rpc"
	"trinas/replica/volume"
)

// lookup is LOOKUP (RFC 1813 §3.3.3).
func (c *call) lookup(ctx context.Context) rpc.AcceptStat {
	var args nfs3.NameArgs
	if args.Decode(c.in.Args) != nil {
		return rpc.GarbageArgs
	}
	res := nfs3.LookupRes{Status: c.runNamed(ctx, volume.Lookup, &args)}
	res.Obj, res.Dir = postOpOf(c.vol, &c.res.Obj), postOpOf(c.vol, &c.res.Dir)
	if res.Status == nfs.NFSStatusOk {
		res.FH = handleOf(c.vol, &c.res.Obj.After)
	}
	return c.send(&res)
}

// make runs an operation that makes a file, with the attributes it is to have, and answers.
func (c *call) make(ctx context.Context, kind volume.Kind, args *nfs3.NameArgs, attrs *nfs3.SetAttrs) rpc.AcceptStat {
	set, ok := setOf(attrs)
	res := nfs3.CreateRes{Status: nfs.NFSStatusInval}
	if ok {
		c.op.Set = set
		res.Status = c.runNamed(ctx, kind, args)
	}
	res.Obj, res.Dir = postOpOf(c.vol, &c.res.Obj), wccOf(c.vol, &c.res.Dir)
	// A retransmission may find that the file has gone since: then there is no handle to tell.
	if res.Status == nfs.NFSStatusOk && c.res.Obj.Known {
		res.FH = handleOf(c.vol, &c.res.Obj.After)
	}
	return c.send(&res)
}

// create is CREATE (RFC 1813 §3.3.8).
func (c *call) create(ctx context.Context) rpc.AcceptStat {
	var args nfs3.CreateArgs
	if args.Decode(c.in.Args) != nil {
		return rpc.GarbageArgs
	}
	c.op.How, c.op.Verifier = volume.How(args.How), args.Verifier
	return c.make(ctx, volume.Create, &args.NameArgs, &args.Set)
}

// mkDir is MKDIR (RFC 1813 §3.3.9).
func (c *call) mkDir(ctx context.Context) rpc.AcceptStat {
	var args nfs3.MkDirArgs
	if args.Decode(c.in.Args) != nil {
		return rpc.GarbageArgs
	}
	return c.make(ctx, volume.MkDir, &args.NameArgs, &args.Set)
}

// symlink is SYMLINK (RFC 1813 §3.3.10).
func (c *call) symlink(ctx context.Context) rpc.AcceptStat {
	var args nfs3.SymlinkArgs
	if args.Decode(c.in.Args) != nil {
		return rpc.GarbageArgs
	}
	if len(args.Target) > volume.TargetBytes {
		return c.send(&nfs3.CreateRes{Status: nfs.NFSStatusNameTooLong})
	}
	c.op.Target = args.Target
	return c.make(ctx, volume.Symlink, &args.NameArgs, &args.Set)
}

// mkNod is MKNOD (RFC 1813 §3.3.11).
func (c *call) mkNod(ctx context.Context) rpc.AcceptStat {
	var args nfs3.MkNodArgs
	if args.Decode(c.in.Args) != nil {
		return rpc.GarbageArgs
	}
	switch args.Type {
	case nfs.FileTypeBlock, nfs.FileTypeCharacter, nfs.FileTypeSocket, nfs.FileTypeFIFO:
	default:
		return c.send(&nfs3.CreateRes{Status: nfs.NFSStatusBadType})
	}
	c.op.Type, c.op.Rdev = volume.FileType(args.Type), args.Rdev
	return c.make(ctx, volume.MkNod, &args.NameArgs, &args.Set)
}

// remove is REMOVE (RFC 1813 §3.3.12).
func (c *call) remove(ctx context.Context) rpc.AcceptStat { return c.unlink(ctx, volume.Remove) }

// rmDir is RMDIR (RFC 1813 §3.3.13).
func (c *call) rmDir(ctx context.Context) rpc.AcceptStat { return c.unlink(ctx, volume.RmDir) }

func (c *call) unlink(ctx context.Context, kind volume.Kind) rpc.AcceptStat {
	var args nfs3.NameArgs
	if args.Decode(c.in.Args) != nil {
		return rpc.GarbageArgs
	}
	status := c.runNamed(ctx, kind, &args)
	return c.sendWcc(status, &c.res.Dir)
}

// rename is RENAME (RFC 1813 §3.3.14).
func (c *call) rename(ctx context.Context) rpc.AcceptStat {
	var args nfs3.RenameArgs
	if args.Decode(c.in.Args) != nil {
		return rpc.GarbageArgs
	}
	res := nfs3.RenameRes{Status: nfs.NFSStatusNameTooLong}
	if len(args.From.Name) <= volume.NameBytes {
		c.op.Name = args.From.Name
		res.Status = c.runPair(ctx, volume.Rename, args.From.FH, &args.To)
	}
	res.From, res.To = wccOf(c.vol, &c.res.Dir), wccOf(c.vol, &c.res.Dir2)
	return c.send(&res)
}

// link is LINK (RFC 1813 §3.3.15).
func (c *call) link(ctx context.Context) rpc.AcceptStat {
	var args nfs3.LinkArgs
	if args.Decode(c.in.Args) != nil {
		return rpc.GarbageArgs
	}
	res := nfs3.LinkRes{Status: c.runPair(ctx, volume.Link, args.FH, &args.To)}
	res.Obj, res.Dir = postOpOf(c.vol, &c.res.Obj), wccOf(c.vol, &c.res.Dir2)
	return c.send(&res)
}
