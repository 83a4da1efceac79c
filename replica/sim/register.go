package sim

import (
	"encoding/binary"
	"fmt"
	"sync"

	"trinas/replica/volume"
)

// blockBytes is the size of one register: one block of one file.
const blockBytes = 4096

// registers checks blocks that have one writer each and any number of readers. Every write of a
// block carries the next number. A read must not show less than what was acknowledged before it
// began, nor less than what an earlier read has shown, nor more than what was ever sent: for one
// writer that is linearizability.
type registers struct {
	mu     sync.Mutex
	blocks map[uint64]*register
	faults []string
}

type register struct {
	sent, acked, seen uint64
}

func newRegisters() *registers { return &registers{blocks: map[uint64]*register{}} }

func (r *registers) at(block uint64) *register {
	b := r.blocks[block]
	if b == nil {
		b = &register{}
		r.blocks[block] = b
	}
	return b
}

// send gives the number and the bytes of block's next write.
func (r *registers) send(block uint64) (number uint64, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.at(block)
	b.sent++
	data = make([]byte, blockBytes)
	for i := 0; i < blockBytes; i += 16 {
		binary.LittleEndian.PutUint64(data[i:], block+1)
		binary.LittleEndian.PutUint64(data[i+8:], b.sent)
	}
	return b.sent, data
}

func (r *registers) acknowledged(block, number uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.at(block)
	b.acked = max(b.acked, number)
}

// reading is what a read of block that begins now must show at least.
func (r *registers) reading(block uint64) (least uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.at(block)
	return max(b.acked, b.seen)
}

// read checks what a read of block has shown.
func (r *registers) read(who string, block, least uint64, res *volume.Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var number uint64
	if len(res.Data) == blockBytes {
		number = binary.LittleEndian.Uint64(res.Data[8:])
		for i := 0; i < blockBytes; i += 16 {
			id, n := binary.LittleEndian.Uint64(res.Data[i:]), binary.LittleEndian.Uint64(res.Data[i+8:])
			if n != number || id != block+1 && !(id == 0 && n == 0) {
				r.faults = append(r.faults, fmt.Sprintf("%s: block %d is torn: (%d, %d) at byte %d, began with number %d", who, block, id, n, i, number))
				return
			}
		}
	} else if len(res.Data) != 0 {
		r.faults = append(r.faults, fmt.Sprintf("%s: block %d: %d bytes", who, block, len(res.Data)))
		return
	}
	b := r.at(block)
	if number < least {
		r.faults = append(r.faults, fmt.Sprintf("%s: block %d shows write %d, but %d was acknowledged or seen before", who, block, number, least))
	}
	if number > b.sent {
		r.faults = append(r.faults, fmt.Sprintf("%s: block %d shows write %d, only %d were sent", who, block, number, b.sent))
	}
	b.seen = max(b.seen, number)
}
