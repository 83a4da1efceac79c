package rescue

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	billy "github.com/go-git/go-billy/v5"
	nfsfile "github.com/willscott/go-nfs/file"

	"trinas/replica/volume"
)

// billyView shows a volume as a go-billy file system that cannot be written. Symbolic links are
// never followed: that is the NFS client's part.
type billyView struct{ volume *Volume }

// Capabilities says what go-nfs may offer; without WriteCapability it answers NFS3ERR_ROFS.
func (b billyView) Capabilities() billy.Capability {
	return billy.ReadCapability | billy.SeekCapability
}

func (b billyView) Open(name string) (billy.File, error) {
	attr, err := b.volume.Lookup(name)
	if err != nil {
		return nil, err
	}
	if attr.Type != volume.Regular {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	return &billyFile{volume: b.volume, attr: attr, name: name}, nil
}

func (b billyView) OpenFile(name string, flag int, _ os.FileMode) (billy.File, error) {
	if flag&(os.O_WRONLY|os.O_RDWR|os.O_CREATE|os.O_TRUNC|os.O_APPEND) != 0 {
		return nil, billy.ErrReadOnly
	}
	return b.Open(name)
}

func (b billyView) Lstat(name string) (os.FileInfo, error) {
	attr, err := b.volume.Lookup(name)
	if err != nil {
		return nil, err
	}
	return fileInfo{name: path.Base(name), attr: attr}, nil
}

func (b billyView) Stat(name string) (os.FileInfo, error) { return b.Lstat(name) }

func (b billyView) ReadDir(name string) ([]os.FileInfo, error) {
	attr, err := b.volume.Lookup(name)
	if err != nil {
		return nil, err
	}
	entries, err := b.volume.ReadDir(attr, name)
	if err != nil {
		return nil, err
	}
	out := make([]os.FileInfo, len(entries))
	for i, e := range entries {
		out[i] = fileInfo{name: e.Name, attr: e.Attr}
	}
	return out, nil
}

func (b billyView) Readlink(name string) (string, error) {
	attr, err := b.volume.Lookup(name)
	if err != nil {
		return "", err
	}
	return b.volume.ReadLink(attr, name)
}

func (b billyView) Join(elem ...string) string { return path.Join(elem...) }
func (b billyView) Root() string               { return "/" + b.volume.Name }

func (b billyView) Chroot(string) (billy.Filesystem, error)     { return nil, billy.ErrNotSupported }
func (b billyView) Create(string) (billy.File, error)           { return nil, billy.ErrReadOnly }
func (b billyView) Rename(string, string) error                 { return billy.ErrReadOnly }
func (b billyView) Remove(string) error                         { return billy.ErrReadOnly }
func (b billyView) MkdirAll(string, os.FileMode) error          { return billy.ErrReadOnly }
func (b billyView) Symlink(string, string) error                { return billy.ErrReadOnly }
func (b billyView) TempFile(string, string) (billy.File, error) { return nil, billy.ErrReadOnly }

// fileInfo describes a file to go-nfs.
type fileInfo struct {
	name string
	attr volume.Attr
}

func (i fileInfo) Name() string       { return i.name }
func (i fileInfo) Size() int64        { return int64(i.attr.SizeBytes) }
func (i fileInfo) ModTime() time.Time { return time.Unix(0, i.attr.Mtime) }
func (i fileInfo) IsDir() bool        { return i.attr.Type == volume.Directory }

// Mode has set-id and sticky bits where Unix has them, which go-nfs (v0.0.4, file.go) passes on
// as they are; Go's own bits for them mean nothing to an NFS client.
func (i fileInfo) Mode() fs.FileMode {
	return typeMode(i.attr.Type) | fs.FileMode(i.attr.Mode&0o7777)
}

// Sys is where go-nfs looks for what fs.FileInfo has no word for.
func (i fileInfo) Sys() any {
	return nfsfile.FileInfo{
		Nlink: i.attr.Nlink, UID: i.attr.UID, GID: i.attr.GID,
		Major: i.attr.Rdev[0], Minor: i.attr.Rdev[1], Fileid: uint64(i.attr.File),
	}
}

// billyFile is an open regular file. Not safe for concurrent Read and Seek, as os.File is not.
type billyFile struct {
	volume *Volume
	attr   volume.Attr
	name   string
	off    int64
}

func (f *billyFile) Name() string { return f.name }

func (f *billyFile) ReadAt(p []byte, off int64) (int, error) {
	return f.volume.readAt(f.attr, strings.TrimPrefix(f.name, "/"), p, off)
}

func (f *billyFile) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.off)
	f.off += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

func (f *billyFile) Seek(off int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		off += f.off
	case io.SeekEnd:
		off += int64(f.attr.SizeBytes)
	}
	if off < 0 {
		return 0, &fs.PathError{Op: "seek", Path: f.name, Err: fs.ErrInvalid}
	}
	f.off = off
	return off, nil
}

func (f *billyFile) Write([]byte) (int, error) { return 0, billy.ErrReadOnly }
func (f *billyFile) Truncate(int64) error      { return billy.ErrReadOnly }
func (f *billyFile) Lock() error               { return billy.ErrNotSupported }
func (f *billyFile) Unlock() error             { return billy.ErrNotSupported }
func (f *billyFile) Close() error              { return nil }
