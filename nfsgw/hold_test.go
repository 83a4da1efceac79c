package nfsgw

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/willscott/go-nfs"

	"trinas/nfsgw/nfs3"
	"trinas/replica/volume"
)

// deadVolume has no primary and has long had none.
const deadVolume volume.ID = 77

// lameBackend is a testBackend beside which deadVolume waits, as replica.Node has operations wait,
// until it is revived.
type lameBackend struct {
	*testBackend
	sent    atomic.Bool   // operations may have been carried out
	revived chan struct{} // closed: they are answered
	waiting atomic.Int32
}

func (b *lameBackend) Do(ctx context.Context, vol volume.ID, op *volume.Op, res *volume.Result) error {
	if vol != deadVolume {
		return b.testBackend.Do(ctx, vol, op, res)
	}
	b.waiting.Add(1)
	defer b.waiting.Add(-1)
	for {
		select {
		case <-b.revived: // before it asks: what it has answered may count as held for a moment more
			*res = volume.Result{Count: uint32(len(op.Data))}
			return nil
		default:
		}
		sent := b.sent.Load()
		if !op.OnHold(sent) && !sent {
			return errors.New("the volume has no primary")
		}
		select {
		case <-b.revived:
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// startLame starts a gateway over a lameBackend; the dead volume's root is the second result.
func startLame(t *testing.T) (*gateway, *lameBackend, []byte) {
	t.Helper()
	lame := &lameBackend{revived: make(chan struct{})}
	g := startGateway(t, Options{}, func(b *testBackend) Backend {
		lame.testBackend = b
		return lame
	})
	dead, err := g.Mnt(context.Background(), "/other")
	if err != nil {
		t.Fatal(err)
	}
	return g, lame, dead
}

// send makes n calls at the same time, on g's one connection, and returns where their statuses come.
func (g *gateway) send(t *testing.T, n int, proc nfs.NFSProcedure, args nfs3.Args) chan nfs.NFSStatus {
	t.Helper()
	out := make(chan nfs.NFSStatus, n)
	for range n {
		go func() {
			var res statusOnly
			if err := g.Call(context.Background(), proc, args, &res); err != nil {
				t.Error(err)
			}
			out <- nfs.NFSStatus(res)
		}()
	}
	return out
}

// live makes calls on the live volume, which must be answered.
func (g *gateway) live(t *testing.T, when string, fh []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for range 20 {
		if _, _, err := g.Write(ctx, fh, 0, make([]byte, 4096), nfs3.FileSync); err != nil {
			t.Fatalf("%s: WRITE to the live volume: %v", when, err)
		}
		if _, _, err := g.Read(ctx, fh, 0, 4096); err != nil {
			t.Fatalf("%s: READ of the live volume: %v", when, err)
		}
	}
}

// await waits until the dead volume has n requests waiting.
func (b *lameBackend) await(t *testing.T, n int32) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); b.waiting.Load() != n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d requests wait, want %d", b.waiting.Load(), n)
		}
	}
}

// settle waits until each of so many calls is answered or waits, and stays so, and returns how many wait.
func (b *lameBackend) settle(t *testing.T, calls int, out chan nfs.NFSStatus) int {
	t.Helper()
	same := 0
	for end := time.Now().Add(20 * time.Second); same < 50; time.Sleep(time.Millisecond) {
		if same++; len(out)+int(b.waiting.Load()) != calls {
			same = 0
		}
		if time.Now().After(end) {
			t.Fatalf("of %d requests %d are answered and %d wait", calls, len(out), b.waiting.Load())
		}
	}
	return int(b.waiting.Load())
}

// Goal: of requests for a dead volume 64 are held on a connection and the others put off, however
// large they are; the live volume on the same connection is served all the time; those that were
// held are answered when the volume is back.
func TestHold_NeverSent(t *testing.T) {
	for name, args := range map[string]nfs3.Args{"small": &nfs3.WriteArgs{Data: make([]byte, 100)}, "large": &nfs3.WriteArgs{Data: make([]byte, 1<<20)}} {
		t.Run(name, func(t *testing.T) {
			g, lame, dead := startLame(t)
			fh := g.create(t, g.root, "f")
			args.(*nfs3.WriteArgs).FH = dead
			const calls = 200
			want := 64
			if name == "large" {
				want = 47 // what half of 96 MiB has room for
			}
			out := g.send(t, calls, nfs.NFSProcedureWrite, args)
			held := lame.settle(t, calls, out)
			if held != want {
				t.Errorf("%d requests are held, want %d", held, want)
			}
			for range calls - held {
				wantStatus(t, "WRITE above what is held", <-out, nfs.NFSStatusJukebox)
			}
			g.live(t, "beside held requests", fh)
			wantStatus(t, "WRITE when enough is held", <-g.send(t, 1, nfs.NFSProcedureWrite, args), nfs.NFSStatusJukebox)
			close(lame.revived)
			for range held {
				wantStatus(t, "a held WRITE", <-out, nfs.NFSStatusOk)
			}
			wantStatus(t, "GETATTR of the volume that is back", <-g.send(t, 1, nfs.NFSProcedureGetAttr, &nfs3.HandleArgs{FH: dead}), nfs.NFSStatusOk)
		})
	}
}

// Goal: what may have been carried out is never put off, nor what must not be carried out twice;
// as much of that as a connection can have under way leaves it free for the live volume. Method:
// 32 WRITEs of 1 MiB, which fill the connection's memory, or 228 small requests: 128 may be on hold,
// and the rest leaves 28 of the 128 that may be under way.
func TestHold_Sent(t *testing.T) {
	large := &nfs3.WriteArgs{Data: make([]byte, 1<<20)}
	small := &nfs3.WriteArgs{Data: make([]byte, 100)}
	remove := &nfs3.NameArgs{Name: "f"}
	for name, tc := range map[string]struct {
		sent  bool
		calls int
		proc  nfs.NFSProcedure
		args  nfs3.Args
		fh    *[]byte
	}{
		"large WRITEs":         {true, 32, nfs.NFSProcedureWrite, large, &large.FH},
		"small WRITEs":         {true, 228, nfs.NFSProcedureWrite, small, &small.FH},
		"REMOVE that was sent": {true, 228, nfs.NFSProcedureRemove, remove, &remove.FH},
		"REMOVE":               {false, 228, nfs.NFSProcedureRemove, remove, &remove.FH},
	} {
		t.Run(name, func(t *testing.T) {
			g, lame, dead := startLame(t)
			fh := g.create(t, g.root, "f")
			lame.sent.Store(tc.sent)
			*tc.fh = dead
			out := g.send(t, tc.calls, tc.proc, tc.args)
			lame.await(t, int32(tc.calls))
			g.live(t, "beside requests that cannot be put off", fh)
			if len(out) != 0 {
				t.Fatalf("answered with status %d", <-out)
			}
			close(lame.revived)
			for range tc.calls {
				wantStatus(t, "when the volume is back", <-out, nfs.NFSStatusOk)
			}
		})
	}
}
