package nfsgw

import (
	"context"
	"strings"
	"sync"

	"github.com/willscott/go-nfs"

	"trinas/nfsgw/nfs3"
	"trinas/nfsgw/rpc"
	"trinas/replica/volume"
)

// handleMount runs one MOUNT procedure (RFC 1813 §5.2).
func (s *Server) handleMount(ctx context.Context, in *rpc.Call, out *rpc.Reply) rpc.AcceptStat {
	switch nfs.MountProcedure(in.Proc) {
	case nfs.MountProcMount:
		return s.mount(ctx, in, out)
	case nfs.MountProcDump:
		res := nfs3.DumpRes{Mounts: s.mounts.list()}
		out.Body = res.Append(out.Body)
	case nfs.MountProcUmnt:
		var args nfs3.PathArgs
		if args.Decode(in.Args) != nil {
			return rpc.GarbageArgs
		}
		s.mounts.remove(nfs3.Mount{Host: hostOf(in), Path: args.Path})
	case nfs.MountProcUmntAll:
		s.mounts.removeAll(hostOf(in))
	case nfs.MountProcExport:
		var res nfs3.ExportRes
		for _, e := range s.backend.Exports() {
			res.Exports = append(res.Exports, nfs3.Export{Path: "/" + e.Name, Groups: groupsOf(&e)})
		}
		out.Body = res.Append(out.Body)
	default:
		return rpc.ProcUnavail
	}
	return rpc.Success
}

func hostOf(in *rpc.Call) string { return in.Remote.Addr().String() }

// mount is MNT (RFC 1813 §5.2.1): "/volume", or a directory in it.
func (s *Server) mount(ctx context.Context, in *rpc.Call, out *rpc.Reply) rpc.AcceptStat {
	var args nfs3.PathArgs
	if args.Decode(in.Args) != nil {
		return rpc.GarbageArgs
	}
	c := s.newCall(in, out)
	defer s.free(c)
	res := nfs3.MntRes{Flavors: []uint32{rpc.AuthSys}}
	fh, status := c.walk(ctx, args.Path)
	if status == nfs.NFSStatusJukebox {
		// MOUNT has no such answer, and any other would be believed: let the client ask again.
		return rpc.SystemErr
	}
	if res.Status = mountStatusOf(status); res.Status == nfs.MountStatusOk {
		res.FH = fh
		s.mounts.add(nfs3.Mount{Host: hostOf(in), Path: args.Path})
	}
	return c.send(&res)
}

// walk finds the directory that path names. The root of a volume is found without asking its
// primary: nodes mount while the cluster still assembles.
func (c *call) walk(ctx context.Context, path string) ([]byte, nfs.NFSStatus) {
	parts := strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
	if !strings.HasPrefix(path, "/") || len(parts) == 0 {
		return nil, nfs.NFSStatusNoEnt
	}
	at := nfs3.Handle{File: uint64(volume.RootID), Gen: rootGen}
	for _, e := range c.server.backend.Exports() {
		if e.Name == parts[0] {
			at.Volume = uint64(e.ID)
		}
	}
	if at.Volume == 0 {
		return nil, nfs.NFSStatusNoEnt
	}
	c.vol = volume.ID(at.Volume)
	if status := c.allow(ctx); status != nfs.NFSStatusOk {
		return nil, status
	}
	fh := at.Bytes()
	for _, name := range parts[1:] {
		if name == "." || name == ".." {
			return nil, nfs.NFSStatusInval
		}
		c.op, c.res = volume.Op{}, volume.Result{}
		args := nfs3.NameArgs{FH: fh, Name: name}
		switch status := c.runNamed(ctx, volume.Lookup, &args); {
		case status != nfs.NFSStatusOk:
			return nil, status
		case c.res.Obj.After.Type != volume.Directory:
			return nil, nfs.NFSStatusNotDir
		}
		fh = handleOf(c.vol, &c.res.Obj.After)
	}
	return fh, nfs.NFSStatusOk
}

// rootGen is the generation of every volume's root directory.
const rootGen = 1

// maxMounts bounds the table below.
const maxMounts = 1024

// mountTable remembers who has mounted what, for DUMP only: nothing depends on it, it is not the
// same on other nodes and a restart empties it. When it is full the oldest row goes.
type mountTable struct {
	mu   sync.Mutex
	rows []nfs3.Mount // the oldest first, no row twice
}

func (t *mountTable) add(m nfs3.Mount) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keep(func(row nfs3.Mount) bool { return row != m })
	if len(t.rows) == maxMounts {
		t.rows = append(t.rows[:0], t.rows[1:]...)
	}
	t.rows = append(t.rows, m)
}

func (t *mountTable) remove(m nfs3.Mount) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keep(func(row nfs3.Mount) bool { return row != m })
}

func (t *mountTable) removeAll(host string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keep(func(row nfs3.Mount) bool { return row.Host != host })
}

// keep drops the rows that good does not like; the lock is held.
func (t *mountTable) keep(good func(nfs3.Mount) bool) {
	kept := t.rows[:0]
	for _, row := range t.rows {
		if good(row) {
			kept = append(kept, row)
		}
	}
	clear(t.rows[len(kept):])
	t.rows = kept
}

func (t *mountTable) list() []nfs3.Mount {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]nfs3.Mount(nil), t.rows...)
}
