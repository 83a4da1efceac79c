package disk

import (
	"bytes"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// Over many seeds, every outcome that a loss of power allows must be seen, and no other.
func outcomes(t *testing.T, run func(m *Mem) string, allowed ...string) {
	t.Helper()
	seen := map[string]bool{}
	for seed := range uint64(300) {
		seen[run(NewMem(seed))] = true
	}
	for _, a := range allowed {
		if !seen[a] {
			t.Errorf("never seen: %s", a)
		}
		delete(seen, a)
	}
	for other := range seen {
		t.Errorf("not allowed: %s", other)
	}
}

func state(d FS) string {
	names, _ := d.List(".")
	s := ""
	for _, name := range names {
		f, err := d.Open(name, ReadOnly)
		if err != nil {
			return err.Error()
		}
		info, _ := f.Stat()
		b := make([]byte, info.SizeBytes)
		f.ReadAt(b, 0)
		s += fmt.Sprintf("%s=", name)
		for i := 0; i < len(b); i += BlockBytes {
			s += fmt.Sprintf("%c", max('.', b[i]))
		}
		s += " "
	}
	return s
}

func TestMem_CrashLosesUnsyncedBlocks(t *testing.T) {
	outcomes(t, func(m *Mem) string {
		d := m.FS()
		f := create(t, d, "f")
		f.WriteAt(fill(3*BlockBytes, 'a'), 0)
		check(t, f.Sync())
		check(t, d.SyncDir("."))
		f.WriteAt(fill(2*BlockBytes, 'b'), 0)
		check(t, f.WriteSync(aligned(BlockBytes, 'c'), BlockBytes)) // durable, and only this
		m.Crash()
		return state(m.FS())
	}, "f=aca ", "f=bca ")
}

// With sectors of half a block, halves of it survive apart.
func TestMem_CrashTearsBlocks(t *testing.T) {
	outcomes(t, func(m *Mem) string {
		m.SetSectorBytes(BlockBytes / 2)
		d := m.FS()
		f := create(t, d, "f")
		f.WriteAt(fill(BlockBytes, 'a'), 0)
		check(t, f.Sync())
		check(t, d.SyncDir("."))
		f.WriteAt(fill(BlockBytes, 'b'), 0)
		m.Crash()
		b := content(t, create(t, m.FS(), "f"))
		return string([]byte{b[0], b[BlockBytes/2-1], b[BlockBytes/2], b[BlockBytes-1]})
	}, "aaaa", "aabb", "bbaa", "bbbb")
}

func TestMem_CrashLosesSize(t *testing.T) {
	outcomes(t, func(m *Mem) string {
		d := m.FS()
		f := create(t, d, "f")
		f.WriteAt(fill(BlockBytes, 'a'), 0)
		check(t, f.Sync())
		check(t, d.SyncDir("."))
		f.WriteAt(fill(BlockBytes, 'b'), BlockBytes)
		m.Crash()
		return state(m.FS())
	}, "f=a ", "f=a. ", "f=ab ")
}

func TestMem_CrashLosesEntries(t *testing.T) {
	outcomes(t, func(m *Mem) string {
		d := m.FS()
		f := create(t, d, "old")
		f.WriteAt(fill(1, 'o'), 0)
		check(t, f.Sync())
		check(t, d.SyncDir("."))
		g := create(t, d, "tmp")
		g.WriteAt(fill(1, 'n'), 0)
		check(t, g.Sync())
		check(t, d.Rename("tmp", "old")) // old or new, never neither
		m.Crash()
		return state(m.FS())
	}, "old=o ", "old=n ", "old=o tmp=n ")
}

func TestMem_CrashKeepsWhatIsSynced(t *testing.T) {
	outcomes(t, func(m *Mem) string {
		d := m.FS()
		check(t, d.MkdirAll("x"))
		f := create(t, d, "x/a")
		f.WriteAt(fill(BlockBytes, 'a'), 0)
		check(t, f.Sync())
		check(t, d.SyncDir("."))
		check(t, d.SyncDir("x"))
		check(t, d.Rename("x/a", "b")) // between directories: one sync settles both ends
		check(t, d.SyncDir("."))
		m.Crash()
		return state(m.FS().Sub("x")) + state(subOnly(m.FS()))
	}, "b=a ")
}

// subOnly hides the directory x, which state cannot read.
func subOnly(d FS) FS {
	d.RemoveAll("x")
	return d
}

func TestMem_CrashEndsTheRun(t *testing.T) {
	m := NewMem(1)
	d := m.FS()
	f := create(t, d, "f")
	m.Crash()
	_, err := f.WriteAt([]byte("x"), 0)
	want(t, err, syscall.EIO)
	want(t, f.Sync(), syscall.EIO)
	_, err = d.Open("g", Create)
	want(t, err, syscall.EIO)
	create(t, m.FS(), "g")
}

// A crash inside an operation: it is not done, or (WriteSync) torn by blocks.
func TestMem_CrashInsideOperation(t *testing.T) {
	outcomes(t, func(m *Mem) string {
		d := m.FS()
		f := create(t, d, "f")
		check(t, f.Preallocate(2*BlockBytes))
		check(t, d.SyncDir("."))
		m.OnOp(func(op, name string, off, n int64) error {
			if op == "sync" {
				m.Crash()
			}
			return nil
		})
		want(t, f.WriteSync(aligned(2*BlockBytes, 'a'), 0), syscall.EIO)
		m.OnOp(nil)
		return state(m.FS())
	}, "f=.. ", "f=a. ", "f=.a ", "f=aa ")
}

func TestMem_Faults(t *testing.T) {
	m := NewMem(1)
	f := create(t, m.FS().Sub("."), "f")
	fault := errors.New("fault")
	var seen []string
	m.OnOp(func(op, name string, off, n int64) error {
		seen = append(seen, fmt.Sprint(op, " ", name, " ", off, " ", n))
		if op == "write" {
			return fault
		}
		return nil
	})
	_, err := f.WriteAt([]byte("x"), 7)
	want(t, err, fault)
	check(t, f.WriteSync(aligned(BlockBytes, 'a'), 0))
	if got := fmt.Sprint(seen); got != "[write f 7 1 writesync f 0 4096 sync f 0 4096]" {
		t.Fatal(got)
	}
	if !bytes.Equal(content(t, f), fill(BlockBytes, 'a')) {
		t.Fatal("the failed write was done")
	}
}

func TestMem_Slow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMem(1)
		m.OnOp(func(op, name string, off, n int64) error {
			time.Sleep(time.Second)
			return nil
		})
		from := time.Now()
		f := create(t, m.FS(), "f")
		check(t, f.Sync())
		if took := time.Since(from); took != 2*time.Second {
			t.Fatal(took)
		}
	})
}

func TestMem_Full(t *testing.T) {
	m := NewMem(1)
	m.SetSpace(4 * BlockBytes)
	d := m.FS()
	f := create(t, d, "f")
	_, err := f.WriteAt(fill(3*BlockBytes, 'a'), 0)
	check(t, err)
	_, err = f.WriteAt(fill(2*BlockBytes, 'b'), 3*BlockBytes)
	want(t, err, syscall.ENOSPC)
	want(t, create(t, d, "g").Preallocate(2*BlockBytes), syscall.ENOSPC)
	_, err = f.WriteAt(fill(3*BlockBytes, 'c'), 0) // overwriting takes no room
	check(t, err)
	check(t, f.PunchHole(0, BlockBytes))
	check(t, create(t, d, "g").Preallocate(2*BlockBytes))
	check(t, f.Sync())
	check(t, d.SyncDir("."))
	check(t, d.Remove("f"))
	space, err := d.Space()
	check(t, err)
	if space.TotalBytes != 4*BlockBytes || space.FreeBytes != 2*BlockBytes {
		t.Fatalf("%+v", space)
	}
	m.Crash() // f may be back
	if _, err := m.FS().Space(); err != nil {
		t.Fatal(err)
	}
}
