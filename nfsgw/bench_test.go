package nfsgw

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/willscott/go-nfs"

	"trinas/nfsgw/nfs3"
	"trinas/nfsgw/rpc"
	"trinas/replica/volume"
)

// fakeBackend answers at once: what remains is the gateway's own cost.
type fakeBackend struct{}

func (fakeBackend) Exports() []Export { return []Export{{ID: 1, Name: "vol"}} }
func (fakeBackend) Node() uint16      { return 1 }
func (fakeBackend) Rule(context.Context, volume.ID, netip.Addr) (volume.Rule, bool, error) {
	return volume.Rule{}, false, nil
}

func (fakeBackend) Do(_ context.Context, _ volume.ID, op *volume.Op, res *volume.Result) error {
	res.Obj.Known, res.Verifier = true, 1
	switch op.Kind {
	case volume.Read:
		res.Data = op.Data[:op.Count]
		res.Count = op.Count
	case volume.Write:
		res.Count = uint32(len(op.Data))
	}
	return nil
}

// roundTrips sends one call after the other over a plain connection, depth at a time, so that the
// client costs as little as a client can.
func roundTrips(b *testing.B, depth int, prog uint32, proc nfs.NFSProcedure, args nfs3.Args) {
	s, err := Listen(fakeBackend{}, Options{Addrs: []string{"127.0.0.1:0"}})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Shutdown(context.Background()) }()
	nc, err := net.Dial("tcp", s.Addrs()[0].String())
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	call := make([]byte, 4)
	for _, v := range []uint32{1, 0, 2, prog, 3, uint32(proc), rpc.AuthSys, 20, 0, 0, 0, 0, 0, 0, 0} {
		call = rpc.AppendUint32(call, v)
	}
	if args != nil {
		call = args.Append(call)
	}
	binary.BigEndian.PutUint32(call, 1<<31|uint32(len(call)-4))
	if _, err := nc.Write(call); err != nil {
		b.Fatal(err)
	}
	var mark [4]byte
	if _, err := io.ReadFull(nc, mark[:]); err != nil {
		b.Fatal(err)
	}
	reply := make([]byte, 4+int(binary.BigEndian.Uint32(mark[:])&^(1<<31)))
	if _, err := io.ReadFull(nc, reply[4:]); err != nil {
		b.Fatal(err)
	}
	many, replies := make([]byte, 0, depth*len(call)), make([]byte, depth*len(reply))
	for range depth {
		many = append(many, call...)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i += depth {
		if _, err := nc.Write(many); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(nc, replies); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGateway(b *testing.B) {
	fh := nfs3.Handle{Volume: 1, File: 2, Gen: 3}.Bytes()
	write := func(n int) nfs3.Args { return &nfs3.WriteArgs{FH: fh, Data: make([]byte, n)} }
	read := func(n uint32) nfs3.Args { return &nfs3.ReadArgs{FH: fh, Count: n} }
	b.Run("null/1", func(b *testing.B) { roundTrips(b, 1, nfs3.Program, nfs.NFSProcedureNull, nil) })
	b.Run("getattr/1", func(b *testing.B) { roundTrips(b, 1, nfs3.Program, nfs.NFSProcedureGetAttr, &nfs3.HandleArgs{FH: fh}) })
	b.Run("read4k/1", func(b *testing.B) { roundTrips(b, 1, nfs3.Program, nfs.NFSProcedureRead, read(4096)) })
	b.Run("write4k/1", func(b *testing.B) { roundTrips(b, 1, nfs3.Program, nfs.NFSProcedureWrite, write(4096)) })
	b.Run("read4k/16", func(b *testing.B) { roundTrips(b, 16, nfs3.Program, nfs.NFSProcedureRead, read(4096)) })
	b.Run("write4k/16", func(b *testing.B) { roundTrips(b, 16, nfs3.Program, nfs.NFSProcedureWrite, write(4096)) })
	b.Run("read1m/4", func(b *testing.B) { roundTrips(b, 4, nfs3.Program, nfs.NFSProcedureRead, read(1<<20)) })
	b.Run("write1m/4", func(b *testing.B) { roundTrips(b, 4, nfs3.Program, nfs.NFSProcedureWrite, write(1<<20)) })
}

// TestAllocations: a 4 KiB WRITE and READ allocate next to nothing on their way.
func TestAllocations(t *testing.T) {
	for name, bench := range map[string]func(*testing.B){
		"read": func(b *testing.B) {
			roundTrips(b, 1, nfs3.Program, nfs.NFSProcedureRead, &nfs3.ReadArgs{FH: nfs3.Handle{Volume: 1}.Bytes(), Count: 4096})
		},
		"write": func(b *testing.B) {
			roundTrips(b, 1, nfs3.Program, nfs.NFSProcedureWrite, &nfs3.WriteArgs{FH: nfs3.Handle{Volume: 1}.Bytes(), Data: make([]byte, 4096)})
		},
	} {
		if n := testing.Benchmark(bench).AllocsPerOp(); n > 2 {
			t.Errorf("%s: %d allocations", name, n)
		}
	}
}
