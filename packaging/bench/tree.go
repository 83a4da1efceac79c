package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"time"
)

// Shape of the source tree: about what Go's own has, or the kernel's.
const (
	filesPerFolder  = 15
	maxFolderDepth  = 6
	medianFileBytes = 5 << 10
	maxFileBytes    = 256 << 10
)

// writeTree writes a tar archive of a source tree with that many files below "tree/", and returns
// how many files and folders it holds. It is the same on every machine: sizes (log-normal), folders
// and contents come from a fixed seed.
func writeTree(w io.Writer, files int) (entries int, err error) {
	random := rand.New(rand.NewPCG(1, 2))
	out := tar.NewWriter(w)
	when := time.Unix(1_700_000_000, 0)
	folders := []string{"tree/"}
	depths := []int{0}
	for len(folders) < 1+files/filesPerFolder {
		parent := random.IntN(len(folders))
		if depths[parent] < maxFolderDepth {
			folders = append(folders, fmt.Sprintf("%sfolder%d/", folders[parent], len(folders)))
			depths = append(depths, depths[parent]+1)
		}
	}
	for _, name := range folders {
		if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755, ModTime: when}); err != nil {
			return 0, fmt.Errorf("source tree: %w", err)
		}
	}
	for i := range files {
		size := int(min(math.Exp(random.NormFloat64())*medianFileBytes, maxFileBytes))
		head := tar.Header{
			Name: fmt.Sprintf("%sfile%d.go", folders[i*len(folders)/files], i), Mode: 0o644, ModTime: when, Size: int64(size),
		}
		if err := out.WriteHeader(&head); err != nil {
			return 0, fmt.Errorf("source tree: %w", err)
		}
		line := fmt.Appendf(nil, "line of file %d, %016x\n", i, random.Uint64())
		if _, err := out.Write(bytes.Repeat(line, size/len(line)+1)[:size]); err != nil {
			return 0, fmt.Errorf("source tree: %w", err)
		}
	}
	if err := out.Close(); err != nil {
		return 0, fmt.Errorf("source tree: %w", err)
	}
	return len(folders) + files, nil
}
