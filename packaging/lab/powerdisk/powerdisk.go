// Package powerdisk is a file system for whole processes that loses power on command: a FUSE mount
// (go-fuse) over the crashable disk of replica/disk. What was not synced, of content, sizes and
// directories, is then lost or kept by chance, as a seed decides; what was synced stays. So the real
// system calls of an agent (replica/disk/os.go) are held to the promises that disk.FS makes.
//
// It must never keep anything that was not synced for sure, and the kernel must never answer from its
// cache: files are opened for direct I/O, names and attributes are asked for each time.
//
// Tests only. Needs root and /dev/fuse. Floor 6: imports replica/disk.
package powerdisk

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"trinas/replica/disk"
)

// maxWriteBytes is the largest write that the kernel hands over as one.
const maxWriteBytes = 256 << 10

// syncTime is what a sync takes, with everything written and nothing durable: power that is lost then
// finds something to tear. As an SSD's.
const syncTime = time.Millisecond

// Disk is one mount. Safe for concurrent use.
type Disk struct {
	mem *disk.Mem
	dir string // where it is mounted

	mu sync.Mutex
	fs disk.FS // of the present run of programs
}

// Mount mounts an empty disk of so many bytes at dir, which must be there.
func Mount(dir string, seed uint64, sizeBytes int64) (*Disk, error) {
	removeStale()
	d := &Disk{mem: disk.NewMem(seed), dir: dir}
	d.mem.SetSpace(sizeBytes)
	d.mem.OnOp(func(op, _ string, _, _ int64) error {
		if op == "sync" || op == "syncdir" {
			time.Sleep(syncTime)
		}
		return nil
	})
	d.fs = d.mem.FS()
	var uncached time.Duration
	_, err := fs.Mount(dir, &node{disk: d}, &fs.Options{
		EntryTimeout: &uncached, AttrTimeout: &uncached, NegativeTimeout: &uncached,
		MountOptions: fuse.MountOptions{
			DirectMountStrict: true, FsName: fmt.Sprint(fsName, os.Getpid()), Name: "powerdisk", MaxWrite: maxWriteBytes,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("mount a disk at %s: %w", dir, err)
	}
	return d, nil
}

// fsName begins the names of mounts; the process id of the one that serves it follows.
const fsName = "powerdisk-"

// removeStale unmounts what processes that were killed have left. Errors only mean that another was
// quicker.
func removeStale() {
	mounts, _ := os.ReadFile("/proc/self/mounts")
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)
		owner, ours := strings.CutPrefix(fields[0], fsName)
		pid, err := strconv.Atoi(owner)
		if ours && err == nil && errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			_ = unix.Unmount(fields[1], unix.MNT_DETACH)
		}
	}
}

// Cut is the loss of power. Until On every call on the disk fails (EIO), and whatever was open stays
// dead. sectorBytes is what is lost or kept as one: 512 to disk.BlockBytes.
func (d *Disk) Cut(sectorBytes int) {
	d.mem.SetSectorBytes(sectorBytes)
	d.mem.Crash()
}

// On gives the disk, as the last Cut has left it, to the next run of programs.
func (d *Disk) On() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fs = d.mem.FS()
}

// Close unmounts. It does not wait for the end of the mount: a process in a mount namespace that was
// made meanwhile may keep it until it ends, or this one does.
func (d *Disk) Close() error {
	if err := unix.Unmount(d.dir, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", d.dir, err)
	}
	return nil
}

func (d *Disk) tree() disk.FS {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.fs
}
