package transport

import "sync"

// pool keeps buffers for requests and answers between uses. The zero value is ready.
type pool struct {
	classes [len(poolBytes)]sync.Pool
}

// poolBytes are the capacities that are kept; larger buffers are left to the garbage collector.
var poolBytes = [...]int{8 << 10, 128 << 10, 1<<20 + 64<<10}

// buffer holds one frame of the call lane.
type buffer struct{ b []byte }

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

// put takes a buffer back; nobody may use it any more.
func (p *pool) put(b *buffer) {
	for i := len(poolBytes) - 1; i >= 0; i-- {
		if c := cap(b.b); c >= poolBytes[i] {
			if c < 2*poolBytes[i] {
				b.b = b.b[:0]
				p.classes[i].Put(b)
			}
			return
		}
	}
}
