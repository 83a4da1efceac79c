package volume

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"

	"trinas/replica/disk"
)

// CheckpointFile is the name of the checkpoint in a volume's folder.
const CheckpointFile = "checkpoint"

// A checkpoint file is a volume's image in chunks, each with a checksum. Little endian:
//
//	 0                       8       12      16                      24      28      32
//	+-----------------------+-------+-------+-----------------------+-------+-------+
//	|   "trinasCP"          |version| chunk |      image length     | 0 0 0 0|  crc |
//	+-----------------------+-------+-------+-----------------------+-------+-------+
//	| chunk bytes of the image, fewer in the last                   |  crc  | ...
//	+---------------------------------------------------------------+-------+
//
// A crc is CRC-32C over its chunk and, before that, the crc that stands before the chunk: the
// chunks hang together, and on the header.
const (
	checkpointFile    = CheckpointFile
	checkpointNew     = "checkpoint.new"
	checkpointMagic   = "trinasCP"
	checkpointVersion = 1
	headBytes         = 32
	chunkBytes        = 64 << 10
	writeBytes        = 16 * chunkBytes // written at a time, about
)

// Checkpoint makes everything applied so far durable without the log: entries up to the index
// that it returns are not needed to recover. It takes the table between two entries (Apply waits
// for that; queries do not), then writes dirty objects back at the rate of Options and syncs
// them, then writes the table. ErrBusy while another one runs, or a Flush, or a Restore.
//
// When ctx ends, its error is returned and the last checkpoint stands. Any other error is final:
// the volume is broken.
func (v *Volume) Checkpoint(ctx context.Context) (index uint64, err error) {
	if !v.begin() {
		return 0, ErrBusy
	}
	defer v.end()
	v.applyMu.Lock()
	if err := v.tidy(); err != nil {
		v.applyMu.Unlock()
		return 0, err
	}
	index = v.applied
	b := v.appendImage(make([]byte, 0, v.checkpointSize+v.checkpointSize/8+4096))
	dirty := v.objects.capture()
	v.applyMu.Unlock()

	v.checkpointSize = len(b)
	pace := v.pacer()
	err = v.objects.flush(ctx, dirty, pace)
	if err == nil {
		err = writeCheckpoint(ctx, v.fs, b, pace)
	}
	if err == nil {
		err = v.saveNote()
	}
	if err != nil {
		return 0, v.stopped(ctx, "checkpoint", err)
	}
	return index, nil
}

// Flush makes the objects durable that have changed, as a checkpoint does, and leaves the table: for when many small
// files are made, whose objects would else be synced by Apply, one after the other (Options.DirtyObjects). Errors
// as with Checkpoint.
func (v *Volume) Flush(ctx context.Context) error {
	if !v.begin() {
		return ErrBusy
	}
	defer v.end()
	v.applyMu.Lock()
	err := v.broken()
	dirty := v.objects.capture()
	v.applyMu.Unlock()
	if err != nil {
		return err
	}
	if err := v.objects.flush(ctx, dirty, v.pacer()); err != nil {
		return v.stopped(ctx, "flush", err)
	}
	return nil
}

// WantsFlush reports whether half as many objects are dirty as may be.
func (v *Volume) WantsFlush() bool {
	_, dirty, _ := v.objects.stats()
	return dirty >= (v.opt.DirtyObjects+1)/2
}

func (v *Volume) pacer() *pacer { return newPacer(v.opt.WritebackBytesPerSecond, v.opt.Hurry) }

// begin takes the gate, if nobody has it; end gives it back.
func (v *Volume) begin() bool {
	select {
	case v.gate <- struct{}{}:
		return true
	default:
		return false
	}
}

func (v *Volume) end() { <-v.gate }

// stopped says why a checkpoint or flush did not happen: since ctx has ended, or for good.
func (v *Volume) stopped(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return fmt.Errorf("%s of volume %q stopped: %w", what, v.info.Name, err)
	}
	return v.fail(fmt.Errorf("%s: %w", what, err))
}

// writeCheckpoint replaces the checkpoint; it returns once the new one is durable.
func writeCheckpoint(ctx context.Context, fsys disk.FS, image []byte, pace *pacer) error {
	file, err := fsys.Open(checkpointNew, disk.Create)
	if err != nil {
		return err
	}
	if err := writeImage(ctx, file, image, pace); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", fsys.Path(checkpointNew), err), file.Close())
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", fsys.Path(checkpointNew), err)
	}
	if err := fsys.Rename(checkpointNew, checkpointFile); err != nil {
		return err
	}
	return fsys.SyncDir(".")
}

func writeImage(ctx context.Context, file disk.File, image []byte, pace *pacer) error {
	if err := file.Truncate(0); err != nil { // one that was not finished may be there
		return err
	}
	buf, crc := appendHead(make([]byte, 0, writeBytes+chunkBytes+64*4), len(image))
	for off := int64(0); ; buf = buf[:0] {
		for len(image) > 0 && len(buf) < writeBytes {
			n := min(len(image), chunkBytes)
			crc = crcOf(crc, image[:n])
			buf = appendU32(append(buf, image[:n]...), crc)
			image = image[n:]
		}
		if _, err := file.WriteAt(buf, off); err != nil {
			return err
		}
		off += int64(len(buf))
		if err := pace.wait(ctx, int64(len(buf))); err != nil || len(image) == 0 {
			return err
		}
	}
}

func appendHead(b []byte, imageLen int) ([]byte, uint32) {
	b = append(b, checkpointMagic...)
	b = appendU32(b, checkpointVersion)
	b = appendU32(b, chunkBytes)
	b = appendU64(b, uint64(imageLen))
	b = appendU32(b, 0)
	crc := crcOf(0, b)
	return appendU32(b, crc), crc
}

func crcOf(crc uint32, p []byte) uint32 {
	return crc32.Update(crc, crc32.MakeTable(crc32.Castagnoli), p)
}

// damage says what is wrong with a checkpoint file, and where.
type damage struct {
	offset int64
	reason string
}

func (d *damage) Error() string { return fmt.Sprintf("at byte %d: %s", d.offset, d.reason) }

// readCheckpoint gives the image in the checkpoint file.
func readCheckpoint(fsys disk.FS) ([]byte, error) {
	file, err := fsys.Open(checkpointFile, disk.ReadOnly)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	b := make([]byte, info.SizeBytes)
	if n, err := file.ReadAt(b, 0); n < len(b) {
		return nil, fmt.Errorf("read %d of %d bytes: %w", n, len(b), err)
	} else if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return joinChunks(b)
}

// joinChunks checks a checkpoint file's content and gives the image in it, using b's memory.
func joinChunks(b []byte) ([]byte, error) {
	if len(b) < headBytes || string(b[:8]) != checkpointMagic {
		return nil, &damage{0, "this is no checkpoint, or it is cut short"}
	}
	if binary.LittleEndian.Uint32(b[headBytes-4:]) != crcOf(0, b[:headBytes-4]) {
		return nil, &damage{0, "the header's checksum is wrong"}
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v > checkpointVersion {
		return nil, fmt.Errorf("it has format %d and this node knows up to %d: upgrade trinas on this node",
			v, checkpointVersion)
	}
	want, crc := appendHead(nil, int(binary.LittleEndian.Uint64(b[16:])))
	if string(want) != string(b[:headBytes]) {
		return nil, &damage{0, "the header is none of this version's"}
	}
	length := binary.LittleEndian.Uint64(b[16:])
	image, rest := b[headBytes:headBytes], b[headBytes:]
	for uint64(len(image)) < length {
		n := int(min(chunkBytes, length-uint64(len(image))))
		off := int64(len(b) - len(rest))
		if len(rest) < n+4 {
			return nil, &damage{off, "it is cut short"}
		}
		if crc = crcOf(crc, rest[:n]); crc != binary.LittleEndian.Uint32(rest[n:]) {
			return nil, &damage{off, fmt.Sprintf("the checksum of the next %d bytes is wrong", n)}
		}
		image = append(image, rest[:n]...) // moves left, over checksums that are done with
		rest = rest[n+4:]
	}
	if len(rest) > 0 {
		return nil, &damage{int64(len(b) - len(rest)), fmt.Sprintf("%d bytes too many", len(rest))}
	}
	return image, nil
}

// Open loads a volume's checkpoint. It changes nothing on the disk. The caller has synced the folder before, as an
// earlier run may not have come to that; and then applies the
// log from Applied()+1 on, at least up to the last entry that was ever applied here, before
// anything is read: objects may be newer than the table until then.
func Open(fsys disk.FS, opt Options) (*Volume, error) {
	opt = opt.withDefaults()
	v := &Volume{fs: fsys, opt: opt, gate: make(chan struct{}, 1), settled: math.MaxUint64}
	path := fsys.Path(checkpointFile)
	image, err := readCheckpoint(fsys)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open volume: no checkpoint %s: this folder holds no volume; %w", path, err)
	}
	if err == nil {
		if at, derr := decodeImage(v, image); derr != nil {
			err = &damage{fileOffset(at), derr.Error()}
		}
	}
	if bad := (*damage)(nil); errors.As(err, &bad) {
		return nil, fmt.Errorf("open volume: %w: checkpoint %s, %w", ErrDamaged, path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open volume: checkpoint %s: %w", path, err)
	}
	v.checkpointSize = len(image)
	v.readNote()
	if v.objects, err = newObjects(fsys, opt); err != nil {
		return nil, fmt.Errorf("open volume: list objects below %s: %w", fsys.Path("."), err)
	}
	return v, nil
}

// fileOffset gives where in a checkpoint file byte at of its image is.
func fileOffset(at int) int64 { return int64(headBytes + at + at/chunkBytes*4) }

// Make makes a volume in fsys: a first checkpoint at index 1, term 1, with an empty root
// directory (mode 0755, owned by root). It returns once that is durable; only the entry of
// fsys's own folder in its parent is the caller's to sync. A volume with the same ID that is
// there already is left as it is; another one is an error.
func Make(fsys disk.FS, info Info, conf []byte) error {
	v := &Volume{info: info, conf: conf, table: newTable(), replies: newReplies(), applied: 1, term: 1}
	v.table.add(&inode{
		id: RootID, gen: 1, typ: Directory, mode: 0o755, nlink: 2, dir: newDirectory(RootID),
		atime: info.Created, mtime: info.Created, ctime: info.Created,
	})
	return v.make(fsys)
}

// MakeEmpty is Make for a replica of a volume that others have: it is at index 0, with no files and no
// configuration, until Restore.
// What a removal that a crash cut short has left of an earlier replica is removed (Forget).
func MakeEmpty(fsys disk.FS, info Info) error {
	if _, err := fsys.Stat(checkpointFile); errors.Is(err, fs.ErrNotExist) {
		if err := fsys.RemoveAll(objectsDir); err != nil {
			return fmt.Errorf("make volume %q: %w", info.Name, err)
		}
	}
	v := &Volume{info: info, table: newTable(), replies: newReplies()}
	return v.make(fsys)
}

// Forget begins the removal of a replica: it returns once its checkpoint is durably gone, without which
// what is left is none. The volume must be closed; there need not be one.
func Forget(fsys disk.FS) error {
	err := fsys.Remove(checkpointFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = fsys.SyncDir(".")
	}
	return err
}

// make writes v as a volume's first checkpoint.
func (v *Volume) make(fsys disk.FS) error {
	info := v.info
	if len(info.Name) > NameBytes {
		return fmt.Errorf("make volume: its name has %d bytes, at most %d", len(info.Name), NameBytes)
	}
	there, err := Open(fsys, Options{})
	switch {
	case err == nil && there.info.ID == info.ID:
		return there.Close()
	case err == nil:
		return fmt.Errorf("make volume %d in %s: volume %d (%q) is there; choose an empty folder",
			info.ID, fsys.Path("."), there.info.ID, there.info.Name)
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("make volume %d in %s: %w", info.ID, fsys.Path("."), err)
	}
	if err := checkEmpty(fsys); err != nil {
		return fmt.Errorf("make volume %q: %w", info.Name, err)
	}
	if err := fsys.MkdirAll(objectsDir); err != nil {
		return fmt.Errorf("make volume %q: %w", info.Name, err)
	}
	pace := newPacer(1<<30, never)
	if err := writeCheckpoint(context.Background(), fsys, v.appendImage(nil), pace); err != nil {
		return fmt.Errorf("make volume %q: %w", info.Name, err)
	}
	return nil
}

// checkEmpty refuses a folder that has objects but no checkpoint: they are somebody's data, and
// would show through in the new volume's files.
func checkEmpty(fsys disk.FS) error {
	names, err := fsys.List(objectsDir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(names) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: %s holds objects, and there is no checkpoint", ErrDamaged, fsys.Path(objectsDir))
}
