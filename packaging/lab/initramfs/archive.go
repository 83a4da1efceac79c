// Package initramfs makes the first file systems of the lab's machines, which have kernels of their own.
// It must never read anything but the files it is given.
//
// Floor 6: imports nothing of trinas.
package initramfs

import (
	"bytes"
	"fmt"
)

// Archive is a cpio archive in the form that the kernel unpacks as its first file system
// (Documentation/driver-api/early-userspace/buffer-format.rst, "newc").
//
//	offset 0    6        14     22    30    38      46      54         62 .. 86      94         102
//	       070701 inode  mode   uid   gid   links   mtime   size bytes device, rdev  name bytes check 0
//	each of 8 hexadecimal digits; then the name and a zero byte, then the content, each filled with
//	zeros up to a multiple of 4 bytes
type Archive struct {
	buf   bytes.Buffer
	inode int
}

// File types in a mode (inode(7)).
const (
	typeDir  = 0o040000
	typeChar = 0o020000
	typeFile = 0o100000
	typeLink = 0o120000
)

// add appends a file. Names have no slash in front. Folders come before what is in them.
func (a *Archive) add(name string, mode uint32, content []byte, major, minor int) {
	a.inode++
	fmt.Fprintf(&a.buf, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		a.inode, mode, 0, 0, 1, 0, len(content), 0, 0, major, minor, len(name)+1, 0)
	a.buf.WriteString(name)
	a.buf.WriteByte(0)
	a.align()
	a.buf.Write(content)
	a.align()
}

func (a *Archive) align() {
	for a.buf.Len()%4 != 0 {
		a.buf.WriteByte(0)
	}
}

// Dir adds a folder.
func (a *Archive) Dir(name string) { a.add(name, typeDir|0o755, nil, 0, 0) }

// File adds a file that may be run.
func (a *Archive) File(name string, b []byte) { a.add(name, typeFile|0o755, b, 0, 0) }

// Link adds a symbolic link.
func (a *Archive) Link(name, to string) { a.add(name, typeLink|0o777, []byte(to), 0, 0) }

// Device adds a character device.
func (a *Archive) Device(name string, major, minor int) {
	a.add(name, typeChar|0o600, nil, major, minor)
}

// Finish returns the whole archive. Nothing can be added after it.
func (a *Archive) Finish() []byte {
	a.add("TRAILER!!!", 0, nil, 0, 0)
	return a.buf.Bytes()
}
