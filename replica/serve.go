package replica

import (
	"context"
	"fmt"
	"math"
	"time"

	"trinas/replica/volume"
)

// serve carries op out as its primary; errNotPrimary when this node is not (then errNotSent), or
// ceased to be.
// A query also ends with ctx; a mutation when it is known what became of it, or with this leadership.
// enc is op encoded, for a mutation; its memory may be used again after the return.
func (g *group) serve(ctx context.Context, op *volume.Op, enc []byte, res *volume.Result) error {
	if op.Kind.Mutates() {
		return g.mutate(op, enc, res)
	}
	return g.query(ctx, op, res)
}

// mutate sends op through the log and returns once it is applied here, hence durable on a
// majority.
func (g *group) mutate(op *volume.Op, enc []byte, res *volume.Result) error {
	if g.view.Load().leader != g.self {
		return errNotSent
	}
	if takesSpace(op.Kind) && !g.hasSpace(len(op.Data)) {
		if done, err := g.didBefore(op.ID); err != nil {
			return err
		} else if !done {
			*res = volume.Result{Err: volume.ENOSPC}
			return nil
		}
	}
	if op.Kind == volume.Activate { // the primary's word: it is who the others are in touch with
		op.Nodes = g.owner.inTouch()
		var err error
		if enc, err = op.Encode(nil); err != nil {
			return fmt.Errorf("encode an activation: %w", err)
		}
	}
	began := time.Now()
	volume.StampTime(enc, began.UnixNano())
	p := newProposal(enc)
	if err := g.await(p); err != nil {
		return err
	}
	g.count.commits.Observe(time.Since(began))
	*res = p.result
	return nil
}

// didBefore reports whether the request was carried out already. An attempt of before, whose answer was lost, may
// still be on its way through the log: an empty entry is behind it.
func (g *group) didBefore(id volume.RequestID) (bool, error) {
	if id == (volume.RequestID{}) {
		return false, nil
	}
	if err := g.await(newProposal(nil)); err != nil {
		return false, errNotSent
	}
	return g.vol.Answered(id), nil
}

// await proposes p and returns when it is answered. Without a majority that is when CheckQuorum
// ends this leadership, at the latest.
func (g *group) await(p *proposal) error {
	g.table.reserve(p)
	g.work(event{prop: p})
	<-p.done
	if p.index == 0 {
		g.table.unreserve(p)
	}
	return p.err
}

func takesSpace(k volume.Kind) bool {
	switch k {
	case volume.Write, volume.Create, volume.MkDir, volume.Symlink, volume.MkNod, volume.Link:
		return true
	}
	return false
}

// blockBytes is the least that something new takes of a disk.
const blockBytes = 4096

// hasSpace reports whether every in-sync replica can take n bytes more, or a name or an inode, and keep its reserve.
func (g *group) hasSpace(n int) bool { return g.freeBytesLeft() >= uint64(max(n, blockBytes)) }

// freeBytesLeft is what every in-sync replica can still take beyond its reserve.
func (g *group) freeBytesLeft() uint64 {
	free := min(g.leastFree.Load(), g.owner.freeBytes())
	return free - min(free, g.opt.ReserveBytes)
}

// noteFree remembers what a replica's disk can still take. Baton holder only.
func (g *group) noteFree(node, bytes uint64) {
	if bytes != 0 && g.freeBytes[node] != bytes { // 0: not told
		g.freeBytes[node] = bytes
		g.findLeastFree()
	}
}

// dropFree forgets the space of nodes that are out of touch: only replicas that take part can be
// overrun. Baton holder only.
func (g *group) dropFree() {
	for node := range g.freeBytes {
		if !g.net.Connected(node) {
			delete(g.freeBytes, node)
		}
	}
	g.findLeastFree()
}

func (g *group) findLeastFree() {
	least := uint64(math.MaxUint64)
	for _, b := range g.freeBytes {
		least = min(least, b)
	}
	g.leastFree.Store(least)
}
