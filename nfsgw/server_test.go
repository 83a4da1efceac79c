package nfsgw

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/willscott/go-nfs"

	"trinas/nfsgw/nfs3"
	"trinas/nfsgw/rpc"
	"trinas/replica/volume"
)

// call makes one NFS call that must be accepted.
func (g *gateway) call(t *testing.T, proc nfs.NFSProcedure, args nfs3.Args, res nfs3.Results) {
	t.Helper()
	if err := g.Call(context.Background(), proc, args, res); err != nil {
		t.Fatal(err)
	}
}

func (g *gateway) create(t *testing.T, dir []byte, name string) []byte {
	t.Helper()
	fh, err := g.Create(context.Background(), dir, name, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	return fh
}

// wantStatus checks the status of results.
func wantStatus(t *testing.T, what string, got, want nfs.NFSStatus) {
	t.Helper()
	if got != want {
		t.Errorf("%s: status %d, want %d", what, got, want)
	}
}

// TestServer_WriteRead writes and reads payloads of every kind of size, and checks data,
// attributes, stability and that the payload reaches the backend with room in front of it.
func TestServer_WriteRead(t *testing.T) {
	g := startGateway(t, Options{})
	ctx := context.Background()
	for _, n := range []int{1, 2, 3, 4, 511, 4096, 65537, volume.MaxIOBytes} {
		fh := g.create(t, g.root, fmt.Sprint("f", n))
		data := bytes.Repeat([]byte{1, 2, 3, 5, 7}, n/5+1)[:n]
		for _, how := range []nfs3.Stable{nfs3.Unstable, nfs3.DataSync, nfs3.FileSync} {
			var res nfs3.WriteRes
			g.call(t, nfs.NFSProcedureWrite, &nfs3.WriteArgs{FH: fh, Offset: 10, Stable: how, Data: data}, &res)
			wantStatus(t, "WRITE", res.Status, nfs.NFSStatusOk)
			if int(res.Count) != n || res.Committed != nfs3.FileSync || res.Verifier != uint64(testVolume) {
				t.Errorf("WRITE of %d: %+v", n, res)
			}
			if !res.Wcc.HasBefore || !res.Wcc.After.Present || res.Wcc.After.Attr.Size != uint64(n+10) {
				t.Errorf("WRITE of %d: wcc %+v", n, res.Wcc)
			}
			if !g.backend.inRoom {
				t.Errorf("WRITE of %d: room %v, %+v", n, g.backend.inRoom, g.backend.lastOp)
			}
		}
		var res nfs3.ReadRes
		g.call(t, nfs.NFSProcedureRead, &nfs3.ReadArgs{FH: fh, Offset: 10, Count: uint32(n)}, &res)
		if !bytes.Equal(res.Data, data) || !res.EOF || !res.Obj.Present || res.Obj.Attr.Size != uint64(n+10) {
			t.Errorf("READ of %d: %d bytes, %v, %+v", n, len(res.Data), res.EOF, res.Obj)
		}
		got, eof, err := g.Read(ctx, fh, 0, 10)
		if err != nil || eof || !bytes.Equal(got, make([]byte, 10)) {
			t.Errorf("READ of the hole: %x, %v, %v", got, eof, err)
		}
		if got, eof, err = g.Read(ctx, fh, 1<<62, 4096); err != nil || !eof || len(got) != 0 {
			t.Errorf("READ behind the end: %x, %v, %v", got, eof, err)
		}
		if v, err := g.Commit(ctx, fh); err != nil || v != uint64(testVolume) {
			t.Errorf("COMMIT: %d, %v", v, err)
		}
	}
	fh := g.create(t, g.root, "short")
	if got, eof, err := g.Read(ctx, fh, 0, 1<<31); err != nil || !eof || len(got) != 0 {
		t.Errorf("READ of 2 GiB of nothing: %d bytes, %v, %v", len(got), eof, err)
	}
	var res nfs3.WriteRes
	over := make([]byte, volume.MaxIOBytes+4)
	g.call(t, nfs.NFSProcedureWrite, &nfs3.WriteArgs{FH: fh, Data: over}, &res)
	if res.Status != nfs.NFSStatusOk || res.Count != volume.MaxIOBytes {
		t.Errorf("WRITE above wtmax: %+v", res)
	}
	g.call(t, nfs.NFSProcedureWrite, &nfs3.WriteArgs{FH: fh, Offset: 1<<64 - 2, Data: []byte("abcd")}, &res)
	wantStatus(t, "WRITE at the end of all offsets", res.Status, nfs.NFSStatusFBig)
}

// TestServer_Names takes a file through its names: every procedure that makes, moves and removes
// them, with handles and attributes as RFC 1813 has them.
func TestServer_Names(t *testing.T) {
	g := startGateway(t, Options{})
	ctx := context.Background()
	var made nfs3.CreateRes
	g.call(t, nfs.NFSProcedureMkDir, &nfs3.MkDirArgs{NameArgs: nfs3.NameArgs{FH: g.root, Name: "dir"}, Set: nfs3.SetAttrs{Mode: new(uint32(0o750))}}, &made)
	if made.Status != nfs.NFSStatusOk || made.Obj.Attr.Type != nfs.FileTypeDirectory || made.Obj.Attr.Mode != 0o750 ||
		!made.Dir.HasBefore || made.Dir.After.Attr.Nlink != 3 || made.Obj.Attr.FSID != uint64(testVolume) {
		t.Errorf("MKDIR: %+v", made)
	}
	dir := made.FH

	exclusive := &nfs3.CreateArgs{NameArgs: nfs3.NameArgs{FH: dir, Name: "file"}, How: nfs3.Exclusive, Verifier: 42}
	var again nfs3.CreateRes
	g.call(t, nfs.NFSProcedureCreate, exclusive, &made)
	g.call(t, nfs.NFSProcedureCreate, exclusive, &again)
	if made.Status != nfs.NFSStatusOk || again.Status != nfs.NFSStatusOk || !bytes.Equal(made.FH, again.FH) {
		t.Errorf("EXCLUSIVE CREATE and its repetition: %+v, %+v", made, again)
	}
	file := made.FH
	exclusive.Verifier++
	g.call(t, nfs.NFSProcedureCreate, exclusive, &again)
	wantStatus(t, "EXCLUSIVE CREATE by another", again.Status, nfs.NFSStatusExist)
	g.call(t, nfs.NFSProcedureCreate, &nfs3.CreateArgs{NameArgs: exclusive.NameArgs, How: nfs3.Guarded}, &again)
	wantStatus(t, "GUARDED CREATE", again.Status, nfs.NFSStatusExist)

	g.call(t, nfs.NFSProcedureSymlink, &nfs3.SymlinkArgs{NameArgs: nfs3.NameArgs{FH: dir, Name: "sym"}, Target: "../x"}, &made)
	var target nfs3.ReadLinkRes
	g.call(t, nfs.NFSProcedureReadlink, &nfs3.HandleArgs{FH: made.FH}, &target)
	if string(target.Target) != "../x" || target.Obj.Attr.Type != nfs.FileTypeLink {
		t.Errorf("READLINK: %+v", target)
	}
	g.call(t, nfs.NFSProcedureMkNod, &nfs3.MkNodArgs{NameArgs: nfs3.NameArgs{FH: dir, Name: "dev"}, Type: nfs.FileTypeBlock, Rdev: [2]uint32{8, 17}}, &made)
	if made.Status != nfs.NFSStatusOk || made.Obj.Attr.Rdev != [2]uint32{8, 17} || made.Obj.Attr.Type != nfs.FileTypeBlock {
		t.Errorf("MKNOD: %+v", made)
	}
	g.call(t, nfs.NFSProcedureMkNod, &nfs3.MkNodArgs{NameArgs: nfs3.NameArgs{FH: dir, Name: "reg"}, Type: nfs.FileTypeRegular}, &made)
	wantStatus(t, "MKNOD of a regular file", made.Status, nfs.NFSStatusBadType)

	var linked nfs3.LinkRes
	g.call(t, nfs.NFSProcedureLink, &nfs3.LinkArgs{FH: file, To: nfs3.NameArgs{FH: g.root, Name: "second"}}, &linked)
	if linked.Status != nfs.NFSStatusOk || linked.Obj.Attr.Nlink != 2 || !linked.Dir.HasBefore {
		t.Errorf("LINK: %+v", linked)
	}
	var renamed nfs3.RenameRes
	g.call(t, nfs.NFSProcedureRename, &nfs3.RenameArgs{From: nfs3.NameArgs{FH: g.root, Name: "second"}, To: nfs3.NameArgs{FH: dir, Name: "third"}}, &renamed)
	if renamed.Status != nfs.NFSStatusOk || renamed.From.After.Attr.FileID == renamed.To.After.Attr.FileID || !renamed.To.HasBefore {
		t.Errorf("RENAME: %+v", renamed)
	}
	if fh, a, err := g.Lookup(ctx, dir, "third"); err != nil || !bytes.Equal(fh, file) || a.Nlink != 2 {
		t.Errorf("LOOKUP: %v, %+v", err, a)
	}
	var gone nfs3.WccRes
	for _, name := range []string{"third", "sym", "dev", "file"} {
		g.call(t, nfs.NFSProcedureRemove, &nfs3.NameArgs{FH: dir, Name: name}, &gone)
		if gone.Status != nfs.NFSStatusOk || !gone.Wcc.HasBefore {
			t.Errorf("REMOVE %s: %+v", name, gone)
		}
	}
	if _, err := g.GetAttr(ctx, file); !isStatus(err, nfs.NFSStatusStale) {
		t.Errorf("GETATTR of a removed file: %v", err)
	}
	g.call(t, nfs.NFSProcedureRmDir, &nfs3.NameArgs{FH: g.root, Name: "dir"}, &gone)
	wantStatus(t, "RMDIR", gone.Status, nfs.NFSStatusOk)
}

func isStatus(err error, want nfs.NFSStatus) bool {
	e, ok := errors.AsType[*nfs3.StatusError](err)
	return ok && e.Status == want
}

// TestServer_SetAttr: sizes, modes and times arrive; a guard that does not match stops them.
func TestServer_SetAttr(t *testing.T) {
	g := startGateway(t, Options{})
	fh := g.create(t, g.root, "f")
	set := nfs3.SetAttrs{Mode: new(uint32(0o100600)), Size: new(uint64(5000)), MtimeHow: nfs3.TimeClient, Mtime: nfs3.Time{Sec: 7, Nsec: 8}}
	var res nfs3.WccRes
	g.call(t, nfs.NFSProcedureSetAttr, &nfs3.SetAttrArgs{FH: fh, Set: set}, &res)
	after := res.Wcc.After.Attr
	if res.Status != nfs.NFSStatusOk || after.Mode != 0o600 || after.Size != 5000 || after.Used != 0 || after.Mtime != (nfs3.Time{Sec: 7, Nsec: 8}) {
		t.Errorf("SETATTR: %+v", res)
	}
	guard := after.Ctime
	guard.Nsec ^= 1
	g.call(t, nfs.NFSProcedureSetAttr, &nfs3.SetAttrArgs{FH: fh, Set: nfs3.SetAttrs{Size: new(uint64(1))}, Guard: &guard}, &res)
	wantStatus(t, "guarded SETATTR", res.Status, nfs.NFSStatusNotSync)
	g.call(t, nfs.NFSProcedureSetAttr, &nfs3.SetAttrArgs{FH: fh, Set: nfs3.SetAttrs{Size: new(uint64(1))}, Guard: &after.Ctime}, &res)
	wantStatus(t, "SETATTR with the right guard", res.Status, nfs.NFSStatusOk)
	set.Mtime.Nsec = 1e9
	g.call(t, nfs.NFSProcedureSetAttr, &nfs3.SetAttrArgs{FH: fh, Set: set}, &res)
	wantStatus(t, "SETATTR with a bad time", res.Status, nfs.NFSStatusInval)
}

// TestServer_ReadDir lists a directory in pieces of many sizes, with files coming and going
// between them: every name that stays is seen once, and no reply is larger than asked for.
func TestServer_ReadDir(t *testing.T) {
	g := startGateway(t, Options{})
	const files = 300
	for i := range files {
		g.create(t, g.root, fmt.Sprintf("file-%0*d", 1+i%60, i))
	}
	for _, plus := range []bool{false, true} {
		for _, limit := range []uint32{400, 1000, 4096, 1 << 30} {
			seen := map[string]int{}
			cookie := uint64(0)
			for round := 0; ; round++ {
				res := nfs3.ReadDirRes{Plus: plus}
				if plus {
					g.call(t, nfs.NFSProcedureReadDirPlus, &nfs3.ReadDirPlusArgs{FH: g.root, Cookie: cookie, DirCount: limit / 2, MaxCount: limit}, &res)
				} else {
					g.call(t, nfs.NFSProcedureReadDir, &nfs3.ReadDirArgs{FH: g.root, Cookie: cookie, Count: limit}, &res)
				}
				if res.Status != nfs.NFSStatusOk || res.Verifier != 0 || !res.Dir.Present {
					t.Fatalf("%+v", res)
				}
				if n := len(res.Append(nil)) - 4; n > int(min(limit, maxDirBytes)) {
					t.Errorf("%d bytes, limit %d", n, limit)
				}
				for _, e := range res.Entries {
					seen[e.Name]++
					cookie = e.Cookie
					if !plus {
						continue
					}
					if a, err := g.GetAttr(context.Background(), e.FH); err != nil || a != e.Attr.Attr || a.FileID != e.FileID {
						t.Fatalf("%s: handle or attributes are not the file's: %v", e.Name, err)
					}
				}
				if res.EOF {
					break
				}
				if len(res.Entries) == 0 {
					t.Fatal("no entries and no end")
				}
				g.create(t, g.root, "late")
				var gone nfs3.WccRes
				g.call(t, nfs.NFSProcedureRemove, &nfs3.NameArgs{FH: g.root, Name: "late"}, &gone)
			}
			delete(seen, "late")
			if len(seen) != files+2 || seen["."] != 1 || seen[".."] != 1 {
				t.Errorf("plus %v, limit %d: %d names", plus, limit, len(seen))
			}
			for name, n := range seen {
				if n != 1 {
					t.Errorf("%s was listed %d times", name, n)
				}
			}
		}
		res := nfs3.ReadDirRes{Plus: plus}
		g.call(t, nfs.NFSProcedureReadDirPlus, &nfs3.ReadDirPlusArgs{FH: g.root, DirCount: 8, MaxCount: 100}, &res)
		wantStatus(t, "READDIRPLUS into 100 bytes", res.Status, nfs.NFSStatusTooSmall)
	}
}

// TestServer_FileSystem checks FSINFO, PATHCONF, FSSTAT and ACCESS.
func TestServer_FileSystem(t *testing.T) {
	g := startGateway(t, Options{})
	var info nfs3.FSInfoRes
	g.call(t, nfs.NFSProcedureFSInfo, &nfs3.HandleArgs{FH: g.root}, &info)
	if info.RtMax != 1<<20 || info.WtPref != 1<<20 || info.DtPref != 64<<10 || info.MaxFileBytes != volume.MaxFileBytes ||
		info.TimeDelta != (nfs3.Time{Nsec: 1}) || info.Properties != 0x1b || !info.Obj.Present {
		t.Errorf("FSINFO: %+v", info)
	}
	var conf nfs3.PathConfRes
	g.call(t, nfs.NFSProcedurePathConf, &nfs3.HandleArgs{FH: g.root}, &conf)
	if conf.LinkMax != 65000 || conf.NameMax != 255 || !conf.NoTrunc || !conf.ChownRestricted || conf.CaseInsensitive || !conf.CasePreserving {
		t.Errorf("PATHCONF: %+v", conf)
	}
	var stat nfs3.FSStatRes
	g.call(t, nfs.NFSProcedureFSStat, &nfs3.HandleArgs{FH: g.root}, &stat)
	if stat.Status != nfs.NFSStatusOk || stat.AvailBytes > stat.FreeBytes || stat.FreeBytes > stat.TotalBytes || stat.TotalFiles == 0 {
		t.Errorf("FSSTAT: %+v", stat)
	}
	fh := g.create(t, g.root, "f")
	for uid, want := range map[uint32]uint32{0: 0x0d, 5: 0x01} {
		var res nfs3.AccessRes
		c := g.as(t, rpc.Cred{Flavor: rpc.AuthSys, UID: uid, GID: 5})
		if err := c.Call(context.Background(), nfs.NFSProcedureAccess, &nfs3.AccessArgs{FH: fh, Access: 0x0d}, &res); err != nil {
			t.Fatal(err)
		}
		if res.Access != want || !res.Obj.Present {
			t.Errorf("ACCESS as %d: %+v", uid, res)
		}
	}
}

// TestServer_Cred: operations carry the caller's identity; AUTH_NONE is nobody.
func TestServer_Cred(t *testing.T) {
	g := startGateway(t, Options{})
	for _, tc := range []struct {
		cred rpc.Cred
		want string
	}{
		{rpc.Cred{Flavor: rpc.AuthSys, UID: 1, GID: 2, Groups: []uint32{3, 4}}, "{1 2 [3 4]}"},
		{rpc.Cred{}, "{65534 65534 []}"},
	} {
		if _, err := g.as(t, tc.cred).GetAttr(context.Background(), g.root); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(g.backend.lastOp.Cred); got != tc.want || g.backend.lastOp.Node != 3 {
			t.Errorf("%s, want %s", got, tc.want)
		}
	}
}

// TestServer_BadInput: handles, names and procedures that are not there get the protocol's own
// answers.
func TestServer_BadInput(t *testing.T) {
	g := startGateway(t, Options{})
	ctx := context.Background()
	root, _ := nfs3.ParseHandle(g.root)
	other := func(change func(*nfs3.Handle)) []byte {
		h := root
		change(&h)
		return h.Bytes()
	}
	for name, tc := range map[string]struct {
		fh   []byte
		want nfs.NFSStatus
	}{
		"no handle":      {nil, nfs.NFSStatusBadHandle},
		"short":          {g.root[:20], nfs.NFSStatusBadHandle},
		"64 bytes":       {make([]byte, 64), nfs.NFSStatusBadHandle},
		"version":        {append([]byte{9}, g.root[1:]...), nfs.NFSStatusBadHandle},
		"other volume":   {other(func(h *nfs3.Handle) { h.Volume++ }), nfs.NFSStatusStale},
		"no such file":   {other(func(h *nfs3.Handle) { h.File = 99999 }), nfs.NFSStatusStale},
		"old generation": {other(func(h *nfs3.Handle) { h.Gen++ }), nfs.NFSStatusStale},
	} {
		if _, err := g.GetAttr(ctx, tc.fh); !isStatus(err, tc.want) {
			t.Errorf("%s: GETATTR: %v, want %d", name, err, tc.want)
		}
		if _, _, err := g.Read(ctx, tc.fh, 0, 4096); !isStatus(err, tc.want) {
			t.Errorf("%s: READ: %v, want %d", name, err, tc.want)
		}
		if _, _, err := g.Write(ctx, tc.fh, 0, []byte("abc"), nfs3.FileSync); !isStatus(err, tc.want) {
			t.Errorf("%s: WRITE: %v, want %d", name, err, tc.want)
		}
		res := nfs3.ReadDirRes{Plus: true}
		g.call(t, nfs.NFSProcedureReadDirPlus, &nfs3.ReadDirPlusArgs{FH: tc.fh, MaxCount: 4096}, &res)
		wantStatus(t, name+": READDIRPLUS", res.Status, tc.want)
		var ren nfs3.RenameRes
		g.call(t, nfs.NFSProcedureRename, &nfs3.RenameArgs{From: nfs3.NameArgs{FH: tc.fh, Name: "a"}, To: nfs3.NameArgs{FH: tc.fh, Name: "b"}}, &ren)
		wantStatus(t, name+": RENAME", ren.Status, tc.want)
	}
	long := strings.Repeat("n", 256)
	for name, want := range map[string]nfs.NFSStatus{long: nfs.NFSStatusNameTooLong, long[:255]: nfs.NFSStatusOk} {
		if _, err := g.Create(ctx, g.root, name, 0o600); want == nfs.NFSStatusOk && err != nil || want != nfs.NFSStatusOk && !isStatus(err, want) {
			t.Errorf("CREATE of %d bytes: %v", len(name), err)
		}
	}
	for _, name := range []string{"", ".", "..", "a/b", "a\x00b"} {
		if _, err := g.Create(ctx, g.root, name, 0o600); err == nil || isStatus(err, nfs.NFSStatusJukebox) || isStatus(err, nfs.NFSStatusServerFault) {
			t.Errorf("CREATE %q: %v", name, err)
		}
	}
	var made nfs3.CreateRes
	g.call(t, nfs.NFSProcedureSymlink, &nfs3.SymlinkArgs{NameArgs: nfs3.NameArgs{FH: g.root, Name: "s"}, Target: strings.Repeat("t", 4096)}, &made)
	wantStatus(t, "SYMLINK to 4096 bytes", made.Status, nfs.NFSStatusNameTooLong)
	var linked nfs3.LinkRes
	g.call(t, nfs.NFSProcedureLink, &nfs3.LinkArgs{FH: g.root, To: nfs3.NameArgs{FH: other(func(h *nfs3.Handle) { h.Volume++ }), Name: "x"}}, &linked)
	wantStatus(t, "LINK into another volume", linked.Status, nfs.NFSStatusXDev)

	for proc := range nfs.NFSProcedure(30) {
		err := g.Call(ctx, proc, garbage{}, nil)
		e, ok := errors.AsType[*rpc.ReplyError](err)
		want := rpc.GarbageArgs
		if proc > nfs.NFSProcedureCommit {
			want = rpc.ProcUnavail
		}
		if proc == nfs.NFSProcedureNull {
			if err != nil {
				t.Error(err)
			}
		} else if !ok || e.Accept != want {
			t.Errorf("procedure %d: %v, want accept_stat %d", proc, err, want)
		}
	}
}

type garbage struct{}

func (garbage) Append(b []byte) []byte { return append(b, 0xff, 0xff, 0xff, 0xff, 1, 2, 3) }

// TestServer_Unavailable: a backend that cannot take a request on gives "try again", never an
// error that a guest would see; one that is stuck is let go when its client leaves.
func TestServer_Unavailable(t *testing.T) {
	g := startGateway(t, Options{})
	ctx := context.Background()
	fh := g.create(t, g.root, "f")
	g.backend.mu.Lock()
	g.backend.busy = errors.New("too many requests wait for a primary")
	g.backend.mu.Unlock()
	if _, _, err := g.Write(ctx, fh, 0, []byte("x"), nfs3.Unstable); !isStatus(err, nfs.NFSStatusJukebox) {
		t.Errorf("WRITE: %v", err)
	}
	if _, _, err := g.Read(ctx, fh, 0, 100); !isStatus(err, nfs.NFSStatusJukebox) {
		t.Errorf("READ: %v", err)
	}
	stalled := make(chan struct{})
	g.backend.mu.Lock()
	g.backend.busy, g.backend.stalled = nil, stalled
	g.backend.mu.Unlock()
	if _, err := g.Mnt(ctx, "/vol"); err != nil {
		t.Errorf("MNT without a primary: %v", err)
	}
	late := make(chan error, 1)
	go func() {
		_, err := g.GetAttr(ctx, fh)
		late <- err
	}()
	if err := g.Null(ctx); err != nil {
		t.Error(err)
	}
	close(stalled)
	if err := <-late; err != nil {
		t.Errorf("a request that waited for a primary: %v", err)
	}
}

// TestRequestID: a retransmission has the same name on another connection from the same port,
// another request has another.
func TestRequestID(t *testing.T) {
	call := func(port uint16, xid, proc uint32, args string) volume.RequestID {
		c := rpc.Call{XID: xid, Proc: proc, Args: []byte(args)}
		c.Remote = netipPort("10.0.0.1", port)
		return requestID(3, &c)
	}
	base := call(700, 1, 7, "args")
	if base != call(700, 1, 7, "args") {
		t.Error("not the same twice")
	}
	for _, other := range []volume.RequestID{call(701, 1, 7, "args"), call(700, 2, 7, "args"), call(700, 1, 8, "args"), call(700, 1, 7, "argt")} {
		if other == base {
			t.Error("two requests with one name")
		}
	}
	long := strings.Repeat("a", 300)
	if call(1, 1, 1, long) == call(1, 1, 1, long+"aaaa") {
		t.Error("the length does not count")
	}
	// A retransmission may reach an agent of another release: the name must not change.
	if base.Client != 0x8df40fdb7d4f95ff || base.Sum != 0xc79ce0fb {
		t.Errorf("%#x %#x", base.Client, base.Sum)
	}
}

// TestServer_Retransmission: the same REMOVE again gets the first answer, not NOENT.
func TestServer_Retransmission(t *testing.T) {
	g := startGateway(t, Options{})
	g.create(t, g.root, "f")
	nc, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	first := removeTwice(t, nc, g.root)
	wantStatus(t, "REMOVE", first[0], nfs.NFSStatusOk)
	wantStatus(t, "REMOVE again", first[1], nfs.NFSStatusOk)
}

// TestListen_Errors: mistakes are told with their cause.
func TestListen_Errors(t *testing.T) {
	g := startGateway(t, Options{})
	if _, err := Listen(g.backend, Options{Addrs: []string{"127.0.0.1:0", g.addr}}); err == nil || !strings.Contains(err.Error(), g.addr) {
		t.Error(err)
	}
	if _, err := Listen(g.backend, Options{Portmap: "yes"}); err == nil {
		t.Error("portmap = yes is taken")
	}
}
