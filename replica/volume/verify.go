package volume

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"

	"trinas/replica/disk"
)

// Replicas are compared by entries of the log: each digests the same extents, or inodes, as they are
// once that entry is applied, and whoever leads asks all for their digests (replica/verify.go). Apply
// does not wait for the disk: the bytes are read beside it, and only an entry that changes one of the
// extents that are being read waits for that, 1 MiB at most. Digests are no part of the state.

// Bounds of one entry that compares.
const (
	MaxVerifyBytes  = ExtentBytes // allocated bytes; one extent at least is taken
	maxVerifyParts  = 64          // extents
	MaxVerifyInodes = 1024
	maxDigests      = 16 // entries whose digests are kept

	// readPieceBytes is read directly at a time: ext4 holds the file's lock meanwhile, for which
	// writers to the same file wait.
	readPieceBytes = 256 << 10
)

// PartState says whether a digest may be compared.
type PartState string

const (
	PartRead       PartState = "read"
	PartMissing    PartState = "missing bytes" // the object ends before, or is not there
	PartUnreadable PartState = "unreadable"
)

// Part is one extent's digest. Sum is SHA-256 over the extent's bytes, zeros where the object has
// none. A part of VerifyTable has no place.
type Part struct {
	File   FileID    `json:"file"`
	Offset uint64    `json:"offset"` // bytes, a multiple of ExtentBytes
	Bytes  uint64    `json:"bytes"`  // allocated, as the table says
	State  PartState `json:"state"`
	Sum    []byte    `json:"sum,omitempty"`
	Detail string    `json:"detail,omitempty"` // of PartMissing and PartUnreadable
}

// Digest is what a replica found at one entry.
type Digest struct {
	Index     uint64 `json:"index"`
	Unsettled bool   `json:"unsettled,omitempty"` // it cannot tell yet: its objects may be newer than the entry
	Parts     []Part `json:"parts"`

	// Next and NextOffset are where the following VerifyRange or VerifyTable begins; 0: nowhere.
	Next       FileID `json:"next"`
	NextOffset uint64 `json:"next_offset"`
}

// ErrNoDigest: the entry compared nothing, or long ago.
var ErrNoDigest = errors.New("there is no digest of that entry")

// comparison is one entry's digest, maybe still being made. A nil one is done.
type comparison struct {
	digest Digest
	bits   [][extentBlocks / 64]uint64 // allocated blocks, by part
	done   chan struct{}               // closed when digest is whole
}

func (c *comparison) wait() {
	if c != nil {
		<-c.done
	}
}

// leave returns when bytes [from, to) of a file may be changed.
func (c *comparison) leave(id FileID, from, to uint64) {
	if c == nil {
		return
	}
	for i := range c.digest.Parts { // place and File are set before anybody sees it
		p := &c.digest.Parts[i]
		if p.File == id && p.Offset < to && from < p.Offset+ExtentBytes {
			<-c.done
			return
		}
	}
}

// Settle says that objects are not newer than the table from index on: every entry that was ever
// applied here is at or before it, or was when an object was read elsewhere. Before, digests are
// Unsettled.
func (v *Volume) Settle(index uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.settled = index
}

// unsettle ends comparing until the next Settle.
func (v *Volume) unsettle() {
	v.applyMu.Lock()
	defer v.applyMu.Unlock()
	v.comparison.wait()
	v.Settle(math.MaxUint64)
}

// Compared waits for the digest of the entry at index, which has been applied. ErrNoDigest.
func (v *Volume) Compared(ctx context.Context, index uint64) (Digest, error) {
	v.mu.RLock()
	i := slices.IndexFunc(v.digests, func(c *comparison) bool { return c.digest.Index == index })
	if i < 0 {
		v.mu.RUnlock()
		return Digest{}, ErrNoDigest
	}
	c := v.digests[i]
	v.mu.RUnlock()
	select {
	case <-c.done:
		return c.digest, nil
	case <-ctx.Done():
		return Digest{}, ctx.Err()
	}
}

// verify applies the entries of this file.
func (v *Volume) verify(index, term uint64, op *Op, r *Result) error {
	var err error
	switch op.Kind {
	case VerifyRange:
		v.verifyRange(index, op)
	case VerifyTable:
		v.verifyTable(index, op)
	case VerifyNote:
		v.mu.Lock()
		v.note.index, v.note.data = index, slices.Clone(op.Data)
		v.mu.Unlock()
	case Repair:
		err = v.repair(op, r)
	}
	if err != nil {
		return err
	}
	v.mu.Lock()
	v.applied, v.term = index, term
	v.mu.Unlock()
	return nil
}

// remembered keeps c for Compared.
func (v *Volume) remembered(c *comparison) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.digests) == maxDigests {
		v.digests = slices.Delete(v.digests, 0, 1)
	}
	v.digests = append(v.digests, c)
}

func (v *Volume) verifyRange(index uint64, op *Op) {
	c := &comparison{done: make(chan struct{})}
	c.digest.Index = index
	c.digest.Unsettled = index <= v.settled
	v.choose(c, op)
	v.comparison.wait() // whoever proposes these waits for one before the next
	v.comparison = c
	v.remembered(c)
	if c.digest.Unsettled {
		close(c.done)
		return
	}
	go v.digestParts(c)
}

// choose puts the extents to be read into c, and where the next begin.
func (v *Volume) choose(c *comparison, op *Op) {
	d, left := &c.digest, uint64(op.Count)
	first := uint32(min(op.Offset/ExtentBytes, maxExtents))
	for in := v.table.from(op.File); in != nil; in, first = in.next, 0 {
		for _, l := range in.ext.leaves {
			if uint64(l.key+1)*leafExtents <= uint64(first) {
				continue
			}
			for i := range l.ext {
				e := &l.ext[i]
				bytes := uint64(e.blocks) * disk.BlockBytes
				if e.num < first {
					continue
				}
				if n := len(d.Parts); n > 0 && (bytes > left || n == maxVerifyParts) {
					d.Next, d.NextOffset = in.id, uint64(e.num)*ExtentBytes
					return
				}
				left -= min(left, bytes)
				d.Parts = append(d.Parts, Part{File: in.id, Offset: uint64(e.num) * ExtentBytes, Bytes: bytes})
				c.bits = append(c.bits, e.bitmap())
			}
		}
	}
}

// bitmap gives the extent's allocated blocks.
func (e *extent) bitmap() (b [extentBlocks / 64]uint64) {
	switch {
	case e.bits != nil:
		b = *e.bits
	case e.blocks != 0:
		for i := range b {
			b[i] = ^uint64(0)
		}
	}
	return b
}

// from gives the first inode with at least id.
func (t *table) from(id FileID) *inode {
	if in := t.inodes[id]; in != nil {
		return in
	}
	in := t.first
	for in != nil && in.id < id {
		in = in.next
	}
	return in
}

func (v *Volume) digestParts(c *comparison) {
	defer close(c.done)
	buf := disk.AlignedBytes(ExtentBytes)
	for i := range c.digest.Parts {
		p := &c.digest.Parts[i]
		got, err := readStored(v.fs, p.File, p.Offset, buf)
		if err != nil {
			p.State, p.Detail = PartUnreadable, err.Error()
			continue
		}
		sum := sha256.Sum256(buf)
		p.State, p.Sum = PartRead, sum[:]
		if end := lastBlock(c.bits[i]); end > 0 && got <= (end-1)*disk.BlockBytes {
			p.State, p.Detail = PartMissing, fmt.Sprintf("%s ends at byte %d", v.fs.Path(objectPath(p.File)), p.Offset+uint64(got))
		}
	}
}

// lastBlock gives the number of blocks up to the last one that is allocated.
func lastBlock(bits [extentBlocks / 64]uint64) int {
	for block := extentBlocks - 1; block >= 0; block-- {
		if bits[block/64]&(1<<(block%64)) != 0 {
			return block + 1
		}
	}
	return 0
}

// readStored fills p with a file's bytes from off on as the disk has them, with zeros where it has
// none; got is where the object ends. The object is opened by name, as after a restart: one that is
// open may have lost its name. p is aligned.
func readStored(fsys disk.FS, id FileID, off uint64, p []byte) (got int, err error) {
	clear(p)
	file, err := fsys.Open(objectPath(id), disk.ReadOnly)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer file.Close()
	for got < len(p) {
		n, err := file.ReadStored(p[got:min(got+readPieceBytes, len(p))], int64(off)+int64(got))
		got += n
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return got, err
		}
	}
	clear(p[got:])
	return got, nil
}

// ReadExtent gives an extent's bytes as they are on this replica's disk, with zeros where it has none.
// They are for a Repair, if their digest is the one that was wanted.
func (v *Volume) ReadExtent(id FileID, off uint64) ([]byte, error) {
	if err := v.broken(); err != nil {
		return nil, err
	}
	if off%ExtentBytes != 0 || off >= MaxFileBytes {
		return nil, fmt.Errorf("read object %d: there is no extent at byte %d", id, off)
	}
	buf := disk.AlignedBytes(ExtentBytes)
	_, err := readStored(v.fs, id, off, buf)
	return buf, err
}

// verifyTable digests inodes, or the replies, at once: they are in memory.
func (v *Volume) verifyTable(index uint64, op *Op) {
	c := &comparison{done: make(chan struct{})}
	close(c.done)
	c.digest.Index = index
	h := sha256.New()
	if op.File == 0 {
		h.Write(v.appendReplies(nil))
	} else {
		n := uint32(0)
		var b []byte
		in := v.table.from(op.File)
		for ; in != nil && n < min(op.Count, MaxVerifyInodes); in = in.next {
			b = in.append(b[:0])
			h.Write(b)
			n++
		}
		if in != nil {
			c.digest.Next = in.id
		}
		h.Write(appendU64(appendU64(nil, uint64(len(v.table.inodes))), v.table.blocks))
	}
	c.digest.Parts = []Part{{File: op.File, State: PartRead, Sum: h.Sum(nil)}}
	v.remembered(c)
}

// repair is Repair. Whether it happens is for the table to say, the same everywhere: not when the
// extent has changed since the digest, since Data is then of no use.
func (v *Volume) repair(op *Op, r *Result) error {
	in := v.table.inodes[op.File]
	if in == nil {
		r.Err = ESTALE
		return nil
	}
	e := in.ext.find(uint32(min(op.Offset/ExtentBytes, maxExtents)))
	if e == nil || e.changed > op.Verifier || op.Offset%ExtentBytes != 0 || len(op.Data) > ExtentBytes {
		r.Err = ENOTSYNC
		return nil
	}
	if v.opt.Node != 0 && !slices.Contains(op.Nodes, v.opt.Node) {
		return nil
	}
	v.comparison.leave(op.File, op.Offset, op.Offset+ExtentBytes)
	data := make([]byte, ExtentBytes)
	copy(data, op.Data)
	if err := v.objects.reopenLost(op.File); err != nil {
		return fmt.Errorf("repair object %s: %w", v.fs.Path(objectPath(op.File)), err)
	}
	return e.runs(func(from, n uint64, allocated bool) error {
		off := op.Offset + from
		err := v.objects.change(op.File, off, n, allocated, func(f disk.File) error {
			if !allocated {
				return f.PunchHole(int64(off), int64(n))
			}
			_, err := f.WriteAt(data[from:from+n], int64(off))
			return err
		})
		if err != nil {
			return fmt.Errorf("repair object %s: %w", v.fs.Path(objectPath(op.File)), err)
		}
		return nil
	})
}
