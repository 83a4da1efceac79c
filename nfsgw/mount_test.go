package nfsgw

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/willscott/go-nfs"

	"trinas/nfsgw/nfs3"
	"trinas/nfsgw/rpc"
)

func netipPort(addr string, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(addr), port)
}

// removeTwice sends REMOVE f with one xid twice and returns both statuses.
func removeTwice(t *testing.T, nc net.Conn, dir []byte) (out [2]nfs.NFSStatus) {
	t.Helper()
	b := make([]byte, 4)
	for _, v := range []uint32{500, 0, 2, nfs3.Program, nfs3.Version, uint32(nfs.NFSProcedureRemove), rpc.AuthSys, 20, 0, 0, 0, 0, 0, 0, 0} {
		b = rpc.AppendUint32(b, v)
	}
	b = (&nfs3.NameArgs{FH: dir, Name: "f"}).Append(b)
	binary.BigEndian.PutUint32(b, 1<<31|uint32(len(b)-4))
	for i := range out {
		if _, err := nc.Write(b); err != nil {
			t.Fatal(err)
		}
		var mark [4]byte
		if _, err := io.ReadFull(nc, mark[:]); err != nil {
			t.Fatal(err)
		}
		reply := make([]byte, binary.BigEndian.Uint32(mark[:])&^(1<<31))
		if _, err := io.ReadFull(nc, reply); err != nil {
			t.Fatal(err)
		}
		out[i] = nfs.NFSStatus(binary.BigEndian.Uint32(reply[24:]))
	}
	return out
}

// TestMount: MNT of volumes and directories in them, and what it refuses.
func TestMount(t *testing.T) {
	g := startGateway(t, Options{})
	ctx := context.Background()
	var made nfs3.CreateRes
	g.call(t, nfs.NFSProcedureMkDir, &nfs3.MkDirArgs{NameArgs: nfs3.NameArgs{FH: g.root, Name: "sub"}}, &made)
	sub := made.FH
	g.call(t, nfs.NFSProcedureMkDir, &nfs3.MkDirArgs{NameArgs: nfs3.NameArgs{FH: sub, Name: "dir"}}, &made)
	g.create(t, sub, "file")
	for path, want := range map[string]nfs.MountStatus{
		"/vol": 0, "/vol/": 0, "//vol//sub": 0, "/vol/sub/dir": 0, "/other": 0,
		"/": nfs.MountStatusErrNoEnt, "": nfs.MountStatusErrNoEnt, "vol": nfs.MountStatusErrNoEnt,
		"/nope": nfs.MountStatusErrNoEnt, "/vol/nope": nfs.MountStatusErrNoEnt,
		"/vol/sub/file": nfs.MountStatusErrNotDir, "/vol/sub/file/x": nfs.MountStatusErrNotDir,
		"/vol/sub/..": nfs.MountStatusErrInval, "/other/x": nfs.MountStatusErrNoEnt,
	} {
		var res nfs3.MntRes
		if err := g.CallMount(ctx, nfs.MountProcMount, &nfs3.PathArgs{Path: path}, &res); err != nil {
			t.Fatal(err)
		}
		if res.Status != want {
			t.Errorf("MNT %q: status %d, want %d", path, res.Status, want)
		}
		if want == 0 && (len(res.FH) != nfs3.HandleBytes || len(res.Flavors) != 1 || res.Flavors[0] != rpc.AuthSys) {
			t.Errorf("MNT %q: %+v", path, res)
		}
	}
	if fh, err := g.Mnt(ctx, "/vol/sub/dir"); err != nil || string(fh) != string(made.FH) {
		t.Errorf("MNT of a directory: %x, %v", fh, err)
	}
}

// TestMount_Table: EXPORT lists the volumes, DUMP who mounted, until UMNT and UMNTALL; the table
// is bounded.
func TestMount_Table(t *testing.T) {
	g := startGateway(t, Options{})
	ctx := context.Background()
	var exports nfs3.ExportRes
	if err := g.CallMount(ctx, nfs.MountProcExport, nil, &exports); err != nil || len(exports.Exports) != 2 || exports.Exports[1].Path != "/vol" {
		t.Errorf("EXPORT: %+v, %v", exports, err)
	}
	dump := func() string {
		var res nfs3.DumpRes
		if err := g.CallMount(ctx, nfs.MountProcDump, nil, &res); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(res.Mounts)
	}
	if _, err := g.Mnt(ctx, "/other"); err != nil {
		t.Fatal(err)
	}
	if got := dump(); got != "[{127.0.0.1 /vol} {127.0.0.1 /other}]" {
		t.Error(got)
	}
	if err := g.CallMount(ctx, nfs.MountProcUmnt, &nfs3.PathArgs{Path: "/vol"}, nil); err != nil {
		t.Error(err)
	}
	if got := dump(); got != "[{127.0.0.1 /other}]" {
		t.Error(got)
	}
	if err := g.CallMount(ctx, nfs.MountProcUmntAll, nil, nil); err != nil || dump() != "[]" {
		t.Error(err, dump())
	}
	var table mountTable
	for i := range 3 * maxMounts {
		table.add(nfs3.Mount{Host: "h", Path: fmt.Sprint(i)})
	}
	if rows := table.list(); len(rows) != maxMounts || rows[0].Path != fmt.Sprint(2*maxMounts) {
		t.Errorf("%d rows", len(rows))
	}
}
