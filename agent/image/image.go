// Package image lists the guest images of a volume as Proxmox lays them out (FOLDER/VMID/FILE), with what
// can be known of them without starting a program for each: sizes from the attributes, and the virtual size
// and backing file from a qcow2 file's first bytes. It must never change anything.
//
// Floor 3: imports replica/volume.
package image

import (
	"context"
	"encoding/binary"
	"fmt"
	"path"
	"strings"

	"trinas/replica/volume"
)

// Image is one file, below images/VMID as a rule.
type Image struct {
	Path      string `json:"path"`             // from the volume's root: "images/100/vm-100-disk-0.qcow2"
	Format    string `json:"format"`           // "raw" or "qcow2", by the name's end; "" others, which are not listed
	SizeBytes uint64 `json:"size_bytes"`       // that the guest sees
	FileBytes uint64 `json:"file_bytes"`       // the file's length
	UsedBytes uint64 `json:"used_bytes"`       // allocated
	Parent    string `json:"parent,omitempty"` // the backing file, as the qcow2 file names it
	CtimeSec  int64  `json:"ctime_sec"`        // last change, seconds since 1970
	Damage    string `json:"damage,omitempty"` // why the format's header cannot be used

	File volume.FileID `json:"-"`
}

// Doer carries out operations; *replica.Node is one.
type Doer interface {
	Do(ctx context.Context, vol volume.ID, op *volume.Op, res *volume.Result) error
}

// Bounds of a listing, and of an image's snapshots.
const (
	maxImages = 65536
	maxChain  = 256
)

// Folder is where images are unless told otherwise.
const Folder = "images"

// List gives the images of one guest, or of all (vmid ""), in the directories' order, from a folder of
// the volume. A volume without that folder has none. Errors: ctx's, replica.ErrNoVolume; more than
// 65,536 images.
func List(ctx context.Context, node Doer, vol volume.ID, folder, vmid string) ([]Image, error) {
	l := lister{ctx: ctx, node: node, vol: vol, images: []Image{}}
	top, err := l.walk(folder)
	if err != nil || top.Type != volume.Directory {
		return l.images, err
	}
	err = l.each(top, func(e *volume.DirEntry) error {
		if e.Attr.Type != volume.Directory || vmid != "" && e.Name != vmid {
			return nil
		}
		return l.guest(path.Join(folder, e.Name), e.Attr)
	})
	return l.images, err
}

// Stat gives what is known of one file, at file from the volume's root; found is false where there is
// no regular file. Errors: ctx's, replica.ErrNoVolume.
func Stat(ctx context.Context, node Doer, vol volume.ID, file string) (image Image, found bool, err error) {
	l := lister{ctx: ctx, node: node, vol: vol}
	attr, err := l.walk(file)
	if err != nil || attr.Type != volume.Regular {
		return Image{}, false, err
	}
	image, err = l.describe(file, attr)
	return image, true, err
}

// Chain gives the image at file and the snapshots that Proxmox keeps of it as files of their own, which
// it backs: snap-SNAPSHOT-FILE beside it.
func Chain(ctx context.Context, node Doer, vol volume.ID, file string) ([]string, error) {
	l := lister{ctx: ctx, node: node, vol: vol}
	folder, base := path.Split(path.Clean(file))
	dir, err := l.walk(folder)
	if err != nil {
		return nil, err
	}
	chain := []string{file}
	err = l.each(dir, func(e *volume.DirEntry) error {
		if e.Attr.Type != volume.Regular || !strings.HasPrefix(e.Name, "snap-") || !strings.HasSuffix(e.Name, "-"+base) {
			return nil
		}
		if chain = append(chain, folder+e.Name); len(chain) > maxChain {
			return fmt.Errorf("image %s has more than %d snapshots", file, maxChain)
		}
		return nil
	})
	return chain, err
}

// lister gathers images.
type lister struct {
	ctx    context.Context
	node   Doer
	vol    volume.ID
	images []Image
}

// guest adds the images in one guest's folder.
func (l *lister) guest(folder string, dir volume.Attr) error {
	return l.each(dir, func(e *volume.DirEntry) error {
		format := formatOf(e.Name)
		if e.Attr.Type != volume.Regular || format == "" {
			return nil
		}
		if len(l.images) >= maxImages {
			return fmt.Errorf("the volume holds more than %d images", maxImages)
		}
		image, err := l.describe(path.Join(folder, e.Name), e.Attr)
		l.images = append(l.images, image)
		return err
	})
}

// formatOf is an image's format by its name.
func formatOf(name string) string {
	switch format := strings.TrimPrefix(path.Ext(name), "."); format {
	case "raw", "qcow2":
		return format
	}
	return ""
}

// describe gives what is known of a file.
func (l *lister) describe(file string, attr volume.Attr) (Image, error) {
	image := Image{File: attr.File, Path: file, Format: formatOf(file), SizeBytes: attr.SizeBytes,
		FileBytes: attr.SizeBytes, UsedBytes: attr.UsedBytes, CtimeSec: attr.Ctime / 1e9}
	if image.Format != "qcow2" {
		return image, nil
	}
	err := l.qcow2(&image, attr)
	return image, err
}

// The head of a qcow2 file, big endian (QEMU, docs/interop/qcow2.txt):
//
//	 0       4         8               16           20             24
//	+-------+---------+---------------+------------+--------------+--------------+
//	|"QFI\xfb"|version| backing offset|backing size| cluster bits | virtual size |
//	+-------+---------+---------------+------------+--------------+--------------+
const (
	qcow2Magic     = 0x514649fb
	qcow2HeadBytes = 32
	qcow2ReadBytes = 4096 // the backing file's name stands within the first cluster, near its head
	maxBackingName = 1023
)

// qcow2 reads what the image's head says.
func (l *lister) qcow2(image *Image, file volume.Attr) error {
	head, err := l.read(file, 0, qcow2ReadBytes)
	if err != nil {
		return err
	}
	if len(head) < qcow2HeadBytes || binary.BigEndian.Uint32(head) != qcow2Magic {
		image.Damage = "it does not begin as a qcow2 file does"
		return nil
	}
	image.SizeBytes = binary.BigEndian.Uint64(head[24:])
	offset, size := binary.BigEndian.Uint64(head[8:]), binary.BigEndian.Uint32(head[16:])
	switch {
	case offset == 0:
		return nil
	case size > maxBackingName || offset > file.SizeBytes:
		image.Damage = "the place of its backing file's name is out of range"
		return nil
	}
	if offset+uint64(size) > uint64(len(head)) {
		if head, err = l.read(file, offset, size); err != nil {
			return err
		}
		offset = 0
	}
	if offset+uint64(size) > uint64(len(head)) {
		image.Damage = "it ends before its backing file's name does"
		return nil
	}
	image.Parent = string(head[offset : offset+uint64(size)])
	return nil
}

// read gives up to count bytes of a file; none of one that went meanwhile.
func (l *lister) read(file volume.Attr, offset uint64, count uint32) ([]byte, error) {
	op := volume.Op{Kind: volume.Read, File: file.File, Gen: file.Gen, Offset: offset, Count: count,
		Data: make([]byte, 0, count)}
	var res volume.Result
	if err := l.node.Do(l.ctx, l.vol, &op, &res); err != nil {
		return nil, err
	}
	return res.Data, nil
}

// walk looks a path up, from the root; the zero Attr when it is not there.
func (l *lister) walk(file string) (volume.Attr, error) {
	at := volume.Attr{File: volume.RootID, Gen: 1, Type: volume.Directory}
	for name := range strings.FieldsFuncSeq(file, func(r rune) bool { return r == '/' }) {
		if name == "." || name == ".." || at.Type != volume.Directory {
			return volume.Attr{}, nil
		}
		var err error
		if at, err = l.find(at, name); err != nil {
			return volume.Attr{}, err
		}
	}
	return at, nil
}

// find looks a name up; the zero Attr when it is not there.
func (l *lister) find(dir volume.Attr, name string) (volume.Attr, error) {
	op := volume.Op{Kind: volume.Lookup, File: dir.File, Gen: dir.Gen, Name: name}
	var res volume.Result
	if err := l.node.Do(l.ctx, l.vol, &op, &res); err != nil || res.Err != volume.OK {
		return volume.Attr{}, err
	}
	return res.Obj.After, nil
}

// How much of a directory is asked for at a time.
const (
	entriesPerCall = 1024
	bytesPerCall   = 256 << 10
)

// each calls do for every entry of a directory but "." and "..".
func (l *lister) each(dir volume.Attr, do func(*volume.DirEntry) error) error {
	op := volume.Op{Kind: volume.ReadDir, File: dir.File, Gen: dir.Gen, Count: entriesPerCall, Size: bytesPerCall}
	for {
		var res volume.Result
		if err := l.node.Do(l.ctx, l.vol, &op, &res); err != nil || res.Err != volume.OK {
			return err
		}
		for i := range res.Entries {
			e := &res.Entries[i]
			op.Offset = e.Cookie
			if e.Name == "." || e.Name == ".." {
				continue
			}
			if err := do(e); err != nil {
				return err
			}
		}
		if res.EOF || len(res.Entries) == 0 {
			return nil
		}
	}
}
