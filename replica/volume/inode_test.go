package volume

import (
	"fmt"
	"runtime"
	"testing"
)

// Goal: what many files take in memory is given back when they have been removed, also by the maps,
// and is about what DESIGN.md says of a file.
func TestTable_GivesBack(t *testing.T) {
	const files, fileBytesMost = 50_000, 450
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	table, dir := newTable(), newDirectory(RootID)
	for i := range FileID(files) {
		in := &inode{id: i + 2, typ: Regular, nlink: 1, size: 4096}
		in.ext.set(0, 1, true, 1)
		table.add(in)
		dir.insert(fmt.Sprintf("file%06d", i), in.id)
	}
	full := heap() - before
	t.Logf("%d bytes a file", full/files)
	if full > files*fileBytesMost {
		t.Errorf("%d bytes a file", full/files)
	}
	for i := range FileID(files) {
		if in, e := table.find(i+2, 0); e != OK {
			t.Fatalf("file %d: %v", i, e)
		} else if name := fmt.Sprintf("file%06d", i); dir.lookup(name) != in.id {
			t.Fatalf("%s: file %d, want %d", name, dir.lookup(name), in.id)
		} else {
			dir.remove(name)
			table.remove(in)
		}
	}
	if kept := heap() - before; kept > full/50 {
		t.Errorf("%d KiB of %d are kept when all files are gone", kept>>10, full>>10)
	}
	runtime.KeepAlive(table)
	runtime.KeepAlive(dir)
}
