package disk

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// Mem is a disk in memory that can crash, fail, be slow and be full. It keeps apart what is
// durable and what is not, for each block of BlockBytes, each file's size and each directory
// entry, as FS and File promise it and no better: what was not synced may be lost or may survive,
// block by block. Only written blocks take memory. Safe for concurrent use.
type Mem struct {
	mu      sync.Mutex // guards all below and every node; never held while the hook runs
	rng     *rand.Rand
	epoch   uint64 // counts crashes; handles of an earlier epoch are dead
	root    *node
	pending []dirOp // changes of directories that are not durable, in order
	hook    func(op, name string, off, n int64) error
	limit   int64     // bytes; 0: no limit
	used    int64     // bytes of blocks that files in the tree hold
	zeros   *memBlock // the one block that all preallocated ones share; never written to
	sector  int       // bytes that a crash keeps or loses as one; divides BlockBytes
}

type memBlock [BlockBytes]byte

// node is a file or a directory. "now" is what the running system sees, "durable" what is left
// after a crash that loses everything it may.
type node struct {
	dir         bool
	entries     map[string]*node // dir: now
	durable     map[string]*node // dir: durable
	size        int64            // file: now
	durableSize int64
	blocks      map[int64]*memBlock // file: now, by number; missing: a hole
	lost        map[int64]*memBlock // durable content of every block changed since; nil: a hole
	unlinked    bool                // no name leads to it: its blocks are not counted in used
}

// dirOp is one change of directory entries; atomic. A creation has no from, a removal no to.
type dirOp struct {
	node             *node
	fromDir, toDir   *node
	fromName, toName string
}

// NewMem makes an empty disk. The seed decides what each crash loses.
func NewMem(seed uint64) *Mem {
	return &Mem{
		rng:   rand.New(rand.NewPCG(seed, 0)),
		root:  newNode(true),
		zeros: new(memBlock), sector: BlockBytes,
	}
}

func newNode(dir bool) *node {
	if dir {
		return &node{dir: true, entries: map[string]*node{}, durable: map[string]*node{}}
	}
	return &node{blocks: map[int64]*memBlock{}, lost: map[int64]*memBlock{}}
}

// FS gives the disk's tree to one run of a program. After Crash it and every file opened through
// it give errors that match syscall.EIO, so that what is left of the run that crashed cannot
// touch the disk: call FS again for the next run.
func (m *Mem) FS() FS {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &memFS{m: m, epoch: m.epoch, dir: "."}
}

// OnOp sets the hook that every operation calls first (nil: none). An error that it returns is
// the operation's result, and nothing is done; it may sleep, and it may call Crash. name is the
// path from the disk's root that the file was opened by; off and n are bytes (0 where they mean
// nothing). Operations: open, create, stat, list, mkdir, rename, remove, removeall, syncdir,
// space; read, write, truncate, punch, preallocate, writeback, drop, sync, writesync. WriteSync calls
// it twice: "writesync" before anything is written, "sync" when all is written and nothing is
// durable.
func (m *Mem) OnOp(hook func(op, name string, off, n int64) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hook = hook
}

// SetSpace sets the disk's size; what does not fit gives ENOSPC. 0: no limit.
func (m *Mem) SetSpace(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.limit = bytes
}

// SetSectorBytes makes crashes tear blocks: each part of so many bytes, 512 to BlockBytes, survives
// or is lost by itself. A disk with sectors of 512 bytes may do that; the code above relies on
// BlockBytes, the default, and is the better the less it needs that.
func (m *Mem) SetSectorBytes(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sector = n
}

// Crash is a loss of power. Of what was not synced each block, each size and each change of a
// directory survives or is lost by chance; a rename is done or not done, and a change of an
// entry that was itself not durable is never kept without what went before it.
func (m *Mem) Crash() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.epoch++
	keep := m.rng.Float64() // how kind this crash is; the extremes are worth having often
	switch m.rng.IntN(4) {
	case 0:
		keep = 0
	case 1:
		keep = 1
	}
	survives := func() bool { return m.rng.Float64() < keep }

	dropped := map[*node]bool{}
	for _, op := range m.pending {
		if dropped[op.node] || !survives() {
			dropped[op.node] = true
			continue
		}
		op.apply()
	}
	m.pending = nil
	m.used = 0
	m.root.crash(m, survives)
}

// Kill is the end of a program, and not of its machine: nothing is lost, and nothing becomes durable. As after Crash,
// what is left of the run gets errors.
func (m *Mem) Kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.epoch++
}

// crash makes what is durable, and what survives besides, the state of n and everything below.
func (n *node) crash(m *Mem, survives func() bool) {
	if n.dir {
		n.entries = maps.Clone(n.durable)
		for _, name := range slices.Sorted(maps.Keys(n.entries)) { // sorted: the seed decides
			n.entries[name].crash(m, survives)
		}
		return
	}
	for _, b := range slices.Sorted(maps.Keys(n.lost)) {
		n.setBlock(b, m.torn(n.lost[b], n.blocks[b], survives))
	}
	if n.size != n.durableSize && !survives() {
		n.size = n.durableSize
	}
	for b := range n.blocks {
		if b*BlockBytes >= n.size {
			delete(n.blocks, b)
		}
	}
	n.zeroTail()
	n.durableSize = n.size
	clear(n.lost)
	n.unlinked = false
	m.used += int64(len(n.blocks)) * BlockBytes
}

// torn is what a crash leaves of a block: the durable content, the new one, or sectors of both.
func (m *Mem) torn(durable, now *memBlock, survives func() bool) *memBlock {
	if m.sector == BlockBytes {
		if survives() {
			return now
		}
		return durable
	}
	mixed := new(memBlock)
	for at := 0; at < BlockBytes; at += m.sector {
		from := durable
		if survives() {
			from = now
		}
		if from != nil {
			copy(mixed[at:at+m.sector], from[at:])
		}
	}
	return mixed
}

// apply makes a change of directories durable.
func (op dirOp) apply() {
	if op.fromDir != nil && op.fromDir.durable[op.fromName] == op.node {
		delete(op.fromDir.durable, op.fromName)
	}
	if op.toDir != nil {
		op.toDir.durable[op.toName] = op.node
	}
}

// syncDir makes the changes of dir durable, in their order. A rename between two directories ties
// their histories together, so then everything becomes durable, as a journal would make it.
func (m *Mem) syncDir(dir *node) {
	all := slices.ContainsFunc(m.pending, func(op dirOp) bool {
		return op.fromDir != nil && op.toDir != nil && op.fromDir != op.toDir &&
			(op.fromDir == dir || op.toDir == dir)
	})
	m.pending = slices.DeleteFunc(m.pending, func(op dirOp) bool {
		if all || op.fromDir == dir || op.toDir == dir {
			op.apply()
			return true
		}
		return false
	})
}

// find walks to name from the root.
func (m *Mem) find(name string) (*node, error) {
	n := m.root
	if name == "." {
		return n, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		if !n.dir {
			return nil, syscall.ENOTDIR
		}
		if n = n.entries[part]; n == nil {
			return nil, syscall.ENOENT
		}
	}
	return n, nil
}

// unlink takes node, which has lost its name, out of the count of used bytes.
func (m *Mem) unlink(n *node) {
	if !n.unlinked {
		n.unlinked = true
		m.used -= int64(len(n.blocks)) * BlockBytes
	}
}

// room reports whether n may take so many more blocks.
func (m *Mem) room(n *node, blocks int64) bool {
	return n.unlinked || m.limit == 0 || m.used+blocks*BlockBytes <= m.limit
}

// setBlock puts a block in place (nil: a hole), without a trace of what was there.
func (n *node) setBlock(b int64, content *memBlock) {
	if content == nil {
		delete(n.blocks, b)
	} else {
		n.blocks[b] = content
	}
}

// replace puts a block in place (nil: a hole) and keeps the durable one for a crash.
func (m *Mem) replace(n *node, b int64, content *memBlock) {
	old := n.blocks[b]
	if _, changed := n.lost[b]; !changed {
		n.lost[b] = old
	}
	if !n.unlinked {
		if old == nil && content != nil {
			m.used += BlockBytes
		}
		if old != nil && content == nil {
			m.used -= BlockBytes
		}
	}
	n.setBlock(b, content)
}

// writable returns block b's memory to write into: its own copy when the one in place is durable
// or shared.
func (m *Mem) writable(n *node, b int64) *memBlock {
	old := n.blocks[b]
	if _, changed := n.lost[b]; changed && old != nil && old != m.zeros {
		return old
	}
	own := new(memBlock)
	if old != nil {
		*own = *old
	}
	m.replace(n, b, own)
	return own
}

// zeroTail clears what the last block holds past the end, so that growth shows zeros.
func (n *node) zeroTail() {
	b, in := n.size/BlockBytes, n.size%BlockBytes
	if old := n.blocks[b]; in > 0 && old != nil {
		own := *old
		clear(own[in:])
		n.blocks[b] = &own
	}
}
