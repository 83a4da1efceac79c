package volume

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"slices"

	"trinas/replica/disk"
)

// noteFile keeps the last VerifyNote as of the checkpoint: its CRC-32C, then its bytes. It is no part
// of the state: a replica without it, or with an older one, asks the others.
const (
	noteFile = "verified"
	noteNew  = "verified.new"
)

// note is the last VerifyNote applied here. Guarded by Volume.mu; saved by its gate.
type note struct {
	index, saved uint64 // of its entry; 0: it is from the file
	data         []byte
}

// Note gives the last VerifyNote that this replica knows, nil for none.
func (v *Volume) Note() []byte {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return slices.Clone(v.note.data)
}

// readNote reads the file. What cannot be read is as good as none: the others have it, or the next
// verification writes it.
func (v *Volume) readNote() {
	b, err := readSmall(v.fs, noteFile)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil && (len(b) < 4 || crcOf(0, b[4:]) != binary.LittleEndian.Uint32(b)) {
		err = &damage{0, "its checksum is wrong"}
	}
	if err != nil {
		v.opt.Log.Warn("cannot read when this replica was verified last", "event", "verify-note-lost",
			"volume", v.info.Name, "path", v.fs.Path(noteFile), "err", err)
		return
	}
	v.note.data = b[4:]
}

func readSmall(fsys disk.FS, name string) ([]byte, error) {
	file, err := fsys.Open(name, disk.ReadOnly)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	b := make([]byte, min(info.SizeBytes, MaxIOBytes+4))
	if _, err := file.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}

// saveNote writes a note that is newer than the file. The caller holds the gate, and the checkpoint
// that it belongs to is written: the log gives back what is newer.
func (v *Volume) saveNote() error {
	v.mu.RLock()
	n := v.note
	v.mu.RUnlock()
	if n.index == n.saved {
		return nil
	}
	file, err := v.fs.Open(noteNew, disk.Create)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(append(appendU32(nil, crcOf(0, n.data)), n.data...), 0)
	if err == nil {
		err = file.Truncate(int64(4 + len(n.data)))
	}
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := v.fs.Rename(noteNew, noteFile); err != nil {
		return err
	}
	v.mu.Lock()
	v.note.saved = n.index
	v.mu.Unlock()
	return v.fs.SyncDir(".")
}
