package check

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"trinas/replica/disk"
)

// The test of the disk: so many synced writes of 4 KiB, or so long.
const (
	syncRounds  = 200
	syncTime    = time.Second
	syncWarning = 5 * time.Millisecond // of the median: every write of a guest waits for one on two nodes
	syncFile    = 1 << 20
)

// checkDisk measures a synced write as the log makes it: 4 KiB over preallocated blocks.
func checkDisk(ctx context.Context, s Subject, h Host) []Finding {
	if m, ok := h.mountOf(s.Config.DataDir); ok && remote(m.fsType) {
		return nil // the file system's check says enough, and a write there may never return
	}
	dir, err := existing(s.Config.DataDir)
	var times []time.Duration
	if err == nil {
		times, err = measureSync(ctx, dir)
	}
	if err != nil {
		return []Finding{{"disk", Error, fmt.Sprintf("synced writes in %s fail: %v", dir, err), diskRemedy(err)}}
	}
	return []Finding{judgeSync(dir, times)}
}

func diskRemedy(err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return "run this as root"
	}
	return "see the kernel's log (dmesg), free space, and how the file system is mounted"
}

// existing is dir, or the nearest directory above it that is there.
func existing(dir string) (string, error) {
	for {
		info, err := os.Stat(dir)
		if err == nil && !info.IsDir() {
			return dir, fmt.Errorf("%s is no directory", dir)
		}
		if !errors.Is(err, fs.ErrNotExist) || dir == "/" {
			return dir, err
		}
		dir = filepath.Dir(dir)
	}
}

// measureSync returns the times of synced writes, sorted; at least one. It leaves no file behind,
// also when it is killed: the name is gone before the first write.
func measureSync(ctx context.Context, dir string) ([]time.Duration, error) {
	f, err := unnamed(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.Preallocate(syncFile); err != nil {
		return nil, err
	}
	block := disk.AlignedBytes(disk.BlockBytes)
	for i := range block {
		block[i] = byte(i*7 + 1) // a disk that saves room on zeros would look quick
	}
	var times []time.Duration
	for began := time.Now(); len(times) < syncRounds && (len(times) == 0 || time.Since(began) < syncTime && ctx.Err() == nil); {
		start := time.Now()
		if err := f.WriteSync(block, int64(len(times))*disk.BlockBytes%syncFile); err != nil {
			return nil, err
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	return times, nil
}

// unnamed opens a file that no name leads to.
func unnamed(dir string) (disk.File, error) {
	fsys := disk.OS(dir)
	name := fmt.Sprintf(".trinas-check-%d-%d", os.Getpid(), time.Now().UnixNano())
	f, err := fsys.Open(name, disk.Create)
	if err != nil {
		return nil, err
	}
	if err := fsys.Remove(name); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func judgeSync(dir string, sorted []time.Duration) Finding {
	median, slow := sorted[len(sorted)/2], sorted[len(sorted)*99/100]
	f := Finding{Check: "disk", Text: fmt.Sprintf("a synced write of 4 KiB in %s takes %s (median of %d; 1 of 100 over %s)", dir,
		median.Round(10*time.Microsecond), len(sorted), slow.Round(10*time.Microsecond))}
	if median > syncWarning {
		f.Level = Warning
		f.Do = "use an SSD that keeps its cache when the power fails (data centre models; consumer SSDs are slow here, or lie), or a " +
			"controller with a battery; on ZFS a log device"
	}
	return f
}
