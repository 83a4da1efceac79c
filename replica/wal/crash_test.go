package wal

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"trinas/replica/disk"

	"go.etcd.io/raft/v3/raftpb"
)

// model is what a log must hold: what every step so far has made of it.
type model map[uint64]*modelGroup

type modelGroup struct {
	hard    hardState
	base    uint64 // of the last Reset
	last    uint64
	floor   uint64            // compacted up to here at some time: never cut below
	terms   map[uint64]uint64 // of every index since the base, compacted or not, and of the base
	data    map[uint64]string
	commits []uint64 // every commit index since the last synced one, and that
}

func (m model) clone() model {
	c := model{}
	for id, g := range m {
		d := *g
		d.terms, d.data = maps.Clone(g.terms), maps.Clone(g.data)
		c[id] = &d
	}
	return c
}

func (m model) group(id uint64) *modelGroup {
	if m[id] == nil {
		m[id] = &modelGroup{terms: map[uint64]uint64{0: 0}, data: map[uint64]string{}}
	}
	return m[id]
}

// step is the smallest thing that a crash keeps whole or loses whole.
type step func(m model)

// crashRun is a series of runs of a log over one disk, each ended by a crash or a Close.
type crashRun struct {
	t     *testing.T
	seed  uint64
	rng   *rand.Rand
	mem   *disk.Mem
	now   model  // when everything queued is done
	sure  model  // what the last run left
	steps []step // of this run
	acked atomic.Int64
	term  uint64
}

var crashOptions = Options{SegmentBytes: 64 << 10, CacheBytes: 20 << 10}

var errKilled = errors.New("the process is killed")

// run opens the log, does random things until crashAt operations of the disk have passed (or all
// things are done), crashes or closes, opens again and checks. It reports whether crashAt was
// reached. Some runs end by the kill of the process alone; the machine then crashes after the
// check, which must not lose what the log has just shown.
func (c *crashRun) run(crashAt, things int) bool {
	ops, crashed, killed := atomic.Int64{}, atomic.Bool{}, c.rng.IntN(3) == 0
	c.steps, c.sure = nil, c.now.clone()
	c.acked.Store(0)
	c.mem.OnOp(func(op, name string, off, n int64) error {
		switch n := ops.Add(1); {
		case n < int64(crashAt):
		case killed:
			crashed.Store(true)
			return errKilled
		case n == int64(crashAt):
			crashed.Store(true)
			c.mem.Crash()
		}
		return nil
	})
	l, err := Open(c.mem.FS(), crashOptions, nil)
	if err == nil {
		for range things {
			c.something(l)
			if crashed.Load() {
				break
			}
		}
		if !crashed.Load() && c.rng.IntN(2) == 0 {
			c.wait(l)
		}
		err = l.Close()
	}
	if err != nil && !crashed.Load() {
		c.t.Fatalf("seed %d: %v", c.seed, err)
	}
	c.mem.OnOp(nil)
	reached := crashed.Load()
	if !reached && c.rng.IntN(2) == 0 {
		c.mem.Crash()
	}
	c.verify()
	if reached && killed {
		c.mem.Crash()
		c.steps, c.sure = nil, c.now.clone()
		c.acked.Store(0)
		c.verify()
	}
	return reached
}

// something queues one random thing.
func (c *crashRun) something(l *Log) {
	id := c.rng.Uint64N(3) + 1
	if c.now[id] == nil && id == 3 && c.rng.IntN(4) > 0 {
		id = 1
	}
	g, m := l.Group(id), c.now.group(id)
	switch n := c.rng.IntN(100); {
	case n < 60:
		c.append(l, g, m)
	case n < 70:
		c.wait(l)
	case n < 85:
		c.wait(l)
		last, _ := g.LastIndex()
		if last = min(last, m.last); last > m.base { // a log that has failed may still have what was to be cut
			index := last - c.rng.Uint64N(min(4, last-m.base))
			if index > m.floor {
				m.floor = index
				c.steps = append(c.steps, func(m model) { m.group(id).floor = index })
				g.Compact(index)
			}
		}
	case n < 95: // the commit index alone, not synced
		hard := m.hard
		hard.commit = max(hard.commit, m.last)
		c.queue(l, Append{Group: g, HardState: hard.proto()}, setCommit(id, hard.commit, false))
	case n < 98:
		index, term := m.last+c.rng.Uint64N(50), c.term
		c.steps = append(c.steps, func(m model) { m.group(id).reset(index, term) })
		m.reset(index, term)
		g.Reset(index, term, c.done(len(c.steps)))
	case id == 3: // ids are never used again: this group is done for in this run
		c.steps = append(c.steps, func(m model) { delete(m, id) })
		delete(c.now, id)
		g.Remove(nil)
		c.wait(l)
	}
}

func (g *modelGroup) reset(index, term uint64) {
	g.base, g.last, g.floor = index, index, index
	g.terms, g.data = map[uint64]uint64{index: term}, map[uint64]string{}
	g.hard.commit = max(g.hard.commit, index)
	g.commits = []uint64{g.hard.commit}
}

func (h hardState) proto() *raftpb.HardState {
	return &raftpb.HardState{Term: new(h.term), Vote: new(h.vote), Commit: new(h.commit)}
}

func setCommit(id, commit uint64, synced bool) step {
	return func(m model) {
		g := m.group(id)
		if synced {
			g.commits = nil
		} else if len(g.commits) == 0 {
			g.commits = []uint64{g.hard.commit}
		}
		g.hard.commit = commit
		g.commits = append(g.commits, commit)
	}
}

// append queues entries, now and then over the end of those that are there, sometimes with a vote.
func (c *crashRun) append(l *Log, g *Group, m *modelGroup) {
	id := g.ID()
	from := m.last + 1
	if c.rng.IntN(5) == 0 {
		c.term++
		from -= c.rng.Uint64N(min(5, m.last-m.floor+1))
	}
	a := Append{Group: g, Sync: true}
	var steps []step
	hard := m.hard
	if c.rng.IntN(3) == 0 {
		hard.term, hard.vote = c.term, c.rng.Uint64N(4)
		steps = append(steps, func(m model) { m.group(id).hard.term, m.group(id).hard.vote = hard.term, hard.vote })
	}
	for i := range 1 + c.rng.Uint64N(4) {
		size := c.rng.IntN(3000)
		if c.rng.IntN(30) == 0 {
			size = 20 << 10
		}
		data := bytes.Repeat([]byte{byte(c.rng.Uint32()), byte(c.rng.Uint32())}, size/2)
		index, term := from+i, c.term
		a.Entries = append(a.Entries, &raftpb.Entry{Index: new(index), Term: new(term), Data: data})
		steps = append(steps, func(m model) {
			g := m.group(id)
			for i := index; i <= g.last; i++ {
				delete(g.terms, i)
				delete(g.data, i)
			}
			g.terms[index], g.data[index], g.last = term, string(data), index
		})
	}
	if hard != m.hard {
		a.HardState = hard.proto()
		steps = append(steps, setCommit(id, hard.commit, true))
	}
	c.queue(l, a, steps...)
}

func (c *crashRun) queue(l *Log, a Append, steps ...step) {
	for _, s := range steps {
		s(c.now)
	}
	c.steps = append(c.steps, steps...)
	a.Done = c.done(len(c.steps))
	a.Lend = c.rng.IntN(2) == 0
	l.Append(a)
	if a.Lend {
		l.Lend()
	}
}

// done makes the Done of what ends with so many steps.
func (c *crashRun) done(steps int) func(error) {
	return func(err error) {
		if err != nil {
			return
		}
		if before := c.acked.Swap(int64(steps)); before > int64(steps) {
			c.t.Errorf("seed %d: Done out of order", c.seed)
		}
	}
}

// wait returns when everything queued is answered.
func (c *crashRun) wait(l *Log) {
	answered := make(chan error, 1)
	l.Append(Append{Group: l.Group(1), Done: func(err error) { answered <- err }})
	<-answered
}

// verify opens the log after the run and finds the number of steps, at least those acknowledged,
// that explains all of it.
func (c *crashRun) verify() {
	l, err := Open(c.mem.FS(), crashOptions, nil)
	if err != nil {
		c.t.Fatalf("seed %d: open after the crash: %v", c.seed, err)
	}
	defer l.Close()
	acked, m := int(c.acked.Load()), c.sure
	for _, s := range c.steps[:acked] {
		s(m)
	}
	why := ""
	for n := acked; ; n++ {
		err := m.differs(l)
		if err == nil {
			break
		}
		why += fmt.Sprintf("\nafter %d steps: %v", n, err)
		if n == len(c.steps) {
			c.t.Fatalf("seed %d: %d of %d steps acknowledged, but the log is none of what may be left: %s",
				c.seed, acked, len(c.steps), why)
		}
		c.steps[n](m)
	}
	for id, g := range m { // go on from what is there
		h := l.Group(id).HardState()
		g.hard = hardState{h.GetTerm(), h.GetVote(), h.GetCommit()}
		g.commits = nil
	}
	c.now = m
}

// differs says how the log is not what the model says; nil when it is.
func (m model) differs(l *Log) error {
	for _, id := range l.Groups() {
		if m[id] == nil && l.Group(id).HardState() != nil {
			return fmt.Errorf("group %d is there", id)
		}
	}
	for id, want := range m {
		g := l.Group(id)
		first, _ := g.FirstIndex()
		last, _ := g.LastIndex()
		if last != want.last || first <= want.base || first-1 > max(want.floor, want.base) {
			return fmt.Errorf("group %d holds %d to %d, want %d to %d, base at most %d",
				id, first, last, want.base+1, want.last, want.floor)
		}
		h := g.HardState()
		if h.GetTerm() != want.hard.term || h.GetVote() != want.hard.vote {
			return fmt.Errorf("group %d has hard state %v, want %+v", id, h, want.hard)
		}
		if ok := h.GetCommit() == want.hard.commit; !ok {
			for _, commit := range want.commits {
				ok = ok || commit == h.GetCommit()
			}
			if !ok {
				return fmt.Errorf("group %d has commit %d, want one of %v", id, h.GetCommit(), want.commits)
			}
		}
		for i := first - 1; i <= last; i++ {
			if term, err := g.Term(i); err != nil || term != want.terms[i] {
				return fmt.Errorf("term of %d in group %d: %d %v, want %d", i, id, term, err, want.terms[i])
			}
		}
		if first > last {
			continue
		}
		entries, err := g.Entries(first, last+1, 1<<40)
		if err != nil || uint64(len(entries)) != last+1-first {
			return fmt.Errorf("entries of group %d: %d, %v", id, len(entries), err)
		}
		for _, e := range entries {
			if string(e.Data) != want.data[e.GetIndex()] || e.GetTerm() != want.terms[e.GetIndex()] {
				return fmt.Errorf("entry %d of group %d differs", e.GetIndex(), id)
			}
		}
	}
	return nil
}

func newCrashRun(t *testing.T, seed uint64) *crashRun {
	return &crashRun{
		t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), mem: disk.NewMem(seed), now: model{}, term: 1,
	}
}

// Goal: whatever was acknowledged survives any crash, and what was not vanishes only from the end.
// Method: random work over several runs of one disk, each crashed at a random operation of it.
func TestLog_CrashAtRandom(t *testing.T) {
	seeds := uint64(150)
	if testing.Short() {
		seeds = 20
	}
	for seed := range seeds {
		c := newCrashRun(t, seed)
		for range 6 {
			c.run(1+c.rng.IntN(120), 60)
		}
	}
}

// The same with a crash before each operation of the disk in turn, which is also after the one
// before it: the first run of a log, and a later one, with recycled segments.
func TestLog_CrashAtEachOperation(t *testing.T) {
	for at, reached := 1, true; reached; at++ {
		reached = newCrashRun(t, 7).run(at, 25)
	}
	for at, reached := 1, true; reached; at++ {
		c := newCrashRun(t, 8)
		c.run(1<<30, 80)
		reached = c.run(at, 25)
	}
}
