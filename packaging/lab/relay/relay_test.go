package relay

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/willscott/go-nfs"

	"trinas/nfsgw/nfs3"
	"trinas/nfsgw/rpc"
)

// gateway is an RPC server that answers every NFS call with OK and remembers who called what.
type gateway struct {
	addr string

	mu    sync.Mutex
	calls []rpc.Call
}

func startGateway(t *testing.T) *gateway {
	t.Helper()
	g := &gateway{}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.addr = l.Addr().String()
	s := rpc.NewServer(rpc.Options{}, rpc.Program{
		Number: nfs3.Program, Low: 3, High: 3,
		Handle: func(_ context.Context, in *rpc.Call, out *rpc.Reply) rpc.AcceptStat {
			g.mu.Lock()
			g.calls = append(g.calls, rpc.Call{XID: in.XID, Proc: in.Proc, Remote: in.Remote})
			g.mu.Unlock()
			out.Body = rpc.AppendUint32(out.Body, uint32(nfs.NFSStatusOk))
			return rpc.Success
		},
	})
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		<-ended
	})
	return g
}

// openRelay starts a relay before g.
func openRelay(t *testing.T, g *gateway) (r *Relay, addr string) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r = Open(l, func(port int) (net.Conn, error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 3), Port: port}}
		return d.Dial("tcp4", g.addr)
	})
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r, l.Addr().String()
}

// record is an NFS call without a credential.
func record(xid uint32, proc nfs.NFSProcedure) []byte {
	b := []byte{0, 0, 0, 0}
	for _, v := range []uint32{xid, msgCall, rpc.Version, nfs3.Program, 3, uint32(proc), 0, 0, 0, 0} {
		b = rpc.AppendUint32(b, v)
	}
	binary.BigEndian.PutUint32(b, 1<<31|uint32(len(b)-4))
	return b
}

// connect connects to addr from a port; 0: any.
func connect(t *testing.T, addr string, port int) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}}
	nc, err := d.Dial("tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return nc
}

// exchange sends a call and returns the xid of the next reply.
func exchange(t *testing.T, nc net.Conn, call []byte) (uint32, error) {
	t.Helper()
	if _, err := nc.Write(call); err != nil {
		t.Fatal(err)
	}
	return reply(nc)
}

func reply(nc net.Conn) (uint32, error) {
	_, message, err := readRecord(nc)
	if err != nil {
		return 0, err
	}
	xid, _, err := decodeReply(message)
	return xid, err
}

// Goal: exactly the reply that was asked for is lost, and its repetition reaches the gateway as the
// same client's. Others' calls and replies pass, on the same connection too.
func TestRelay_Drop(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	g := startGateway(t)
	r, addr := openRelay(t, g)
	nc := connect(t, addr, 0)
	port := nc.LocalAddr().(*net.TCPAddr).Port
	if err := r.Drop("MKDIR"); err != nil {
		t.Fatal(err)
	}
	lost := record(7, nfs.NFSProcedureMkDir)
	if _, err := nc.Write(lost); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Dropped(ctx); err != nil || len(got) != 1 || got[0].Call != "MKDIR" || got[0].Answered {
		t.Fatalf("dropped: %+v, %v", got, err)
	}
	// The next reply is that to another call; a further MKDIR passes.
	for xid, proc := range map[uint32]nfs.NFSProcedure{8: nfs.NFSProcedureRmDir, 9: nfs.NFSProcedureMkDir} {
		if got, err := exchange(t, nc, record(xid, proc)); err != nil || got != xid {
			t.Errorf("reply to %d: %d, %v", xid, got, err)
		}
	}
	if err := r.Drop("MKDIR"); err == nil {
		t.Error("a loss was forgotten before its call was answered")
	}

	var again error
	var sent sync.WaitGroup
	sent.Go(func() {
		if _, err := reply(nc); err == nil || errors.Is(err, io.EOF) {
			again = errors.New("the connection was not reset")
			return
		}
		nc.Close()
		nc := connect(t, addr, port)
		xid, err := exchange(t, nc, lost)
		if err != nil || xid != 7 {
			again = errors.Join(errors.New("no reply to the repetition"), err)
		}
	})
	got, err := r.Resend(ctx)
	sent.Wait()
	if err = errors.Join(err, again); err != nil {
		t.Fatal(err)
	}
	if l := got[0]; l.Again != 1 || l.First != nfs.NFSStatusOk || l.Last != nfs.NFSStatusOk {
		t.Errorf("resent: %+v", l)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	twice := slices.DeleteFunc(slices.Clone(g.calls), func(c rpc.Call) bool { return c.XID != 7 })
	if len(twice) != 2 || twice[0].Remote != twice[1].Remote || int(twice[0].Remote.Port()) != port {
		t.Errorf("the gateway saw %+v, the client's port is %d", twice, port)
	}
	if len(g.calls) != 4 {
		t.Errorf("the gateway got %d calls, 4 were made", len(g.calls))
	}
}

// Goal: waiting for a call that nobody makes ends, and says which.
func TestRelay_NeverCalled(t *testing.T) {
	r, _ := openRelay(t, startGateway(t))
	if err := r.Drop("REMOVE"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := r.Dropped(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "REMOVE") {
		t.Errorf("dropped: %v", err)
	}
}

// Goal: calls have the names that the README of scenario once uses.
func TestNameOf(t *testing.T) {
	name := nfs3.NameArgs{FH: []byte("handle"), Name: "new"}
	tests := []struct {
		want string
		proc nfs.NFSProcedure
		args nfs3.Args
	}{
		{"CREATE", nfs.NFSProcedureCreate, &nfs3.CreateArgs{NameArgs: name}},
		{"CREATE/GUARDED", nfs.NFSProcedureCreate, &nfs3.CreateArgs{NameArgs: name, How: nfs3.Guarded}},
		{"CREATE/EXCLUSIVE", nfs.NFSProcedureCreate, &nfs3.CreateArgs{NameArgs: name, How: nfs3.Exclusive}},
		{"SETATTR", nfs.NFSProcedureSetAttr, &nfs3.SetAttrArgs{FH: name.FH}},
		{"SETATTR/GUARDED", nfs.NFSProcedureSetAttr, &nfs3.SetAttrArgs{FH: name.FH, Guard: &nfs3.Time{}}},
		{"RMDIR", nfs.NFSProcedureRmDir, &name},
	}
	for _, tt := range tests {
		if got := nameOf(tt.proc, tt.args.Append(nil)); got != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
}
