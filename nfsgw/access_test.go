package nfsgw

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/willscott/go-nfs"

	"trinas/nfsgw/nfs3"
	"trinas/nfsgw/rpc"
	"trinas/replica/volume"
)

// elsewhere is a listener whose clients seem to come from addr, with their own port.
type elsewhere struct {
	net.Listener
	addr netip.Addr
}

type movedConn struct {
	*net.TCPConn
	remote net.Addr
}

func (c movedConn) RemoteAddr() net.Addr { return c.remote }

func (l elsewhere) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	port := nc.RemoteAddr().(*net.TCPAddr).Port
	return movedConn{nc.(*net.TCPConn), &net.TCPAddr{IP: l.addr.AsSlice(), Port: port}}, nil
}

// remoteClient is a client of g's server that seems to come from addr.
func (g *gateway) remoteClient(t *testing.T, addr string, cred rpc.Cred) *nfs3.Client {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- g.server.rpc.Serve(elsewhere{l, netip.MustParseAddr(addr)}) }()
	c, err := rpc.Dial(context.Background(), "tcp", l.Addr().String(), false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return nfs3.NewClient(c, cred)
}

func allowRule(client string, readOnly bool, how volume.Squash) volume.Rule {
	return volume.Rule{Client: netip.MustParsePrefix(client), ReadOnly: readOnly, Squash: how}
}

// Goal: who has no rule gets nothing, neither by MNT nor with a handle from elsewhere, for every
// procedure; a rule holds from the next request on, and its end too. Loopback clients need none.
func TestAccess_Rules(t *testing.T) {
	g := startGateway(t, Options{})
	ctx := context.Background()
	fh := g.create(t, g.root, "f")
	c := g.remoteClient(t, "192.0.2.7", rpc.Cred{Flavor: rpc.AuthSys})
	mnt := func() nfs.MountStatus {
		var res nfs3.MntRes
		if err := c.CallMount(ctx, nfs.MountProcMount, &nfs3.PathArgs{Path: "/vol"}, &res); err != nil {
			t.Fatal(err)
		}
		return res.Status
	}
	refused := func(when string) {
		t.Helper()
		if got := mnt(); got != nfs.MountStatusErrAcces {
			t.Errorf("%s: MNT: status %d", when, got)
		}
		name := nfs3.NameArgs{FH: g.root, Name: "f"}
		for proc, args := range map[nfs.NFSProcedure]nfs3.Args{
			nfs.NFSProcedureGetAttr: &nfs3.HandleArgs{FH: fh}, nfs.NFSProcedureSetAttr: &nfs3.SetAttrArgs{FH: fh},
			nfs.NFSProcedureLookup: &name, nfs.NFSProcedureAccess: &nfs3.AccessArgs{FH: fh, Access: 1},
			nfs.NFSProcedureReadlink: &nfs3.HandleArgs{FH: fh}, nfs.NFSProcedureRead: &nfs3.ReadArgs{FH: fh, Count: 10},
			nfs.NFSProcedureWrite:  &nfs3.WriteArgs{FH: fh, Data: []byte("x")},
			nfs.NFSProcedureCreate: &nfs3.CreateArgs{NameArgs: name}, nfs.NFSProcedureMkDir: &nfs3.MkDirArgs{NameArgs: name},
			nfs.NFSProcedureSymlink: &nfs3.SymlinkArgs{NameArgs: name, Target: "t"},
			nfs.NFSProcedureMkNod:   &nfs3.MkNodArgs{NameArgs: name, Type: nfs.FileTypeFIFO},
			nfs.NFSProcedureRemove:  &name, nfs.NFSProcedureRmDir: &name,
			nfs.NFSProcedureRename: &nfs3.RenameArgs{From: name, To: name}, nfs.NFSProcedureLink: &nfs3.LinkArgs{FH: fh, To: name},
			nfs.NFSProcedureReadDir:     &nfs3.ReadDirArgs{FH: g.root, Count: 4096},
			nfs.NFSProcedureReadDirPlus: &nfs3.ReadDirPlusArgs{FH: g.root, MaxCount: 4096},
			nfs.NFSProcedureFSStat:      &nfs3.HandleArgs{FH: fh}, nfs.NFSProcedureFSInfo: &nfs3.HandleArgs{FH: fh},
			nfs.NFSProcedurePathConf: &nfs3.HandleArgs{FH: fh}, nfs.NFSProcedureCommit: &nfs3.ReadArgs{FH: fh},
		} {
			var res statusOnly
			if err := c.Call(ctx, proc, args, &res); err != nil {
				t.Fatal(err)
			}
			wantStatus(t, when+": "+proc.String(), nfs.NFSStatus(res), nfs.NFSStatusAccess)
		}
	}
	refused("without a rule")
	g.backend.allow(allowRule("192.0.2.8/32", false, volume.SquashNone))
	refused("with another's rule")
	g.backend.allow(allowRule("192.0.2.0/24", false, volume.SquashNone))
	if got := mnt(); got != nfs.MountStatusOk {
		t.Errorf("MNT with a rule: status %d", got)
	}
	if _, _, err := c.Write(ctx, fh, 0, []byte("x"), nfs3.FileSync); err != nil {
		t.Errorf("WRITE with a rule: %v", err)
	}
	g.backend.allow()
	refused("after the rule's end")
	if _, err := g.GetAttr(ctx, fh); err != nil {
		t.Errorf("on the loopback: %v", err)
	}
}

// statusOnly takes any NFS results and keeps their status.
type statusOnly nfs.NFSStatus

func (s *statusOnly) Decode(b []byte) error {
	d := rpc.NewDecoder(b)
	*s = statusOnly(d.Uint32())
	return d.Err()
}

// Goal: a client that may only read reads, is told so by ACCESS, and changes nothing.
func TestAccess_ReadOnly(t *testing.T) {
	g := startGateway(t, Options{})
	ctx := context.Background()
	fh := g.create(t, g.root, "f")
	if _, _, err := g.Write(ctx, fh, 0, []byte("text"), nfs3.FileSync); err != nil {
		t.Fatal(err)
	}
	g.backend.allow(allowRule("192.0.2.0/24", true, volume.SquashNone))
	c := g.remoteClient(t, "192.0.2.7", rpc.Cred{Flavor: rpc.AuthSys})
	if data, _, err := c.Read(ctx, fh, 0, 10); err != nil || string(data) != "text" {
		t.Errorf("READ: %q, %v", data, err)
	}
	var access nfs3.AccessRes
	if err := c.Call(ctx, nfs.NFSProcedureAccess, &nfs3.AccessArgs{FH: g.root, Access: 0x3f}, &access); err != nil {
		t.Fatal(err)
	}
	if access.Status != nfs.NFSStatusOk || access.Access != 0x03 {
		t.Errorf("ACCESS: %+v; want read and lookup alone", access)
	}
	name := nfs3.NameArgs{FH: g.root, Name: "f"}
	for proc, args := range map[nfs.NFSProcedure]nfs3.Args{
		nfs.NFSProcedureSetAttr: &nfs3.SetAttrArgs{FH: fh}, nfs.NFSProcedureWrite: &nfs3.WriteArgs{FH: fh, Data: []byte("x")},
		nfs.NFSProcedureCreate: &nfs3.CreateArgs{NameArgs: name}, nfs.NFSProcedureMkDir: &nfs3.MkDirArgs{NameArgs: name},
		nfs.NFSProcedureSymlink: &nfs3.SymlinkArgs{NameArgs: name, Target: "t"},
		nfs.NFSProcedureMkNod:   &nfs3.MkNodArgs{NameArgs: name, Type: nfs.FileTypeFIFO},
		nfs.NFSProcedureRemove:  &name, nfs.NFSProcedureRmDir: &name,
		nfs.NFSProcedureRename: &nfs3.RenameArgs{From: name, To: name}, nfs.NFSProcedureLink: &nfs3.LinkArgs{FH: fh, To: name},
		nfs.NFSProcedureCommit: &nfs3.ReadArgs{FH: fh},
	} {
		var res statusOnly
		if err := c.Call(ctx, proc, args, &res); err != nil {
			t.Fatal(err)
		}
		wantStatus(t, proc.String(), nfs.NFSStatus(res), nfs.NFSStatusROFS)
	}
}

// Goal: operations carry who the rule says the caller is.
func TestAccess_Squash(t *testing.T) {
	g := startGateway(t, Options{})
	root := rpc.Cred{Flavor: rpc.AuthSys, Groups: []uint32{0, 7}}
	user := rpc.Cred{Flavor: rpc.AuthSys, UID: 5, GID: 6, Groups: []uint32{0, 7}}
	for _, tc := range []struct {
		how  volume.Squash
		cred rpc.Cred
		want string
	}{
		{volume.SquashNone, root, "{0 0 [0 7]}"}, {volume.SquashNone, user, "{5 6 [0 7]}"},
		{volume.SquashRoot, root, "{65534 65534 [65534 7]}"}, {volume.SquashRoot, user, "{5 6 [65534 7]}"},
		{volume.SquashAll, root, "{65534 65534 []}"}, {volume.SquashAll, user, "{65534 65534 []}"},
		{volume.SquashNone, rpc.Cred{}, "{65534 65534 []}"},
	} {
		g.backend.allow(allowRule("2001:db8::/32", false, tc.how))
		c := g.remoteClient(t, "2001:db8::7", tc.cred)
		if _, err := c.GetAttr(context.Background(), g.root); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(g.backend.lastOp.Cred); got != tc.want {
			t.Errorf("%v of %v: %s, want %s", tc.how, tc.cred, got, tc.want)
		}
	}
}

// Goal: EXPORT names who may mount each volume, and never nobody, which would mean everybody.
func TestAccess_Export(t *testing.T) {
	g := startGateway(t, Options{})
	g.backend.allow(allowRule("0.0.0.0/0", true, volume.SquashAll), allowRule("192.0.2.7/32", false, volume.SquashNone))
	var exports nfs3.ExportRes
	if err := g.CallMount(context.Background(), nfs.MountProcExport, nil, &exports); err != nil {
		t.Fatal(err)
	}
	want := []nfs3.Export{{Path: "/other", Groups: []string{"127.0.0.1"}}, {Path: "/vol", Groups: []string{"192.0.2.7", "0.0.0.0/0"}}}
	if !slices.EqualFunc(exports.Exports, want, func(a, b nfs3.Export) bool {
		return a.Path == b.Path && slices.Equal(a.Groups, b.Groups)
	}) {
		t.Errorf("EXPORT: %+v", exports)
	}
}
