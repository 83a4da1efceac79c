package volume

import (
	"math/bits"
	"slices"
	"sort"

	"trinas/replica/disk"
)

// ExtentBytes is the unit in which a file remembers when it last changed.
const ExtentBytes = 1 << 20

const (
	extentBlocks = ExtentBytes / disk.BlockBytes
	leafExtents  = 256 // extents of one leaf: 256 MiB of the file
	maxExtents   = (MaxFileBytes + ExtentBytes - 1) / ExtentBytes
)

// extent is one MiB of a file: the log index of its last change and its allocated blocks.
// Invariant: bits is nil when blocks is 0 or extentBlocks, else it has blocks bits set.
type extent struct {
	num     uint32
	blocks  uint16
	changed uint64
	bits    *[extentBlocks / 64]uint64
}

// extents are the extents of a regular file that were ever written. A block that is not
// allocated reads as zeros. Leaves are sorted, and extents within a leaf: a file costs room for
// what it holds, wherever in it that lies.
//
// Invariant: an object reaches past the first byte of every allocated block, and has nothing
// but zeros in blocks that are not allocated (but for the time of replay, DESIGN.md).
type extents struct {
	leaves []*leaf
	blocks uint64 // allocated, in all extents
}

type leaf struct {
	key uint32 // extent number / leafExtents
	ext []extent
}

// empty reports that nothing was ever written, so that there is no object.
func (x *extents) empty() bool { return len(x.leaves) == 0 }

// find gives the extent, or nil if nothing was ever written there.
func (x *extents) find(num uint32) *extent {
	i := x.leafAt(num / leafExtents)
	if i == len(x.leaves) || x.leaves[i].key != num/leafExtents {
		return nil
	}
	l := x.leaves[i]
	j := l.from(num)
	if j == len(l.ext) || l.ext[j].num != num {
		return nil
	}
	return &l.ext[j]
}

// get gives the extent, making it if need be. It is good until the next get.
func (x *extents) get(num uint32) *extent {
	key := num / leafExtents
	i := x.leafAt(key)
	if i == len(x.leaves) || x.leaves[i].key != key {
		x.leaves = slices.Insert(x.leaves, i, &leaf{key: key})
	}
	l := x.leaves[i]
	j := l.from(num)
	if j == len(l.ext) || l.ext[j].num != num {
		l.ext = slices.Insert(l.ext, j, extent{num: num})
	}
	return &l.ext[j]
}

// leafAt gives the place of the first leaf with at least key. A file without holes has its leaf
// at the place that the key says.
func (x *extents) leafAt(key uint32) int {
	if n := int(key); n < len(x.leaves) && x.leaves[n].key == key {
		return n
	}
	return sort.Search(len(x.leaves), func(i int) bool { return x.leaves[i].key >= key })
}

// from gives the place of the first extent with at least num.
func (l *leaf) from(num uint32) int {
	if n := int(num % leafExtents); n < len(l.ext) && l.ext[n].num == num {
		return n
	}
	return sort.Search(len(l.ext), func(i int) bool { return l.ext[i].num >= num })
}

// allocated reports whether the block is allocated.
func (x *extents) allocated(block uint64) bool {
	e := x.find(uint32(block / extentBlocks))
	return e != nil && e.has(uint(block%extentBlocks))
}

// anyAllocated reports whether a block that starts in [from, to) bytes is allocated.
func (x *extents) anyAllocated(from, to uint64) bool {
	first, end := blocksOf(from), blocksOf(to)
	if first >= end {
		return false
	}
	num := uint32(first / extentBlocks)
	for i := x.leafAt(num / leafExtents); i < len(x.leaves); i++ {
		l := x.leaves[i]
		for j := l.from(num); j < len(l.ext); j++ {
			e := &l.ext[j]
			start := uint64(e.num) * extentBlocks
			if start >= end {
				return false
			}
			if e.any(uint(max(first, start)-start), uint(min(end-start, extentBlocks))) {
				return true
			}
		}
	}
	return false
}

// set allocates or frees the blocks [first, end) and marks their extents as changed at index.
func (x *extents) set(first, end uint64, allocate bool, index uint64) {
	for first < end {
		num := first / extentBlocks
		stop := min(end, (num+1)*extentBlocks)
		e := x.get(uint32(num))
		e.changed = index
		was := e.blocks
		e.assign(uint(first%extentBlocks), uint(stop-num*extentBlocks), allocate)
		x.blocks += uint64(e.blocks) - uint64(was)
		first = stop
	}
}

// cut frees everything from byte size on. Extents that held a block there are marked as
// changed, and the one that size is inside of.
func (x *extents) cut(size, index uint64) {
	first := blocksOf(size)
	for i := x.leafAt(uint32(size / ExtentBytes / leafExtents)); i < len(x.leaves); i++ {
		for j := range x.leaves[i].ext {
			e := &x.leaves[i].ext[j]
			start := uint64(e.num) * extentBlocks
			if start+extentBlocks <= size/disk.BlockBytes || e.blocks == 0 {
				continue
			}
			was := e.blocks
			e.changed = index
			if from := max(start, first); from < start+extentBlocks {
				e.assign(uint(from-start), extentBlocks, false)
			}
			x.blocks -= uint64(was - e.blocks)
		}
	}
}

// any reports whether one of the blocks [from, to) of the extent is allocated.
func (e *extent) any(from, to uint) bool {
	for block := from; block < to; block++ {
		if e.has(block) {
			return true
		}
		if e.blocks == 0 {
			break
		}
	}
	return false
}

func (e *extent) has(block uint) bool {
	if e.bits == nil {
		return e.blocks != 0
	}
	return e.bits[block/64]&(1<<(block%64)) != 0
}

// runs calls do for each run of blocks that are all allocated, or all not: offset in the extent and
// length, in bytes.
func (e *extent) runs(do func(from, n uint64, allocated bool) error) error {
	for from := uint(0); from < extentBlocks; {
		has, to := e.has(from), from+1
		for to < extentBlocks && e.has(to) == has {
			to++
		}
		if err := do(uint64(from)*disk.BlockBytes, uint64(to-from)*disk.BlockBytes, has); err != nil {
			return err
		}
		from = to
	}
	return nil
}

// assign allocates or frees blocks [from, to) of the extent.
func (e *extent) assign(from, to uint, allocate bool) {
	if from == 0 && to == extentBlocks {
		e.bits, e.blocks = nil, 0
		if allocate {
			e.blocks = extentBlocks
		}
		return
	}
	if e.bits == nil {
		if allocate == (e.blocks != 0) {
			return // already so
		}
		e.bits = new([extentBlocks / 64]uint64)
		if e.blocks != 0 {
			*e.bits = [extentBlocks / 64]uint64{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}
		}
	}
	n := 0
	for w := range e.bits {
		lo, hi := max(from, uint(w)*64), min(to, uint(w+1)*64)
		if lo < hi {
			mask := (^uint64(0) >> (64 - (hi - lo))) << (lo % 64)
			if allocate {
				e.bits[w] |= mask
			} else {
				e.bits[w] &^= mask
			}
		}
		n += bits.OnesCount64(e.bits[w])
	}
	if e.blocks = uint16(n); n == 0 || n == extentBlocks {
		e.bits = nil
	}
}

// blocksOf gives the number of blocks that size bytes take, and so the first block that starts
// at byte size or later.
func blocksOf(size uint64) uint64 { return (size + disk.BlockBytes - 1) / disk.BlockBytes }
