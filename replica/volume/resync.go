package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strconv"

	"trinas/replica/disk"
)

// A replica that fell behind the log is brought up to date by two others' means: the table as it
// is at some index (Image), and, of the objects, only the extents that changed after what this
// replica has applied (Restore). Objects are read as they are at that moment, newer than the
// table: whoever restores then applies the log from the table's index on, at least to the entry
// that was the newest when the last object was read, and answers no query before. Replaying over a
// newer object ends in the same state (DESIGN.md), exactly as after a crash.

// unfinishedFile is there while objects are being overwritten that the checkpoint does not know.
const unfinishedFile = "resyncing"

// Image gives the volume's table, as a checkpoint holds it, and the index that it is at.
func (v *Volume) Image() (image []byte, index uint64, err error) {
	v.applyMu.Lock()
	defer v.applyMu.Unlock()
	if err := v.broken(); err != nil {
		return nil, 0, err
	}
	return v.appendImage(nil), v.applied, nil
}

// Position gives the last entry applied and the configuration as of it, in one look.
func (v *Volume) Position() (index, term uint64, conf []byte) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.applied, v.term, v.conf
}

// ReadObject fills p with a file's bytes from off on as they are on this replica's disk, whatever
// the table says. What is not there, a whole object included, is zeros.
func (v *Volume) ReadObject(id FileID, off uint64, p []byte) error {
	if err := v.broken(); err != nil {
		return err
	}
	if off > math.MaxInt64-uint64(len(p)) {
		return fmt.Errorf("read object %d: offset %d is past every end", id, off)
	}
	if _, _, err := v.objects.readAt(id, p, int64(off)); err != nil {
		return v.fail(fmt.Errorf("read object %d: %w", id, err))
	}
	return nil
}

// Fetch fills p with another replica's ReadObject. Its error stops Restore and is given back as
// it is; the replica is not broken by it.
type Fetch func(ctx context.Context, id FileID, off uint64, p []byte) error

// Restore makes image, taken of another replica at an index above Applied, this volume's state. It
// fetches the allocated blocks of extents that changed after Applied; holes stay holes. progress
// is told bytes fetched and bytes in all. It returns once all of it is durable. No entry may be
// applied meanwhile. When fetch fails or ctx ends it may be called again, with another image: the
// volume is as before but for newer bytes in objects, which the next call fetches again.
func (v *Volume) Restore(ctx context.Context, image []byte, fetch Fetch, progress func(done, total uint64)) error {
	next := &Volume{}
	if at, err := decodeImage(next, image); err != nil {
		return fmt.Errorf("image of volume %q from another node: at byte %d: %w", v.info.Name, at, err)
	}
	if next.info.ID != v.info.ID || next.applied < v.applied {
		return fmt.Errorf("image of volume %d at index %d: this is volume %d at index %d",
			next.info.ID, next.applied, v.info.ID, v.applied)
	}
	select {
	case v.gate <- struct{}{}:
		defer v.end()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := v.broken(); err != nil {
		return err
	}
	v.unsettle()
	if err := replaceMark(v.fs); err != nil {
		return v.fail(fmt.Errorf("resync: %w", err))
	}
	r := &restoring{v: v, next: next, fetch: fetch, progress: progress, since: v.applied}
	if err := r.extents(ctx); err != nil {
		return err
	}
	if err := r.flush(ctx); err != nil {
		return err
	}
	err := writeCheckpoint(ctx, v.fs, image, v.pacer())
	if err == nil {
		v.adopt(next)
		err = errors.Join(r.sweep(), v.fs.Remove(unfinishedFile), v.fs.SyncDir("."))
	}
	if err != nil {
		return v.stopped(ctx, "resync", err)
	}
	return nil
}

// Unfinished reports that a resync of this replica has begun and not ended: its files hold bytes
// of different times until it is repeated.
func (v *Volume) Unfinished() (bool, error) {
	_, err := v.fs.Stat(unfinishedFile)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func replaceMark(fsys disk.FS) error {
	file, err := fsys.Open(unfinishedFile, disk.Create)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close(), fsys.SyncDir("."))
}

// adopt takes next's state over.
func (v *Volume) adopt(next *Volume) {
	v.applyMu.Lock()
	defer v.applyMu.Unlock()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.table, v.replies, v.conf = next.table, next.replies, next.conf
	v.applied, v.term = next.applied, next.term
}

// restoring is one Restore under way.
type restoring struct {
	v, next     *Volume
	fetch       Fetch
	progress    func(done, total uint64)
	since       uint64
	done, total uint64
	buf         []byte
}

// extents brings every extent that changed into its object.
func (r *restoring) extents(ctx context.Context) error {
	r.each(func(_ *inode, e *extent) error {
		r.total += uint64(e.blocks) * disk.BlockBytes
		return nil
	})
	r.buf = disk.AlignedBytes(ExtentBytes)
	r.progress(0, r.total)
	return r.each(func(in *inode, e *extent) error { return r.extent(ctx, in, e) })
}

// each calls do for every extent that changed after since.
func (r *restoring) each(do func(*inode, *extent) error) error {
	for in := r.next.table.first; in != nil; in = in.next {
		for _, l := range in.ext.leaves {
			for i := range l.ext {
				if e := &l.ext[i]; e.changed > r.since {
					if err := do(in, e); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// extent fetches the runs of allocated blocks and makes holes of the others.
func (r *restoring) extent(ctx context.Context, in *inode, e *extent) error {
	start := uint64(e.num) * ExtentBytes
	if err := e.runs(func(from, n uint64, allocated bool) error {
		if allocated {
			return r.run(ctx, in, start+from, n)
		}
		return r.hole(in, start+from, n)
	}); err != nil || !r.v.WantsFlush() {
		return err
	}
	return r.flush(ctx)
}

// flush makes durable what has been written so far.
func (r *restoring) flush(ctx context.Context) error {
	objects := r.v.objects
	if err := objects.flush(ctx, objects.capture(), r.v.pacer()); err != nil {
		return r.v.stopped(ctx, "resync", err)
	}
	return nil
}

func (r *restoring) run(ctx context.Context, in *inode, off, n uint64) error {
	p := r.buf[:n]
	if err := r.fetch(ctx, in.id, off, p); err != nil {
		return err
	}
	if err := r.change(in.id, off, n, true, func(f disk.File) error {
		if n >= directBytes {
			return f.WriteDirect(p, int64(off)) // nobody reads this replica now
		}
		_, err := f.WriteAt(p, int64(off))
		return err
	}); err != nil {
		return err
	}
	r.done += n
	r.progress(r.done, r.total)
	return nil
}

func (r *restoring) hole(in *inode, off, n uint64) error {
	return r.change(in.id, off, n, false, func(f disk.File) error { return f.PunchHole(int64(off), int64(n)) })
}

func (r *restoring) change(id FileID, off, n uint64, create bool, do func(disk.File) error) error {
	if err := r.v.objects.change(id, off, n, create, do); err != nil {
		return r.v.fail(fmt.Errorf("resync object %d: %w", id, err))
	}
	return nil
}

// sweep removes the objects of files that are gone.
func (r *restoring) sweep() error {
	dirs, err := r.v.fs.List(objectsDir)
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		names, err := r.v.fs.List(objectsDir + "/" + dir)
		if err != nil {
			return err
		}
		for _, name := range names {
			id, err := strconv.ParseUint(name, 16, 64)
			if in := r.next.table.inodes[FileID(id)]; err != nil || in != nil && in.typ == Regular {
				continue // not ours, or in use
			}
			if err := r.v.objects.remove(FileID(id)); err != nil {
				return err
			}
		}
	}
	return nil // one that comes back after a crash belongs to no file
}
