package powerdisk

import (
	"bytes"
	"os"
	"testing"

	"trinas/replica/disk"
)

// mounted returns a mounted disk and the real file system's way to it.
func mounted(t *testing.T) (*Disk, disk.FS) {
	t.Helper()
	dir := t.TempDir()
	if f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil || os.Geteuid() != 0 {
		t.Skip("a mount needs root and /dev/fuse")
	} else {
		f.Close()
	}
	d, err := Mount(dir, 1, 1<<30)
	if err != nil {
		t.Skip(err) // root of a container that may not mount
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d, disk.OS(dir)
}

func block(c byte) []byte {
	b := disk.AlignedBytes(disk.BlockBytes)
	copy(b, bytes.Repeat([]byte{c}, len(b)))
	return b
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Goal: the system calls that replica/disk makes find what they need, and what is synced by them, and
// nothing else for sure, outlives a loss of power. Method: in many rounds each kind of sync is left
// out in turn; what it would have made durable must be lost in some rounds, the rest in none.
func TestDisk_LossOfPower(t *testing.T) {
	d, fs := mounted(t)
	check(t, fs.MkdirAll("dir"))
	check(t, fs.SyncDir("."))
	lost := map[string]int{}
	steps := []string{"nothing", "fdatasync", "O_DSYNC", "syncdir", "hole"}
	for round := range 200 {
		forgotten := steps[round%len(steps)]
		check(t, fs.RemoveAll("dir"))
		check(t, fs.MkdirAll("dir"))
		check(t, fs.SyncDir("."))
		f, err := fs.Open("dir/new", disk.Create)
		check(t, err)
		check(t, f.Preallocate(4*disk.BlockBytes))
		_, err = f.WriteAt(block('a'), 0)
		check(t, err)
		if forgotten != "fdatasync" {
			check(t, f.Sync())
		}
		check(t, fs.Rename("dir/new", "dir/name"))
		if forgotten != "syncdir" {
			check(t, fs.SyncDir("dir"))
		}
		if forgotten == "O_DSYNC" {
			_, err = f.WriteAt(block('b'), disk.BlockBytes)
		} else {
			err = f.WriteSync(block('b'), disk.BlockBytes)
		}
		check(t, err)
		check(t, f.StartWriteback(0, 0))
		if forgotten == "hole" {
			check(t, f.PunchHole(0, disk.BlockBytes))
		}
		d.Cut(disk.BlockBytes)
		if _, err := f.WriteAt(block('c'), 0); err == nil {
			t.Fatal("a write after the power was cut")
		}
		_ = f.Close()
		d.On()
		g, err := fs.Open("dir/name", disk.ReadOnly)
		if err != nil {
			lost["syncdir"]++
			if forgotten != "syncdir" {
				t.Fatalf("round %d, without %s: %v", round, forgotten, err)
			}
			continue
		}
		got := make([]byte, 4*disk.BlockBytes)
		_, err = g.ReadAt(got, 0)
		check(t, err)
		check(t, g.Close())
		for i, is := range map[int]struct {
			c    byte
			step string
		}{0: {'a', "fdatasync"}, 1: {'b', "O_DSYNC"}} {
			if bytes.Equal(got[i*disk.BlockBytes:(i+1)*disk.BlockBytes], block(is.c)) {
				continue
			}
			if forgotten == "hole" && i == 0 {
				lost["hole"]++
				continue
			}
			lost[is.step]++
			if forgotten != is.step {
				t.Fatalf("round %d, without %s: block %d is lost", round, forgotten, i)
			}
		}
	}
	for _, step := range steps[1:] {
		if lost[step] == 0 {
			t.Errorf("leaving out %s never mattered", step)
		}
	}
	t.Log(lost)
}

// An open file follows its name, can be opened again through /proc for direct writes, and goes on
// when its name is taken away: as on the file systems that nodes have.
func TestDisk_OpenFiles(t *testing.T) {
	_, fs := mounted(t)
	f, err := fs.Open("a", disk.Create)
	check(t, err)
	defer f.Close()
	check(t, fs.Rename("a", "b"))
	check(t, f.WriteSync(block('x'), 0))
	check(t, fs.Remove("b"))
	_, err = f.WriteAt(block('y'), disk.BlockBytes)
	check(t, err)
	check(t, f.Truncate(3*disk.BlockBytes))
	info, err := f.Stat()
	if err != nil || info.SizeBytes != 3*disk.BlockBytes {
		t.Fatal(info, err)
	}
	names, err := fs.List(".")
	if err != nil || len(names) != 0 {
		t.Fatal(names, err)
	}
	space, err := fs.Space()
	if err != nil || space.TotalBytes != 1<<30 || space.FreeBytes > space.TotalBytes {
		t.Fatal(space, err)
	}
}

// What a run that lost its power still has open does not stand in the way of the next run.
func TestDisk_OpenOverCut(t *testing.T) {
	d, fs := mounted(t)
	f, err := fs.Open("a", disk.Create)
	check(t, err)
	defer f.Close()
	check(t, f.Truncate(disk.BlockBytes))
	check(t, f.Sync())
	check(t, fs.SyncDir("."))
	d.Cut(disk.BlockBytes)
	d.On()
	info, err := fs.Stat("a")
	if err != nil || info.SizeBytes != disk.BlockBytes {
		t.Fatal(info, err)
	}
}
