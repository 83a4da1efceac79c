package nfsgw

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"trinas/nfsgw/nfs3"
	"trinas/nfsgw/rpc"
	"trinas/replica/disk"
	"trinas/replica/volume"
)

var errNoVolume = errors.New("no such volume")

// testBackend keeps one real volume, and applies mutations to it directly: the log is a counter.
type testBackend struct {
	mu      sync.Mutex
	v       *volume.Volume
	index   uint64
	now     int64
	lastOp  volume.Op // of the last Do, without memory
	inRoom  bool      // its payload had room for a header in front
	stalled chan struct{}
	busy    error
	rules   []volume.Rule
}

const testVolume volume.ID = 1 << 33

// newTestBackend makes an empty volume "vol" on an in-memory disk.
func newTestBackend(t testing.TB) *testBackend {
	t.Helper()
	fs := disk.NewMem(1).FS()
	if err := volume.Make(fs, volume.Info{ID: testVolume, Name: "vol", Created: 1e18}, nil); err != nil {
		t.Fatal(err)
	}
	v, err := volume.Open(fs, volume.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	return &testBackend{v: v, index: 1, now: 1e18}
}

func (b *testBackend) Exports() []Export {
	b.mu.Lock()
	defer b.mu.Unlock()
	return []Export{{ID: 77, Name: "other"}, {ID: testVolume, Name: "vol", Rules: b.rules}}
}

func (b *testBackend) Rule(_ context.Context, vol volume.ID, client netip.Addr) (volume.Rule, bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if vol != testVolume {
		return volume.Rule{}, false, nil
	}
	r, ok := volume.FindRule(b.rules, client)
	return r, ok, nil
}

// allow makes the list of rules that of the volume.
func (b *testBackend) allow(rules ...volume.Rule) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rules = nil
	for _, r := range rules {
		b.rules = volume.WithRule(b.rules, r)
	}
}

func (b *testBackend) Node() uint16 { return 3 }

func (b *testBackend) Do(ctx context.Context, vol volume.ID, op *volume.Op, res *volume.Result) error {
	b.mu.Lock()
	stalled, busy := b.stalled, b.busy
	b.mu.Unlock()
	if stalled != nil {
		select {
		case <-stalled:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if busy != nil {
		return busy
	}
	if vol != testVolume {
		return errNoVolume
	}
	b.mu.Lock()
	b.lastOp = *op
	b.lastOp.Data, b.lastOp.Room = nil, nil
	b.inRoom = len(op.Room) >= len(op.Data)+volume.MaxHeaderBytes
	b.mu.Unlock()
	if !op.Kind.Mutates() {
		r, err := b.v.Query(op)
		*res = r
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.index++
	b.now += 1e6
	op.Time = b.now
	entry, err := op.Encode(nil)
	if err != nil {
		return err
	}
	*res, err = b.v.Apply(b.index, 9, entry)
	return err
}

// gateway is a server under test and a client of it.
type gateway struct {
	*nfs3.Client
	backend *testBackend
	server  *Server
	addr    string
	root    []byte
}

// startGateway starts a gateway over a testBackend, or what around makes of it.
func startGateway(t testing.TB, opt Options, around ...func(*testBackend) Backend) *gateway {
	t.Helper()
	b := newTestBackend(t)
	var served Backend = b
	for _, f := range around {
		served = f(b)
	}
	opt.Addrs, opt.NoVolume = []string{"127.0.0.1:0"}, errNoVolume
	s, err := Listen(served, opt)
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{backend: b, server: s, addr: s.Addrs()[0].String()}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	if g.Client, err = nfs3.Dial(context.Background(), g.addr, "test", opt.RPC.PrivilegedPorts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	if g.root, err = g.Mnt(context.Background(), "/vol"); err != nil {
		t.Fatal(err)
	}
	return g
}

// as is another client of the same server, with another identity.
func (g *gateway) as(t testing.TB, cred rpc.Cred) *nfs3.Client {
	t.Helper()
	c, err := rpc.Dial(context.Background(), "tcp", g.addr, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return nfs3.NewClient(c, cred)
}
