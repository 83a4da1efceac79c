package replica

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"go.etcd.io/raft/v3/raftpb"

	"trinas/replica/volume"
)

// errNotPrimary: this node does not lead the group, or stopped to before the outcome was known.
// The operation may or may not have happened; it is sent again with the same RequestID, and the
// volume answers a repetition with the first result.
var errNotPrimary = errors.New("not the primary, or no longer")

// errNotSent is an errNotPrimary of which is known that nothing has happened.
var errNotSent = fmt.Errorf("%w: nothing was done", errNotPrimary)

// proposal is an operation on its way through the log. The proposer waits on done; afterwards
// index, term, result and err are its own to read.
type proposal struct {
	data []byte // the entry; Raft copies it when it is stepped
	kind raftpb.EntryType

	index, term uint64 // index 0: it never got a place in the log
	bytes       int    // what it takes of the room under way
	result      volume.Result
	err         error
	done        chan struct{}
}

func newProposal(data []byte) *proposal {
	return &proposal{data: data, bytes: len(data), kind: raftpb.EntryNormal, done: make(chan struct{})}
}

func (p *proposal) fail(err error) {
	p.err = err
	close(p.done)
}

// proposals are the entries of this leadership that have their place in the log and are not
// applied yet. It also bounds their bytes.
type proposals struct {
	limitBytes int
	waiting    atomic.Int64 // proposals that have reserved and not given back

	mu      sync.Mutex
	byIndex map[uint64]*proposal
	bytes   int
	room    sync.Cond // bytes went down
}

func (t *proposals) init(limitBytes int) {
	t.limitBytes = limitBytes
	t.byIndex = map[uint64]*proposal{}
	t.room.L = &t.mu
}

// reserve waits until p's bytes may be under way too. What was reserved is given back when p's
// entry is applied or abandoned, or by unreserve when p never got a place. It ends because a
// leadership that commits nothing ends (CheckQuorum), which gives back all it had.
func (t *proposals) reserve(p *proposal) {
	t.mu.Lock()
	for t.bytes > 0 && t.bytes+p.bytes > t.limitBytes {
		t.room.Wait()
	}
	t.bytes += p.bytes
	t.mu.Unlock()
	t.waiting.Add(1)
}

// underWay counts the proposals that hold room.
func (t *proposals) underWay() int64 { return t.waiting.Load() }

func (t *proposals) unreserve(p *proposal) {
	t.mu.Lock()
	t.giveBack(p.bytes)
	t.mu.Unlock()
}

func (t *proposals) giveBack(bytes int) {
	t.bytes -= bytes
	t.waiting.Add(-1)
	t.room.Broadcast()
}

// accept notes the log places of ps, given as the entries that Raft made of them.
func (t *proposals) accept(ps []*proposal, ents []*raftpb.Entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, p := range ps {
		p.index, p.term = ents[i].GetIndex(), ents[i].GetTerm()
		t.byIndex[p.index] = p
	}
}

// finish gives the outcome of the applied entry at index to whoever proposed it here.
func (t *proposals) finish(index, term uint64, res *volume.Result) {
	t.mu.Lock()
	p := t.byIndex[index]
	if p != nil {
		delete(t.byIndex, index)
		t.giveBack(p.bytes)
	}
	t.mu.Unlock()
	switch {
	case p == nil:
	case p.term != term:
		p.fail(errNotPrimary)
	default:
		p.result = *res
		close(p.done)
	}
}

// abandon fails everything that is under way: the leadership has ended.
func (t *proposals) abandon() {
	t.mu.Lock()
	ps := t.byIndex
	t.byIndex = map[uint64]*proposal{}
	for _, p := range ps {
		t.giveBack(p.bytes)
	}
	t.mu.Unlock()
	for _, p := range ps {
		p.fail(errNotPrimary)
	}
}
