// Package image lists the guest images of a volume as Proxmox lays them out (images/VMID/FILE), with what
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

// Image is one file below images/VMID.
type Image struct {
	Path      string `json:"path"`             // from the volume's root: "images/100/vm-100-disk-0.qcow2"
	Format    string `json:"format"`           // "raw" or "qcow2", by the name's end; others are not listed
	SizeBytes uint64 `json:"size_bytes"`       // that the guest sees
	FileBytes uint64 `json:"file_bytes"`       // the file's length
	UsedBytes uint64 `json:"used_bytes"`       // allocated
	Parent    string `json:"parent,omitempty"` // the backing file, as the qcow2 file names it
	CtimeSec  int64  `json:"ctime_sec"`        // last change, seconds since 1970
	Damage    string `json:"damage,omitempty"` // why the format's header cannot be used
}

// Doer carries out operations; *replica.Node is one.
type Doer interface {
	Do(ctx context.Context, vol volume.ID, op *volume.Op, res *volume.Result) error
}

// maxImages bounds a listing.
const maxImages = 65536

// List gives the images of one guest, or of all (vmid ""), in the directories' order. A volume without
// a folder "images" has none. Errors: ctx's, replica.ErrNoVolume; more than 65,536 images.
func List(ctx context.Context, node Doer, vol volume.ID, vmid string) ([]Image, error) {
	l := lister{ctx: ctx, node: node, vol: vol, images: []Image{}}
	top, err := l.find(volume.Attr{File: volume.RootID, Gen: 1}, "images")
	if err != nil || top.Type != volume.Directory {
		return l.images, err
	}
	err = l.each(top, func(e *volume.DirEntry) error {
		if e.Attr.Type != volume.Directory || vmid != "" && e.Name != vmid {
			return nil
		}
		return l.guest(path.Join("images", e.Name), e.Attr)
	})
	return l.images, err
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
		format := strings.TrimPrefix(path.Ext(e.Name), ".")
		if e.Attr.Type != volume.Regular || format != "raw" && format != "qcow2" {
			return nil
		}
		if len(l.images) >= maxImages {
			return fmt.Errorf("the volume holds more than %d images", maxImages)
		}
		image := Image{Path: path.Join(folder, e.Name), Format: format, SizeBytes: e.Attr.SizeBytes,
			FileBytes: e.Attr.SizeBytes, UsedBytes: e.Attr.UsedBytes, CtimeSec: e.Attr.Ctime / 1e9}
		if format == "qcow2" {
			if err := l.qcow2(&image, e.Attr); err != nil {
				return err
			}
		}
		l.images = append(l.images, image)
		return nil
	})
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
