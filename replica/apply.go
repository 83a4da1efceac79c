package replica

import (
	"fmt"
	"sync"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"trinas/replica/volume"
)

// applyQueue holds committed entries, and snapshots, between Raft and whoever applies: one goroutine
// at a time (busy), which is the group's applier or, on an idle group, who else has time (group.work).
// Raft bounds it (maxApplyBytes): it hands out no more before these are applied.
type applyQueue struct {
	mu     sync.Mutex
	ready  sync.Cond
	jobs   []applyJob
	turns  uint64 // how often somebody began
	busy   bool
	closed bool
}

// applyJob is one message of Raft's, or something else to be done between two entries.
type applyJob struct {
	msg *raftpb.Message
	do  func() error // an error means that this replica is broken
}

// promptBytes: a larger entry is left to the applier, which holds up nobody.
const promptBytes = 64 << 10

// prompt reports whether the job is one small entry, as an operation on an idle group gives.
func (j applyJob) prompt() bool {
	es := j.msg.GetEntries()
	return j.msg.GetSnapshot() == nil && len(es) == 1 && es[0].GetType() == raftpb.EntryNormal &&
		len(es[0].GetData()) <= promptBytes
}

func (q *applyQueue) init() { q.ready.L = &q.mu }

func (q *applyQueue) put(j applyJob) {
	q.putQuietly(j)
	q.wake()
}

// putQuietly is put for a caller that sees to it that the job is done.
func (q *applyQueue) putQuietly(j applyJob) {
	q.mu.Lock()
	q.jobs = append(q.jobs, j)
	q.mu.Unlock()
}

// wake has the applier look.
func (q *applyQueue) wake() {
	q.mu.Lock()
	q.ready.Broadcast()
	q.mu.Unlock()
}

// take waits for work, and for others to be done with theirs; nil when the queue is closed. Whoever
// took calls done.
func (q *applyQueue) take() []applyJob {
	q.mu.Lock()
	defer q.mu.Unlock()
	for (q.busy || len(q.jobs) == 0) && !q.closed {
		q.ready.Wait()
	}
	return q.takeLocked()
}

// takeNow is take for a goroutine that was not made for it: only what is done in no time, and only
// when nobody is at it. Else nil, and the applier does it.
func (q *applyQueue) takeNow() []applyJob {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.busy || len(q.jobs) == 0: // whoever is at it looks again
		return nil
	case len(q.jobs) > 1 || !q.jobs[0].prompt():
		q.ready.Broadcast()
		return nil
	}
	return q.takeLocked()
}

func (q *applyQueue) takeLocked() []applyJob {
	if q.closed {
		return nil
	}
	jobs := q.jobs
	q.jobs, q.busy = nil, true
	q.turns++
	return jobs
}

// done ends what take began; after a failure (ok false) nothing more is given out.
func (q *applyQueue) done(ok bool) {
	q.mu.Lock()
	q.busy = false
	q.closed = q.closed || !ok
	if len(q.jobs) > 0 || q.closed {
		q.ready.Broadcast()
	}
	q.mu.Unlock()
}

// close ends the queue; it returns when nobody applies any more.
func (q *applyQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.ready.Broadcast()
	for q.busy {
		q.ready.Wait()
	}
}

// applyLoop is the applier.
func (g *group) applyLoop() {
	for {
		jobs := g.queue.take()
		if jobs == nil {
			return
		}
		g.queue.done(g.applyAll(jobs))
	}
}

// applyNow is a piece of the applier's work, for another goroutine.
func (g *group) applyNow() {
	if jobs := g.queue.takeNow(); jobs != nil {
		g.queue.done(g.applyAll(jobs))
	}
}

// applyPlace is where who applies was last seen. For the node's tick only.
type applyPlace struct {
	turn, applied uint64
	since         time.Duration // by the node's clock
}

// applyPatience is how long who applies may be at the same entry before the node asks whether the disk hangs: a write that
// waits for the disk in the middle of it shows in no other way, if whoever could write to the log waits for it.
const applyPatience = time.Second

// probeApply has the log's disk tried while somebody is at the same entry for long.
func (g *group) probeApply(now time.Duration) {
	g.queue.mu.Lock()
	turn, busy := g.queue.turns, g.queue.busy
	g.queue.mu.Unlock()
	p := &g.applyPlace
	if applied := g.applied.get(); !busy || p.turn != turn || p.applied != applied {
		*p = applyPlace{turn, applied, now}
	} else if now-p.since >= applyPatience {
		g.store.Probe()
	}
}

// applyAll applies committed entries, in order, and answers the requests that wait for them. False: this
// replica has failed.
func (g *group) applyAll(jobs []applyJob) bool {
	for _, j := range jobs {
		if err := g.applyJob(j); err != nil {
			g.fail(err)
			return false
		}
	}
	return true
}

func (g *group) applyJob(j applyJob) error {
	if j.do != nil {
		return j.do()
	}
	if j.msg.GetSnapshot() != nil {
		return g.restore(j.msg)
	}
	for _, e := range j.msg.GetEntries() {
		if err := g.applyEntry(e); err != nil {
			return err
		}
	}
	for _, r := range j.msg.GetResponses() {
		g.post(event{msg: r})
	}
	return nil
}

func (g *group) applyEntry(e *raftpb.Entry) error {
	index, term := e.GetIndex(), e.GetTerm()
	if index <= g.applied.get() {
		// A snapshot that was installed meanwhile holds it, but its configuration is that of an
		// earlier index: Raft has to see this change.
		if e.GetType() != raftpb.EntryNormal {
			_, err := g.changeConf(e)
			return err
		}
		return nil
	}
	var res volume.Result
	var err error
	if e.GetType() == raftpb.EntryNormal {
		res, err = g.sm.Apply(index, term, e.GetData())
	} else {
		err = g.applyConf(e)
	}
	if err != nil {
		return fmt.Errorf("apply entry %d of %s: %w", index, g.name, err)
	}
	g.applied.set(index)
	g.table.finish(index, term, &res)
	if g.vol == nil {
		return nil
	}
	if g.opt.Applied != nil {
		g.opt.Applied(volume.ID(g.id), index, volume.PeekKind(e.GetData()), g.vol.Digest)
	}
	if err := g.vol.Tidy(); err != nil {
		return fmt.Errorf("apply entry %d of %s: %w", index, g.name, err)
	}
	return nil
}

// applyConf changes the group's membership.
func (g *group) applyConf(e *raftpb.Entry) error {
	cs, err := g.changeConf(e)
	if err != nil {
		return err
	}
	conf, err := proto.Marshal(cs)
	if err != nil {
		return fmt.Errorf("encode the configuration: %w", err)
	}
	return g.sm.ApplyConf(e.GetIndex(), e.GetTerm(), conf)
}

// changeConf makes Raft's configuration what the entry says, and returns it.
func (g *group) changeConf(e *raftpb.Entry) (*raftpb.ConfState, error) {
	var cc raftpb.ConfChangeI
	var err error
	if e.GetType() == raftpb.EntryConfChange {
		v1 := &raftpb.ConfChange{}
		cc, err = v1, proto.Unmarshal(e.GetData(), v1)
	} else {
		v2 := &raftpb.ConfChangeV2{}
		cc, err = v2, proto.Unmarshal(e.GetData(), v2)
	}
	if err != nil {
		return nil, fmt.Errorf("decode the configuration change: %w", err)
	}
	changed := make(chan *raftpb.ConfState, 1)
	g.post(event{call: func() {
		before := g.raft.Status().Config.Voters.IDs()
		cs := g.raft.ApplyConfChange(cc)
		g.noteEntered(before, e.GetIndex())
		g.lease.lead(g.raft.Status().Config.Voters) // the old majority's answers count no more
		changed <- cs
	}})
	select {
	case cs := <-changed:
		return cs, nil
	case <-g.ctx.Done():
		return nil, ErrClosed
	}
}

// fail takes this replica out of service: the disk under it does not do what it must. The group
// goes on without it.
func (g *group) fail(err error) {
	if g.ctx.Err() != nil {
		return
	}
	g.failure.CompareAndSwap(nil, &err)
	g.log.Error("replica has failed and leaves service", "event", "replica-failed", "err", err,
		"next", "mend the disk, then restart the agent; the other replicas go on")
	g.owner.replicaFailed(g)
}
