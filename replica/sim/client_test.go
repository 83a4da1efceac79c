package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"trinas/replica/volume"
)

const (
	simBlocks  = 12
	retryAfter = 2 * time.Second // an attempt without an answer for so long is made again
)

// client sends one operation after the other through a node, each until it is answered, as a kernel
// with a hard mount does.
type client struct {
	s      *simulation
	number int
	node   uint64
	rng    *rand.Rand
	xid    uint32
	known  []volume.Attr // files that it has been told of
}

// do does op until it is answered. first: with the first attempt. ok is false when the simulation ended
// before.
func (k *client) do(op volume.Op) (res volume.Result, first, ok bool) {
	k.xid++
	op.ID = volume.RequestID{Client: uint64(1000 + k.number), XID: k.xid, Sum: uint32(k.rng.Uint64())}
	for attempt := 0; !k.s.given.Load(); attempt++ {
		if slices.Contains(k.s.gone(), k.node) { // its node has left the cluster: to another
			k.node = k.s.anyMember(k.rng)
		}
		if k.s.c.Node(k.node) == nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		op := op
		op.Data = slices.Clone(op.Data)
		res, err := k.s.c.Do(k.node, k.s.vol, op, retryAfter)
		if err == nil {
			return res, attempt == 0, true
		}
		time.Sleep(time.Millisecond)
	}
	return res, false, false
}

// run works until the simulation says so, and finishes what it is at.
func (k *client) run() {
	for !k.s.over.Load() {
		switch k.rng.IntN(8) {
		case 0, 1, 2:
			k.write(k.rng.IntN(simBlocks))
		case 3, 4, 5, 6:
			k.read(k.rng.IntN(simBlocks))
		default:
			k.change()
		}
		time.Sleep(time.Duration(k.rng.IntN(20)) * time.Millisecond)
	}
}

func (k *client) write(block int) {
	h := k.s.history
	in := blockOp{block: block, write: true, value: k.s.value.Add(1)}
	called := h.now()
	res, first, ok := k.do(writeOp(k.s.file, uint64(block)*blockBytes, encodeValue(in.value)))
	switch {
	case ok && res.Err == volume.OK:
		h.add(&h.blocks, k.number, in, nil, called, true)
	case ok && res.Err == volume.ENOSPC && first: // it was refused, and not carried out
	case !ok || res.Err == volume.ENOSPC: // an attempt before may have been
		h.add(&h.blocks, k.number, in, nil, called, false)
	default:
		h.fault("client %d at node %d: write: errno %d", k.number, k.node, res.Err)
	}
}

func (k *client) read(block int) {
	h := k.s.history
	called := h.now()
	res, _, ok := k.do(readOp(k.s.file, uint64(block)*blockBytes, blockBytes))
	if !ok {
		return
	}
	value, whole := decodeValue(res.Data)
	if res.Err != volume.OK || !whole {
		h.fault("client %d at node %d: read of block %d: errno %d, %d bytes, one value: %t", k.number, k.node, block, res.Err, len(res.Data), whole)
		return
	}
	h.add(&h.blocks, k.number, blockOp{block: block}, value, called, true)
}

// change does something with names.
func (k *client) change() {
	h := k.s.history
	in := nameOp{name: k.rng.IntN(nameCount)}
	in.to = (in.name + 1 + k.rng.IntN(nameCount-1)) % nameCount
	name := func(i int) string { return fmt.Sprintf("name%d", i) }
	op := volume.Op{File: volume.RootID, Gen: 1, Name: name(in.name), Cred: root}
	switch kinds := []volume.Kind{volume.Lookup, volume.Create, volume.Create, volume.Remove, volume.Rename, volume.Link}; kinds[k.rng.IntN(len(kinds))] {
	case volume.Lookup:
		op.Kind = volume.Lookup
	case volume.Create:
		op = createOp(name(in.name), volume.RequestID{})
	case volume.Remove:
		op.Kind = volume.Remove
	case volume.Rename:
		op.Kind, op.File2, op.Gen2, op.Name2 = volume.Rename, volume.RootID, 1, name(in.to)
	case volume.Link:
		if len(k.known) == 0 {
			return
		}
		f := k.known[k.rng.IntN(len(k.known))]
		in.file = f.File
		op = volume.Op{Kind: volume.Link, File: f.File, Gen: f.Gen, File2: volume.RootID, Gen2: 1, Name2: name(in.to), Cred: root}
	}
	in.kind = op.Kind
	called := h.now()
	res, first, ok := k.do(op)
	switch {
	case ok && res.Err == volume.ENOSPC && first:
	case !ok || res.Err == volume.ENOSPC:
		in.unanswered = volume.FileID(unansweredBit | k.s.value.Add(1))
		h.add(&h.names, k.number, in, nil, called, false)
	case slices.Contains([]volume.Errno{volume.OK, volume.ENOENT, volume.EEXIST, volume.ESTALE}, res.Err):
		out := nameResult{errno: res.Err}
		if res.Err == volume.OK && (in.kind == volume.Lookup || in.kind == volume.Create) {
			out.file = res.Obj.After.File
			if out.file == 0 { // a repeated Create whose file has gone by now: done, and no number
				out.file = volume.FileID(unansweredBit | k.s.value.Add(1))
			} else {
				k.known = append(k.known[max(0, len(k.known)-7):], res.Obj.After)
			}
		}
		h.add(&h.names, k.number, in, out, called, true)
	default:
		h.fault("client %d at node %d: %+v: errno %d", k.number, k.node, in, res.Err)
	}
}
