package volume

import (
	"math/rand/v2"
	"testing"

	"trinas/replica/disk"
)

// TestExtents_Model compares with a plain set of blocks, over places that are far apart.
func TestExtents_Model(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var x extents
		blocks, changed := map[uint64]bool{}, map[uint32]uint64{}
		bases := []uint64{0, 250, 256 * 255, 1 << 31}
		for index := uint64(1); index < 300; index++ {
			first := bases[rng.IntN(len(bases))] + rng.Uint64N(600)
			end := first + 1 + rng.Uint64N(300)
			switch rng.IntN(10) {
			case 0:
				size := first*disk.BlockBytes + rng.Uint64N(disk.BlockBytes)
				for b := range blocks {
					if b >= size/disk.BlockBytes {
						changed[uint32(b/extentBlocks)] = index
					}
					if b >= blocksOf(size) {
						delete(blocks, b)
					}
				}
				was := x.blocks
				x.cut(size, index)
				if was < x.blocks {
					t.Fatal("a cut added blocks")
				}
			case 1, 2, 3:
				x.set(first, end, false, index)
				for b := first; b < end; b++ {
					delete(blocks, b)
					changed[uint32(b/extentBlocks)] = index
				}
			default:
				x.set(first, end, true, index)
				for b := first; b < end; b++ {
					blocks[b] = true
					changed[uint32(b/extentBlocks)] = index
				}
			}
			if x.blocks != uint64(len(blocks)) {
				t.Fatalf("seed %d, index %d: %d blocks, want %d", seed, index, x.blocks, len(blocks))
			}
		}
		for _, base := range bases {
			any := false
			for b := base; b < base+1000; b++ {
				if x.allocated(b) != blocks[b] {
					t.Fatalf("seed %d: block %d", seed, b)
				}
				any = any || blocks[b]
			}
			if x.anyAllocated(base*disk.BlockBytes, (base+1000)*disk.BlockBytes) != any {
				t.Fatalf("seed %d: anyAllocated", seed)
			}
		}
		for num, index := range changed {
			// A cut marks an extent that it only touches; nothing is marked too rarely.
			if e := x.find(num); e == nil || e.changed < index {
				t.Fatalf("seed %d: extent %d changed at %d: %+v", seed, num, index, e)
			}
		}
		for _, l := range x.leaves {
			for _, e := range l.ext {
				if (e.bits == nil) != (e.blocks == 0 || e.blocks == extentBlocks) {
					t.Fatalf("seed %d: extent %d has a bitmap for %d blocks", seed, e.num, e.blocks)
				}
			}
		}
	}
}
