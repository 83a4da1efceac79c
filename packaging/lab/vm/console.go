package vm

import (
	"net"
	"slices"
	"sync"
	"time"
)

// Console is what a machine has written to its serial line.
type Console struct {
	mu     sync.Mutex
	chunks []Chunk
}

// Chunk is what came at once.
type Chunk struct {
	At    time.Time
	Bytes []byte
}

// maxConsoleBytes bounds what is kept; what comes after it is dropped.
const maxConsoleBytes = 16 << 20

// follow takes what the one who connects to l sends, until it ends. It always reads: QEMU waits for a
// serial line that nobody reads.
func follow(l net.Listener) *Console {
	c := &Console{}
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return // QEMU has ended before
		}
		defer conn.Close()
		b, total := make([]byte, 4096), 0
		for {
			n, err := conn.Read(b)
			if total += n; n > 0 && total <= maxConsoleBytes {
				c.mu.Lock()
				c.chunks = append(c.chunks, Chunk{time.Now(), slices.Clone(b[:n])})
				c.mu.Unlock()
			}
			if err != nil {
				return
			}
		}
	}()
	return c
}

// Chunks are all that have come so far.
func (c *Console) Chunks() []Chunk {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clip(c.chunks)
}
