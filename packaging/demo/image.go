package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	imageBytes   = 256 << 20
	contentBytes = 180 << 20 // most bytes of files in the image
	contentFiles = 8000      // most files and folders in it
	fileBytes    = 16 << 20  // larger files are left out
)

// image is a real ext4 file system in a file.
type image struct {
	path           string
	files          int
	allocatedBytes int64 // what is not a hole
}

// makeImage fills an ext4 image at path with files of this machine, from the folders given, by
// mke2fs -d.
func makeImage(ctx context.Context, path string, from ...string) (*image, error) {
	content := path + ".content"
	if err := os.Mkdir(content, 0o755); err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	defer os.RemoveAll(content)
	g := gathering{to: content}
	for _, dir := range from {
		if err := g.add(ctx, dir); err != nil {
			return nil, fmt.Errorf("image: gather files of %s: %w", dir, err)
		}
	}
	if err := command(ctx, "mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-N", "16384",
		"-L", "trinas-demo", "-d", content, path, fmt.Sprintf("%dk", imageBytes>>10)); err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return nil, fmt.Errorf("image %s: %w", path, err)
	}
	return &image{path: path, files: g.files, allocatedBytes: st.Blocks * 512}, nil
}

// gathering copies regular files and folders below a folder, within the limits.
type gathering struct {
	to    string
	files int
	bytes int64
}

var errEnough = errors.New("enough")

func (g *gathering) add(ctx context.Context, dir string) error {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if g.files >= contentFiles || g.bytes >= contentBytes {
			return errEnough
		}
		if err != nil {
			return nil // a folder that this user may not read
		}
		to := filepath.Join(g.to, path)
		switch {
		case d.IsDir():
			g.files++
			return os.MkdirAll(to, 0o755)
		case d.Type().IsRegular():
			return g.copyFile(path, to)
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

func (g *gathering) copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return nil // a file that this user may not read, or that has just gone
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil || st.Size() > min(fileBytes, contentBytes-g.bytes) {
		return nil
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	n, err := io.Copy(out, io.LimitReader(in, fileBytes))
	g.files++
	g.bytes += n
	return errors.Join(err, out.Close())
}

// verify says whether another file holds the same bytes and a sound file system.
func (m *image) verify(ctx context.Context, path string) error {
	if err := sameBytes(m.path, path); err != nil {
		return err
	}
	return command(ctx, "e2fsck", "-f", "-n", path) // status 0: no errors (e2fsck(8))
}

// sameBytes compares two files bit by bit; the error names the first difference.
func sameBytes(pathA, pathB string) error {
	a, err := os.Open(pathA)
	if err != nil {
		return fmt.Errorf("compare: %w", err)
	}
	defer a.Close()
	b, err := os.Open(pathB)
	if err != nil {
		return fmt.Errorf("compare: %w", err)
	}
	defer b.Close()
	bufA, bufB := make([]byte, 1<<20), make([]byte, 1<<20)
	for offset := int64(0); ; {
		n, errA := io.ReadFull(a, bufA)
		m, errB := io.ReadFull(b, bufB)
		if !bytes.Equal(bufA[:n], bufB[:m]) {
			i := 0
			for i < min(n, m) && bufA[i] == bufB[i] {
				i++
			}
			return fmt.Errorf("compare: %s and %s differ from byte %d on", pathA, pathB, offset+int64(i))
		}
		offset += int64(n)
		if errA != nil || errB != nil {
			return errors.Join(unlessEnd(errA), unlessEnd(errB))
		}
	}
}

func unlessEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// command runs a program; the error holds what it said.
func command(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
