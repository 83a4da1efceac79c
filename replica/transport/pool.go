package transport

import (
	"slices"
	"sync"
)

// pool keeps buffers for requests and answers between uses. What is not used for a while goes back to the
// system: the garbage collector empties a sync.Pool. The zero value is ready.
type pool struct {
	classes [len(poolBytes)]sync.Pool
}

// poolBytes are the capacities that are kept; larger buffers are left to the garbage collector. They are
// close enough for a buffer to take no more than the NFS request that it is made for, which is held in one of
// 8, 72 or 272 KiB or 1 MiB and 8 KiB (nfsgw/rpc).
var poolBytes = [...]int{8 << 10, 72 << 10, 272 << 10, 1<<20 + 8<<10}

// poolRound is how many bytes a buffer for n bytes takes.
func poolRound(n int) int {
	for _, size := range poolBytes {
		if n <= size {
			return size
		}
	}
	return n
}

// buffer holds one frame of the call lane.
type buffer struct {
	b    []byte
	held int // of an answer: what it and its request have of the server's room
}

// get returns an empty buffer with room for n bytes.
func (p *pool) get(n int) *buffer {
	for i, size := range poolBytes {
		if n > size {
			continue
		}
		if b, ok := p.classes[i].Get().(*buffer); ok {
			return b
		}
		return &buffer{b: make([]byte, 0, size)}
	}
	return &buffer{b: make([]byte, 0, n)}
}

// put takes a buffer back; nobody may use it any more. One of another capacity is left to the garbage
// collector.
func (p *pool) put(b *buffer) {
	if i := slices.Index(poolBytes[:], cap(b.b)); i >= 0 {
		b.b = b.b[:0]
		p.classes[i].Put(b)
	}
}
