package replica

import (
	"fmt"
	"io"
	"path"

	"trinas/replica/disk"
)

// maxSmallFileBytes bounds the files that are read whole (identity, cluster state).
const maxSmallFileBytes = 16 << 20

func readFile(fsys disk.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name, disk.ReadOnly)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.SizeBytes > maxSmallFileBytes {
		return nil, fmt.Errorf("%s has %d bytes, more than a file of its kind ever has", fsys.Path(name), info.SizeBytes)
	}
	b := make([]byte, info.SizeBytes)
	if _, err := f.ReadAt(b, 0); err != nil && err != io.EOF {
		return nil, err
	}
	return b, nil
}

// replaceFile makes content the durable content of name: after a crash the file holds the old
// content or the new, whole.
func replaceFile(fsys disk.FS, name string, content []byte) error {
	dir := path.Dir(name)
	if err := fsys.MkdirAll(dir); err != nil {
		return err
	}
	next := name + ".new"
	f, err := fsys.Open(next, disk.Create)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(0); err != nil {
		return err
	}
	if _, err := f.WriteAt(content, 0); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := fsys.Rename(next, name); err != nil {
		return err
	}
	if err := fsys.SyncDir(dir); err != nil || dir == "." {
		return err
	}
	return fsys.SyncDir(path.Dir(dir)) // dir itself may be new
}
