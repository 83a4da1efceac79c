package replica

import (
	"context"
	"encoding/binary"

	"go.etcd.io/raft/v3"

	"trinas/replica/volume"
)

// indexRead is a reader that has no lease to rely on: it waits until a majority has confirmed,
// after the reader began, that this member still leads (ReadIndex, Raft thesis §6.4).
type indexRead struct {
	done  chan struct{}
	index uint64 // the read must see the log applied up to here
	err   error
}

func (r *indexRead) resolve(index uint64, err error) {
	r.index, r.err = index, err
	close(r.done)
}

// readQueue gathers readers, so that those of one round share one question. Baton holder only.
type readQueue struct {
	waiting []*indexRead
	asked   map[uint64][]*indexRead
	serial  uint64
}

func (q *readQueue) init() { q.asked = map[uint64][]*indexRead{} }

func (q *readQueue) answer(rs raft.ReadState) {
	serial := binary.LittleEndian.Uint64(rs.RequestCtx)
	for _, r := range q.asked[serial] {
		r.resolve(rs.Index, nil)
	}
	delete(q.asked, serial)
}

func (q *readQueue) abandon() {
	for _, r := range q.waiting {
		r.resolve(0, errNotPrimary)
	}
	q.waiting = nil
	for serial, rs := range q.asked {
		for _, r := range rs {
			r.resolve(0, errNotPrimary)
		}
		delete(q.asked, serial)
	}
}

// askReads asks one question for all readers that came in this round.
func (g *group) askReads() {
	q := &g.reads
	if len(q.waiting) == 0 {
		return
	}
	if !g.leads() {
		q.abandon()
		return
	}
	q.serial++
	q.asked[q.serial] = q.waiting
	q.waiting = nil
	g.raft.ReadIndex(binary.LittleEndian.AppendUint64(nil, q.serial))
}

// readIndex returns once everything that was acknowledged before the call is applied here. Its error is
// ctx's, or errNotPrimary.
func (g *group) readIndex(ctx context.Context, v *view) error {
	r := &indexRead{done: make(chan struct{})}
	g.post(event{read: r})
	select {
	case <-r.done: // answered, or abandoned when this leadership ends
	case <-ctx.Done():
		return ctx.Err()
	}
	if r.err != nil {
		return r.err
	}
	return g.awaitApplied(ctx, v, r.index)
}

// awaitApplied returns once index is applied here, ctx has ended (then its error), or v has (errNotPrimary).
func (g *group) awaitApplied(ctx context.Context, v *view, index uint64) error {
	if g.applied.get() >= index {
		return nil
	}
	both, cancel := context.WithCancel(v.ctx)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	err := g.applied.wait(both, index)
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// query answers a read as the primary. The lease is checked after the bytes were read: a lease
// that held then was good for the whole read. Without it the read is done again behind a
// ReadIndex round.
func (g *group) query(ctx context.Context, op *volume.Op, res *volume.Result) error {
	v := g.view.Load()
	if v.leader != g.self {
		return errNotPrimary
	}
	// Entries of earlier terms are applied here only once this term's first one is.
	if err := g.awaitApplied(ctx, v, v.readyAt); err != nil {
		return err
	}
	if err := g.look(op, res); err != nil {
		return err
	}
	g.count.reads.Add(1)
	if v.leased(g.opt.Clock()) && g.view.Load() == v {
		return nil
	}
	g.count.leaseMisses.Add(1)
	if err := g.readIndex(ctx, v); err != nil {
		return err
	}
	return g.look(op, res)
}

// look queries the volume as it is.
func (g *group) look(op *volume.Op, res *volume.Result) error {
	r, err := g.vol.Query(op)
	if err != nil {
		g.fail(err)
		return errNotPrimary
	}
	*res = r
	if op.Kind == volume.FSStat && r.Err == volume.OK {
		res.Space.FreeBytes = min(r.Space.FreeBytes, g.freeBytesLeft())
	}
	return nil
}
