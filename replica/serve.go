package replica

import (
	"time"

	"trinas/replica/volume"
)

// serve carries op out as its primary; errNotPrimary when this node is not, or ceased to be.
// enc is op encoded, for a mutation; its memory may be used again after the return.
func (g *group) serve(op *volume.Op, enc []byte, res *volume.Result) error {
	switch {
	case op.Kind == volume.Commit:
		return g.commit(op, res)
	case op.Kind.Mutates():
		return g.mutate(op, enc, res)
	default:
		return g.query(op, res)
	}
}

// mutate sends op through the log and returns once it is applied here, hence durable on a
// majority. An UNSTABLE write returns as soon as it has its place in the log, without attributes.
func (g *group) mutate(op *volume.Op, enc []byte, res *volume.Result) error {
	v := g.view.Load()
	if v.leader != g.self {
		return errNotPrimary
	}
	if takesSpace(op.Kind) && !g.hasSpace(len(op.Data)) {
		*res = volume.Result{Err: volume.ENOSPC}
		return nil
	}
	p := newProposal(enc)
	if op.Kind == volume.Write && op.Stable == volume.Unstable && g.applied.get() >= v.readyAt {
		// Only a write that will succeed may be answered before it is applied. One that looks
		// as if it would not goes the long way, and its own entry decides.
		if _, errno := g.vol.CheckWrite(op); errno == volume.OK {
			p.early, p.file = true, op.File
			p.off, p.end = op.Offset, op.Offset+uint64(len(op.Data))
		}
	}
	volume.StampTime(enc, time.Now().UnixNano())
	volume.StampChecked(enc, p.early)
	if err := g.await(p); err != nil {
		return err
	}
	if p.early {
		*res = volume.Result{Count: uint32(len(op.Data)), Verifier: p.term}
		return nil
	}
	*res = p.result
	return nil
}

// await proposes p and returns when it is answered. Without a majority that is when CheckQuorum
// ends this leadership, at the latest.
func (g *group) await(p *proposal) error {
	g.table.reserve(p)
	g.post(event{prop: p})
	<-p.done
	if p.index == 0 {
		g.table.unreserve(p)
	}
	return p.err
}

// commit returns once every write that this leadership has accepted so far is applied, hence
// durable on a majority. Writes accepted by an earlier leadership are told by the verifier, the
// term: the client sends them again (RFC 1813 §3.3.21).
func (g *group) commit(op *volume.Op, res *volume.Result) error {
	v := g.view.Load()
	if v.leader != g.self {
		return errNotPrimary
	}
	if err := g.applied.wait(v.ctx, max(g.table.newest(), v.readyAt)); err != nil {
		return err
	}
	if g.view.Load() != v {
		return errNotPrimary
	}
	attr := volume.Op{Kind: volume.GetAttr, Cred: op.Cred, File: op.File, Gen: op.Gen}
	if err := g.look(v, &attr, res); err != nil {
		return err
	}
	res.Verifier = v.term
	return nil
}

func takesSpace(k volume.Kind) bool {
	switch k {
	case volume.Write, volume.Create, volume.MkDir, volume.Symlink, volume.MkNod, volume.Link:
		return true
	}
	return false
}

// hasSpace reports whether every in-sync replica can take n bytes more and keep its reserve.
func (g *group) hasSpace(n int) bool {
	return min(g.leastFree.Load(), g.owner.freeBytes()) >= g.opt.ReserveBytes+uint64(n)
}

// noteFree remembers what a replica's disk can still take. Baton holder only.
func (g *group) noteFree(node, bytes uint64) {
	if bytes == 0 {
		return // not told
	}
	if g.freeBytes[node] == bytes {
		return
	}
	g.freeBytes[node] = bytes
	least := ^uint64(0)
	for _, b := range g.freeBytes {
		least = min(least, b)
	}
	g.leastFree.Store(least)
}
