package replica

import (
	"fmt"
	"sync"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"trinas/replica/volume"
)

// applyQueue holds committed entries, and snapshots, between Raft and the applier. Raft bounds it
// (maxApplyBytes): it hands out no more before these are applied.
type applyQueue struct {
	mu     sync.Mutex
	ready  sync.Cond
	jobs   []applyJob
	closed bool
}

// applyJob is one message of Raft's, or something else to be done between two entries.
type applyJob struct {
	msg *raftpb.Message
	do  func() error // an error means that this replica is broken
}

func (q *applyQueue) init() { q.ready.L = &q.mu }

func (q *applyQueue) put(j applyJob) {
	q.mu.Lock()
	q.jobs = append(q.jobs, j)
	q.ready.Signal()
	q.mu.Unlock()
}

// take waits for work; nil when the queue is closed.
func (q *applyQueue) take() []applyJob {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.jobs) == 0 && !q.closed {
		q.ready.Wait()
	}
	if q.closed {
		return nil
	}
	jobs := q.jobs
	q.jobs = nil
	return jobs
}

func (q *applyQueue) close() {
	q.mu.Lock()
	q.closed = true
	q.ready.Broadcast()
	q.mu.Unlock()
}

// applyLoop applies committed entries, in order, and answers the requests that wait for them.
func (g *group) applyLoop() {
	for {
		jobs := g.queue.take()
		if jobs == nil {
			return
		}
		for _, j := range jobs {
			if err := g.work(j); err != nil {
				g.fail(err)
				return
			}
		}
	}
}

func (g *group) work(j applyJob) error {
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
		cs := g.raft.ApplyConfChange(cc)
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
