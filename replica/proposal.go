package replica

import (
	"errors"
	"slices"
	"sync"

	"go.etcd.io/raft/v3/raftpb"

	"trinas/replica/volume"
)

// errNotPrimary: this node does not lead the group, or stopped to before the outcome was known.
// The operation may or may not have happened; it is sent again with the same RequestID, and the
// volume answers a repetition with the first result.
var errNotPrimary = errors.New("not the primary, or no longer")

// proposal is an operation on its way through the log. The proposer waits on done; afterwards
// index, term, result and err are its own to read.
type proposal struct {
	data []byte // the entry; Raft copies it when it is stepped
	kind raftpb.EntryType

	// early: an UNSTABLE write of [off, end) of file, which is answered as soon as it has its
	// place in the log. The proposal stays in the table until it is applied.
	early    bool
	file     volume.FileID
	off, end uint64

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
// applied yet. It also bounds their bytes, and knows which ranges reads must wait for.
type proposals struct {
	mu        sync.Mutex
	byIndex   map[uint64]*proposal
	early     map[volume.FileID][]*proposal // in log order
	last      uint64                        // index of the newest proposal
	lastEarly uint64
	bytes     int
	room      sync.Cond // bytes went down
}

func (t *proposals) init() {
	t.byIndex = map[uint64]*proposal{}
	t.early = map[volume.FileID][]*proposal{}
	t.room.L = &t.mu
}

// reserve waits until p's bytes may be under way too. What was reserved is given back when p's
// entry is applied or abandoned, or by unreserve when p never got a place. It ends because a
// leadership that commits nothing ends (CheckQuorum), which gives back all it had.
func (t *proposals) reserve(p *proposal) {
	t.mu.Lock()
	for t.bytes > 0 && t.bytes+p.bytes > roomBytes {
		t.room.Wait()
	}
	t.bytes += p.bytes
	t.mu.Unlock()
}

func (t *proposals) unreserve(p *proposal) {
	t.mu.Lock()
	t.giveBack(p.bytes)
	t.mu.Unlock()
}

func (t *proposals) giveBack(bytes int) {
	t.bytes -= bytes
	t.room.Broadcast()
}

// accept notes the log places of ps, given as the entries that Raft made of them, and answers
// those that may be answered early.
func (t *proposals) accept(ps []*proposal, ents []*raftpb.Entry) {
	t.mu.Lock()
	for i, p := range ps {
		p.index, p.term = ents[i].GetIndex(), ents[i].GetTerm()
		t.byIndex[p.index] = p
		t.last = p.index
		if p.early {
			t.early[p.file] = append(t.early[p.file], p)
			t.lastEarly = p.index
		}
	}
	t.mu.Unlock()
	for _, p := range ps {
		p.data = nil // the waiting request's buffer, which may be used again from here on
		if p.early {
			close(p.done)
		}
	}
}

// finish gives the outcome of the applied entry at index to whoever proposed it here.
func (t *proposals) finish(index, term uint64, res *volume.Result) {
	t.mu.Lock()
	p := t.byIndex[index]
	if p == nil {
		t.mu.Unlock()
		return
	}
	delete(t.byIndex, index)
	t.giveBack(p.bytes)
	if p.early {
		t.dropEarly(p)
	}
	t.mu.Unlock()
	if p.early {
		return
	}
	if p.term != term {
		p.fail(errNotPrimary)
		return
	}
	p.result = *res
	close(p.done)
}

func (t *proposals) dropEarly(p *proposal) {
	list := t.early[p.file]
	if i := slices.Index(list, p); i >= 0 {
		list = slices.Delete(list, i, i+1)
	}
	if len(list) == 0 {
		delete(t.early, p.file)
	} else {
		t.early[p.file] = list
	}
}

// abandon fails everything that is under way: the leadership has ended.
func (t *proposals) abandon() {
	t.mu.Lock()
	ps := t.byIndex
	t.byIndex = map[uint64]*proposal{}
	clear(t.early)
	t.last, t.lastEarly = 0, 0
	for _, p := range ps {
		t.giveBack(p.bytes)
	}
	t.mu.Unlock()
	for _, p := range ps {
		if !p.early {
			p.fail(errNotPrimary)
		}
	}
}

// newest is the index of the newest proposal of this leadership, 0 when there is none.
func (t *proposals) newest() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}

// before is the index up to which op must see the log applied, because of writes that were
// answered early: those of the range that it reads, or all of them.
func (t *proposals) before(op *volume.Op) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if op.Kind != volume.Read {
		return t.lastEarly
	}
	list := t.early[op.File]
	for i := len(list) - 1; i >= 0; i-- {
		if p := list[i]; p.off < op.Offset+uint64(op.Count) && op.Offset < p.end {
			return p.index
		}
	}
	return 0
}

// newestEarly is the index of the newest early write of file, 0 when all are applied.
func (t *proposals) newestEarly(file volume.FileID) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if list := t.early[file]; len(list) > 0 {
		return list[len(list)-1].index
	}
	return 0
}
