package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"trinas/replica/disk"
)

// punchBytes is the shortest run of zero blocks that is worth a hole where blocks are allocated:
// shorter ones would only break the object into pieces.
const punchBytes = 64 << 10

// piece is a part of a write: bytes to write, or a hole to punch.
type piece struct {
	off, end uint64 // in the file
	hole     bool   // off and end are multiples of the block size
}

// write is WRITE (RFC 1813 §3.3.7).
func (v *Volume) write(index, term uint64, op *Op, r *Result) error {
	in, e := v.table.find(op.File, op.Gen)
	if e == OK {
		r.Obj = in.before()
		if e = in.checkWrite(op); e == OK && in.fence.shuts(op.Node) {
			e = EFENCED
		}
	}
	r.Verifier = term
	v.pieces = v.pieces[:0]
	if e == OK {
		v.pieces = cut(v.pieces, &in.ext, op.Offset, op.Data)
		if err := v.writeObject(in, op.Offset, op.Data); err != nil {
			return fmt.Errorf("write object %s: %w", v.fs.Path(objectPath(in.id)), err)
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if r.Err = e; e == OK {
		r.Count = uint32(len(op.Data))
		if len(op.Data) > 0 {
			v.written(index, in, op)
		}
		r.Obj.After = in.attr()
	}
	v.remember(index, op, r)
	v.applied, v.term = index, term
	return nil
}

// checkWrite decides whether the write may happen.
func (in *inode) checkWrite(op *Op) Errno {
	if e := in.regular(); e != OK {
		return e
	}
	if !in.writable(&op.Cred) {
		return EACCES
	}
	if op.Offset > MaxFileBytes || uint64(len(op.Data)) > MaxFileBytes-op.Offset {
		return EFBIG
	}
	return OK
}

// writeObject brings the pieces of data, which starts at off, into the file's object.
func (v *Volume) writeObject(in *inode, off uint64, data []byte) error {
	if len(v.pieces) == 0 {
		return nil
	}
	id := in.id
	v.comparison.leave(id, off, off+uint64(len(data)))
	create := false
	for _, p := range v.pieces {
		create = create || !p.hole
	}
	o, err := v.objects.acquire(id, create)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // replay of holes in an object that a later entry has removed
	}
	if err != nil {
		return err
	}
	defer v.objects.release(o)
	for _, p := range v.pieces {
		if p.hole {
			err = o.file.PunchHole(int64(p.off), int64(p.end-p.off))
		} else {
			err = writePiece(o.file, &in.ext, data[p.off-off:p.end-off], p.off)
		}
		if err != nil {
			return err
		}
		v.objects.wrote(o, p.off, p.end-p.off)
	}
	return v.objects.settle()
}

// directBytes is from where on bytes for blocks that held nothing are written past the kernel's memory: an image that
// is restored would otherwise take as much memory of each node, and a second copy there. What overwrites blocks is
// written through it, since it may hold them.
const directBytes = 256 << 10

// directBuffers are of MaxIOBytes, aligned: an entry's bytes are not.
var directBuffers = sync.Pool{New: func() any {
	b := disk.AlignedBytes(MaxIOBytes)
	return &b
}}

// writePiece writes p into an object at off; x are the file's blocks before.
func writePiece(file disk.File, x *extents, p []byte, off uint64) error {
	if len(p) < directBytes || len(p) > MaxIOBytes || off%disk.BlockBytes != 0 || len(p)%disk.BlockBytes != 0 || x.anyAllocated(off, off+uint64(len(p))) {
		_, err := file.WriteAt(p, int64(off))
		return err
	}
	b := directBuffers.Get().(*[]byte)
	defer directBuffers.Put(b)
	return file.WriteDirect((*b)[:copy(*b, p)], int64(off))
}

// written notes in the table what writeObject did.
func (v *Volume) written(index uint64, in *inode, op *Op) {
	was := in.ext.blocks
	for _, p := range v.pieces {
		in.ext.set(p.off/disk.BlockBytes, blocksOf(p.end), !p.hole, index)
	}
	v.table.blocks += in.ext.blocks - was
	in.size = max(in.size, op.Offset+uint64(len(op.Data)))
	in.loseSetID(&op.Cred)
	in.changed(op.Time)
}

// cut appends to pieces what a write of data at off has to do. Zeros over blocks that are not
// allocated are nothing to do; long runs of zero blocks are punched; all else is written. It
// depends on nothing but data and table, so that every replica, and a replay, does the same.
func cut(pieces []piece, x *extents, off uint64, data []byte) []piece {
	end := off + uint64(len(data))
	for at := off; at < end; {
		stop := min(end, (at/disk.BlockBytes+1)*disk.BlockBytes)
		if !zero(data[at-off : stop-off]) {
			pieces = extend(pieces, at, stop)
			at = stop
			continue
		}
		// A run of zero blocks, the first and last maybe in part.
		for stop < end && zero(data[stop-off:min(end, stop+disk.BlockBytes)-off]) {
			stop = min(end, stop+disk.BlockBytes)
		}
		pieces = zeros(pieces, x, at, stop)
		at = stop
	}
	return pieces
}

// zeros appends what to do for zeros from at to end.
func zeros(pieces []piece, x *extents, at, end uint64) []piece {
	from, to := blocksOf(at)*disk.BlockBytes, end/disk.BlockBytes*disk.BlockBytes
	if to < from+punchBytes {
		return zeroBlocks(pieces, x, at, end)
	}
	pieces = zeroBlocks(pieces, x, at, from)
	if x.anyAllocated(from, to) {
		pieces = append(pieces, piece{off: from, end: to, hole: true})
	}
	return zeroBlocks(pieces, x, to, end)
}

// zeroBlocks appends those of the blocks that are allocated, to be written.
func zeroBlocks(pieces []piece, x *extents, at, end uint64) []piece {
	for at < end {
		stop := min(end, (at/disk.BlockBytes+1)*disk.BlockBytes)
		if x.allocated(at / disk.BlockBytes) {
			pieces = extend(pieces, at, stop)
		}
		at = stop
	}
	return pieces
}

// extend appends bytes to write, to the last piece if they follow it.
func extend(pieces []piece, at, end uint64) []piece {
	if n := len(pieces); n > 0 && !pieces[n-1].hole && pieces[n-1].end == at {
		pieces[n-1].end = end
		return pieces
	}
	return append(pieces, piece{off: at, end: end})
}

// zero reports whether p is all zeros. Ordinary data ends it within a few bytes.
func zero(p []byte) bool {
	return p[0] == 0 && p[len(p)-1] == 0 && bytes.Equal(p[:len(p)-1], p[1:])
}
