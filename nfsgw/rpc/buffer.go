package rpc

import "sync"

// Headroom is the number of bytes before every record in its buffer, which are the handler's to
// overwrite: a WRITE's payload becomes a log entry where it stands (Call.Room).
const Headroom = 160

// The buffer sizes below the largest. The second holds a 4 KiB READ or WRITE with all headers,
// the third what clients with 64 KiB transfers send.
const (
	smallBytes  = 1 << 10
	mediumBytes = 8 << 10
	largeBytes  = 72 << 10
	hugeBytes   = 272 << 10
)

// pools holds free buffers by size. What is not used for a while goes back to the system: the
// garbage collector empties a sync.Pool.
type pools struct {
	sizes [5]int
	free  [5]sync.Pool
}

// buffer is pooled memory; its length never changes.
type buffer struct {
	mem  []byte
	size int // index into pools.sizes; -1: too large to keep
}

func newPools(maxRecordBytes int) *pools {
	top := max(hugeBytes, Headroom+maxRecordBytes)
	return &pools{sizes: [5]int{smallBytes, mediumBytes, largeBytes, hugeBytes, top}}
}

// round is the number of bytes that a buffer for n bytes takes.
func (p *pools) round(n int) int {
	for _, size := range p.sizes {
		if n <= size {
			return size
		}
	}
	return n
}

// get returns a buffer of at least n bytes; its content is arbitrary.
func (p *pools) get(n int) *buffer {
	for i, size := range p.sizes {
		if n <= size {
			if b, ok := p.free[i].Get().(*buffer); ok {
				return b
			}
			return &buffer{mem: make([]byte, size), size: i}
		}
	}
	return &buffer{mem: make([]byte, n), size: -1}
}

// put takes a buffer back; nobody may use its memory any more.
func (p *pools) put(b *buffer) {
	if b != nil && b.size >= 0 {
		p.free[b.size].Put(b)
	}
}
