package nfsgw

import (
	"context"

	"github.com/willscott/go-nfs"

	"trinas/nfsgw/nfs3"
	"trinas/nfsgw/rpc"
	"trinas/replica/volume"
)

// getAttr is GETATTR (RFC 1813 §3.3.1).
func (c *call) getAttr(ctx context.Context) rpc.AcceptStat {
	var args nfs3.HandleArgs
	if args.Decode(c.in.Args) != nil {
		return rpc.GarbageArgs
	}
	res := nfs3.GetAttrRes{Status: c.run(ctx, volume.GetAttr, args.FH)}
	res.Attr = attrOf(c.vol, &c.res.Obj.After)
	return c.send(&res)
}

// setAttr is SETATTR (RFC 1813 §3.3.2).
func (c *call) setAttr(ctx context.Context) rpc.AcceptStat {
	var args nfs3.SetAttrArgs
	if args.Decode(c.in.Args) != nil {
		return rpc.GarbageArgs
	}
	set, ok := setOf(&args.Set)
	if !ok {
		return c.sendWcc(nfs.NFSStatusInval, &c.res.Obj)
	}
	c.op.Set = set
	if args.Guard != nil {
		c.op.Guard = new(args.Guard.Nanoseconds())
	}
	status := c.run(ctx, volume.SetAttr, args.FH)
	return c.sendWcc(status, &c.res.Obj)
}

// access is ACCESS (RFC 1813 §3.3.4).
func (c *call) access(ctx context.Context) rpc.AcceptStat {
	var args nfs3.AccessArgs
	if args.Decode(c.in.Args) != nil {
		return rpc.GarbageArgs
	}
	c.op.Count = args.Access
	res := nfs3.AccessRes{Status: c.run(ctx, volume.Access, args.FH)}
	res.Obj, res.Access = postOpOf(c.vol, &c.res.Obj), c.res.Access
	return c.send(&res)
}

// readLinkBytes is the most that READLINK's results take.
const readLinkBytes = 128 + volume.TargetBytes

// readLink is READLINK (RFC 1813 §3.3.5).
func (c *call) readLink(ctx context.Context) rpc.AcceptStat {
	var args nfs3.HandleArgs
	if args.Decode(c.in.Args) != nil {
		return rpc.GarbageArgs
	}
	c.out.Reserve(readLinkBytes)
	res := nfs3.ReadLinkRes{Status: c.run(ctx, volume.ReadLink, args.FH)}
	res.Obj, res.Target = postOpOf(c.vol, &c.res.Obj), c.res.Data
	return c.send(&res)
}

// fsStat is FSSTAT (RFC 1813 §3.3.18). Files are bounded by space alone, so as many are free as
// blocks of 4 KiB.
func (c *call) fsStat(ctx context.Context) rpc.AcceptStat {
	var args nfs3.HandleArgs
	if args.Decode(c.in.Args) != nil {
		return rpc.GarbageArgs
	}
	res := nfs3.FSStatRes{Status: c.run(ctx, volume.FSStat, args.FH)}
	space := &c.res.Space
	free := space.FreeBytes / 4096
	res.Obj = postOpOf(c.vol, &c.res.Obj)
	res.TotalBytes, res.FreeBytes, res.AvailBytes = space.TotalBytes, space.FreeBytes, space.FreeBytes
	res.TotalFiles, res.FreeFiles, res.AvailFiles = space.Files+free, free, free
	return c.send(&res)
}

// fsInfo is FSINFO (RFC 1813 §3.3.19).
func (c *call) fsInfo(ctx context.Context) rpc.AcceptStat {
	var args nfs3.HandleArgs
	if args.Decode(c.in.Args) != nil {
		return rpc.GarbageArgs
	}
	status := c.run(ctx, volume.GetAttr, args.FH)
	return c.send(&nfs3.FSInfoRes{
		Status: status, Obj: postOpOf(c.vol, &c.res.Obj),
		RtMax: volume.MaxIOBytes, RtPref: volume.MaxIOBytes, RtMult: 4096,
		WtMax: volume.MaxIOBytes, WtPref: volume.MaxIOBytes, WtMult: 4096,
		DtPref: maxDirBytes, MaxFileBytes: volume.MaxFileBytes,
		TimeDelta:  nfs3.Time{Nsec: 1},
		Properties: nfs3.FSFLink | nfs3.FSFSymlink | nfs3.FSFHomogeneous | nfs3.FSFCanSetTime,
	})
}

// pathConf is PATHCONF (RFC 1813 §3.3.20).
func (c *call) pathConf(ctx context.Context) rpc.AcceptStat {
	var args nfs3.HandleArgs
	if args.Decode(c.in.Args) != nil {
		return rpc.GarbageArgs
	}
	status := c.run(ctx, volume.GetAttr, args.FH)
	return c.send(&nfs3.PathConfRes{
		Status: status, Obj: postOpOf(c.vol, &c.res.Obj),
		LinkMax: volume.MaxLinks, NameMax: volume.NameBytes,
		NoTrunc: true, ChownRestricted: true, CasePreserving: true,
	})
}
