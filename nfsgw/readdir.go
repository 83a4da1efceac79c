package nfsgw

import (
	"context"

	"github.com/willscott/go-nfs"

	"trinas/nfsgw/nfs3"
	"trinas/nfsgw/rpc"
	"trinas/replica/volume"
)

// Bounds of one directory reply. maxDirBytes is also the size that FSINFO advises (dtpref).
const (
	maxDirBytes   = 64 << 10
	maxDirEntries = 1024
	dirSlackBytes = 512 // status, and one entry that is taken back because it did not fit

	// The least that an entry takes: a one-letter name, with and without attributes and handle.
	minEntryBytes     = 4 + 8 + 8 + 8
	minEntryPlusBytes = minEntryBytes + 88 + 8 + nfs3.HandleBytes
)

// readDir is READDIR (RFC 1813 §3.3.16).
func (c *call) readDir(ctx context.Context) rpc.AcceptStat {
	var args nfs3.ReadDirArgs
	if args.Decode(c.in.Args) != nil {
		return rpc.GarbageArgs
	}
	return c.list(ctx, &nfs3.ReadDirPlusArgs{
		FH: args.FH, Cookie: args.Cookie, Verifier: args.Verifier, MaxCount: args.Count,
	}, false)
}

// readDirPlus is READDIRPLUS (RFC 1813 §3.3.17).
func (c *call) readDirPlus(ctx context.Context) rpc.AcceptStat {
	var args nfs3.ReadDirPlusArgs
	if args.Decode(c.in.Args) != nil {
		return rpc.GarbageArgs
	}
	return c.list(ctx, &args, true)
}

// list answers both. A cookie stays good while entries come and go, so the cookie verifier does
// not change and whatever a client sends back is accepted.
func (c *call) list(ctx context.Context, args *nfs3.ReadDirPlusArgs, plus bool) rpc.AcceptStat {
	limit := int(min(args.MaxCount, maxDirBytes))
	least := minEntryBytes
	if plus {
		least = minEntryPlusBytes
	}
	entries := min(limit/least+1, maxDirEntries)
	c.op.Offset = args.Cookie
	c.op.Count, c.op.Size = uint32(entries), uint32(limit+200*entries)
	status := c.run(ctx, volume.ReadDir, args.FH)
	dir := postOpOf(c.vol, &c.res.Obj)
	if status != nfs.NFSStatusOk {
		c.out.Body = nfs3.AppendDirError(c.out.Body, status, &dir)
		return rpc.Success
	}
	c.out.Reserve(limit + dirSlackBytes)
	w := nfs3.NewDirWriter(c.out.Body, plus, &dir, c.res.Verifier, int(args.DirCount), limit)
	eof := c.res.EOF
	var fh [nfs3.HandleBytes]byte
	for i := range c.res.Entries {
		from := &c.res.Entries[i]
		e := nfs3.Entry{FileID: uint64(from.Attr.File), Name: from.Name, Cookie: from.Cookie}
		if plus {
			e.Attr = nfs3.PostOp{Present: true, Attr: attrOf(c.vol, &from.Attr)}
			h := nfs3.Handle{Volume: uint64(c.vol), File: uint64(from.Attr.File), Gen: from.Attr.Gen}
			e.FH = h.Append(fh[:0])
		}
		if !w.Add(&e) {
			eof = false
			break
		}
	}
	body, ok := w.End(eof)
	if !ok {
		body = nfs3.AppendDirError(c.out.Body[:0], nfs.NFSStatusTooSmall, &dir)
	}
	c.out.Body = body
	return rpc.Success
}
