package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// calls are the checks of single calls that need more than a text can say.
func calls() []check {
	return []check{
		{"paths: up to PATH_MAX", (*world).longPaths},
		{"statfs: sizes and names", (*world).statfs},
		{"mmap: shared writes", (*world).sharedMap},
		{"data: O_DIRECT", (*world).direct},
		{"data: holes", (*world).holes},
		{"data: the end of a file", (*world).endOfFile},
		{"data: overlapping writes of any length", (*world).overlapping},
	}
}

// pathMax is what a path may take, with its closing zero (limits.h).
const pathMax = 4096

func (w *world) longPaths() error {
	// 16 folders of 250 bytes and a name: a path of exactly 4095 bytes.
	folder := strings.Repeat("d", 250)
	path := ""
	for range 16 {
		path += folder + "/"
		if err := unix.Mkdir(path, 0o755); err != nil {
			return fmt.Errorf("mkdir of a path of %d bytes: %w", len(path), err)
		}
	}
	longest := path + strings.Repeat("f", pathMax-1-len(path))
	if err := os.WriteFile(longest, []byte("deep"), 0o644); err != nil {
		return err
	}
	if b, err := os.ReadFile(longest); err != nil || string(b) != "deep" {
		return fmt.Errorf("read back %q, %w", b, err)
	}
	if err := unix.Access(longest+"f", unix.F_OK); err != unix.ENAMETOOLONG {
		return fmt.Errorf("a path of %d bytes: %w, want ENAMETOOLONG", len(longest)+1, err)
	}
	moved := filepath.Dir(strings.TrimSuffix(path, "/")) + "/moved"
	if err := unix.Rename(path, moved); err != nil {
		return fmt.Errorf("rename of the deepest folder: %w", err)
	}
	return nil
}

func (w *world) statfs() error {
	var before unix.Statfs_t
	if err := unix.Statfs(".", &before); err != nil {
		return err
	}
	switch s := before; {
	case s.Bsize <= 0 || s.Blocks == 0:
		return fmt.Errorf("block size %d, %d blocks", s.Bsize, s.Blocks)
	case s.Bfree > s.Blocks || s.Bavail > s.Bfree:
		return fmt.Errorf("of %d blocks %d are free, %d available", s.Blocks, s.Bfree, s.Bavail)
	case s.Files == 0 || s.Ffree > s.Files:
		return fmt.Errorf("of %d files %d are free", s.Files, s.Ffree)
	case s.Namelen != 255:
		return fmt.Errorf("names of %d bytes", s.Namelen)
	}
	return nil
}

// open opens a file for the length of a check.
func (w *world) open(path string, flag int) (int, error) {
	fd, err := unix.Open(path, flag|unix.O_CLOEXEC, 0o644)
	if err == nil {
		w.held[fmt.Sprintf("%s #%d", path, len(w.held))] = fd
	}
	return fd, err
}

func (w *world) sharedMap() error {
	const size = 64 << 10
	fd, err := w.open("f", unix.O_CREAT|unix.O_RDWR)
	if err == nil {
		err = unix.Ftruncate(fd, size)
	}
	if err != nil {
		return err
	}
	m, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mmap: %w", err)
	}
	defer unix.Munmap(m)
	want := make([]byte, size)
	if _, err := rand.Read(want); err != nil {
		return err
	}
	copy(m, want)
	got := make([]byte, size)
	if _, err := unix.Pread(fd, got, 0); err != nil || !bytes.Equal(got, want) {
		return fmt.Errorf("a read does not see what was written to the mapping (%w)", err)
	}
	copy(want[5000:], "written to the file")
	if _, err := unix.Pwrite(fd, want[5000:5019], 5000); err != nil || !bytes.Equal(m, want) {
		return fmt.Errorf("the mapping does not see what was written to the file (%w)", err)
	}
	if err := unix.Msync(m, unix.MS_SYNC); err != nil {
		return fmt.Errorf("msync: %w", err)
	}
	direct, err := w.open("f", unix.O_RDONLY|unix.O_DIRECT)
	if err != nil {
		return err
	}
	b, err := aligned(size)
	if err != nil {
		return err
	}
	defer unix.Munmap(b)
	if n, err := unix.Pread(direct, b, 0); err != nil || n != size || !bytes.Equal(b, want) {
		return fmt.Errorf("after msync the file has other bytes (%d read, %w)", n, err)
	}
	return nil
}

// aligned is memory as O_DIRECT needs it.
func aligned(size int) ([]byte, error) {
	return unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
}

func (w *world) direct() error {
	const size = 256 << 10
	b, err := aligned(size)
	if err != nil {
		return err
	}
	defer unix.Munmap(b)
	if _, err := rand.Read(b); err != nil {
		return err
	}
	want := bytes.Clone(b)
	fd, err := w.open("f", unix.O_CREAT|unix.O_RDWR|unix.O_DIRECT)
	if err != nil {
		return err
	}
	for at := 0; at < size; at += 32 << 10 {
		if n, err := unix.Pwrite(fd, b[at:at+32<<10], int64(at)); err != nil || n != 32<<10 {
			return fmt.Errorf("write at %d: %d bytes, %w", at, n, err)
		}
	}
	clear(b)
	if n, err := unix.Pread(fd, b, 0); err != nil || n != size || !bytes.Equal(b, want) {
		return fmt.Errorf("direct read of direct writes: %d bytes, %w", n, err)
	}
	if got, err := os.ReadFile("f"); err != nil || !bytes.Equal(got, want) {
		return fmt.Errorf("buffered read of direct writes: %d bytes, %w", len(got), err)
	}
	if n, err := unix.Pread(fd, b, size); err != nil || n != 0 {
		return fmt.Errorf("direct read at the end: %d bytes, %w", n, err)
	}
	if n, err := unix.Pread(fd, b, size-8192); err != nil || n != 8192 {
		return fmt.Errorf("direct read across the end: %d bytes, want 8192, %w", n, err)
	}
	// What was written buffered is there for a direct read.
	if err := withFile("f", unix.O_WRONLY, func(buffered int) error {
		if _, err := unix.Pwrite(buffered, []byte("buffered"), 4096); err != nil {
			return err
		}
		n, err := unix.Pread(fd, b[:4096], 4096)
		if err != nil || n != 4096 || string(b[:8]) != "buffered" {
			return fmt.Errorf("direct read of a buffered write: %d bytes, %q, %w", n, b[:8], err)
		}
		return nil
	}); err != nil {
		return err
	}
	_, err = unix.Pread(fd, unsafe.Slice(&b[1], 4096), 0)
	if err != nil && err != unix.EINVAL { // ext4 refuses memory that is not aligned, NFS takes it
		return fmt.Errorf("direct read to memory that is not aligned: %w", err)
	}
	return nil
}

func (w *world) holes() error {
	fd, err := w.open("f", unix.O_CREAT|unix.O_RDWR)
	if err != nil {
		return err
	}
	for _, at := range []int64{10 << 20, 3<<20 + 17, 1 << 33} {
		if _, err := unix.Pwrite(fd, []byte("island"), at); err != nil {
			return fmt.Errorf("write at %d: %w", at, err)
		}
	}
	if err := unix.Fsync(fd); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Size != 1<<33+6 || st.Blocks*512 > 1<<20 {
		return fmt.Errorf("size %d, %d bytes on the disk", st.Size, st.Blocks*512)
	}
	b := make([]byte, 12<<20)
	if n, err := unix.Pread(fd, b, 0); err != nil || n != len(b) {
		return fmt.Errorf("read: %d bytes, %w", n, err)
	}
	want := make([]byte, len(b))
	copy(want[10<<20:], "island")
	copy(want[3<<20+17:], "island")
	if !bytes.Equal(b, want) {
		return errors.New("holes are not zeros, or islands are elsewhere")
	}
	return nil
}

func (w *world) endOfFile() error {
	fd, err := w.open("f", unix.O_CREAT|unix.O_RDWR)
	if err == nil {
		_, err = unix.Write(fd, []byte("0123456789"))
	}
	if err != nil {
		return err
	}
	for _, t := range []struct {
		at   int64
		want string
	}{{0, "0123456789"}, {9, "9"}, {10, ""}, {11, ""}, {1 << 40, ""}} {
		b := make([]byte, 100)
		n, err := unix.Pread(fd, b, t.at)
		if err != nil || string(b[:n]) != t.want {
			return fmt.Errorf("read at %d: %q, %w; want %q", t.at, b[:max(0, n)], err, t.want)
		}
	}
	if at, err := unix.Seek(fd, 0, io.SeekEnd); err != nil || at != 10 {
		return fmt.Errorf("lseek to the end: %d, %w", at, err)
	}
	if _, err := unix.Seek(fd, -1, io.SeekStart); err != unix.EINVAL {
		return fmt.Errorf("lseek to -1: %w, want EINVAL", err)
	}
	return nil
}

// overlapping writes pieces of all kinds of lengths and places, from two descriptors, and compares
// with the same done in memory.
func (w *world) overlapping() error {
	const size = 300_000
	a, err := w.open("f", unix.O_CREAT|unix.O_RDWR)
	if err != nil {
		return err
	}
	b, err := w.open("f", unix.O_RDWR|unix.O_SYNC)
	if err != nil {
		return err
	}
	want := make([]byte, size)
	end, seed := 0, uint32(1)
	next := func(n uint32) int { // a small generator with the same numbers each time
		seed = seed*1664525 + 1013904223
		return int(seed >> 8 % n)
	}
	for i := range 120 {
		at, length := next(size-70_000), 1+next(70_000)
		if i%3 == 0 {
			length = 1 + next(600)
		}
		piece := bytes.Repeat([]byte{byte(i + 1)}, length)
		fd := a
		if i%4 == 3 {
			fd = b
		}
		if n, err := unix.Pwrite(fd, piece, int64(at)); err != nil || n != length {
			return fmt.Errorf("write %d: %d bytes, %w", i, n, err)
		}
		copy(want[at:], piece)
		end = max(end, at+length)
	}
	if err := unix.Fsync(a); err != nil {
		return err
	}
	direct, err := w.open("f", unix.O_RDONLY|unix.O_DIRECT)
	if err != nil {
		return err
	}
	got, err := aligned(1 << 20)
	if err != nil {
		return err
	}
	defer unix.Munmap(got)
	n, err := unix.Pread(direct, got, 0)
	if err != nil || n != end || !bytes.Equal(got[:n], want[:end]) {
		return fmt.Errorf("the file differs from what was written: %d bytes of %d, %w", n, end, err)
	}
	return nil
}
