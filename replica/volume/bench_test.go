package volume

import (
	"bytes"
	"fmt"
	"testing"

	"trinas/replica/disk"
)

func benchFile(b *testing.B, sizeBytes int) (*rig, Attr) {
	r := newRig(b, disk.OS(b.TempDir()))
	f := r.must(in(rootDir, Create, "f"))
	data := bytes.Repeat([]byte("x"), 1<<20)
	for off := 0; off < sizeBytes; off += len(data) {
		r.must(on(f, Write).data(uint64(off), data))
	}
	return r, f
}

func BenchmarkApply_Write4K(b *testing.B) {
	r, f := benchFile(b, 64<<20)
	op := on(f, Write).data(0, bytes.Repeat([]byte("y"), 4096)).by(1, 1)
	op.Cred = Cred{UID: 0, Groups: []uint32{1, 2}}
	var buf []byte
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		op.Offset = uint64(i*7919%(64<<8)) * 4096
		op.ID.XID++
		op.Time++
		buf, _ = op.Encode(buf[:0])
		r.index++
		if _, err := r.v.Apply(r.index, 1, buf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkApply_Write1M(b *testing.B) {
	r, f := benchFile(b, 64<<20)
	op := on(f, Write).data(0, bytes.Repeat([]byte("y"), 1<<20)).by(1, 1)
	var buf []byte
	b.ReportAllocs()
	b.SetBytes(1 << 20)
	for i := 0; b.Loop(); i++ {
		op.Offset = uint64(i%64) << 20
		op.ID.XID++
		buf, _ = op.Encode(buf[:0])
		r.index++
		if _, err := r.v.Apply(r.index, 1, buf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkQuery_Read4K(b *testing.B) {
	r, f := benchFile(b, 64<<20)
	op := on(f, Read).read(0, 4096)
	op.Data = make([]byte, 0, 4096)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		op.Offset = uint64(i*7919%(64<<8)) * 4096
		if res, err := r.v.Query(&op); err != nil || len(res.Data) != 4096 {
			b.Fatal(err)
		}
	}
}

func BenchmarkApply_CreateInBigDirectory(b *testing.B) {
	r := newRig(b, disk.OS(b.TempDir()))
	for i := range 100_000 {
		r.must(in(rootDir, Create, fmt.Sprintf("file%d", i)))
	}
	op := in(rootDir, Create, "").by(1, 1)
	var buf []byte
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		op.Name = fmt.Sprintf("new%d", i)
		op.ID.XID++
		buf, _ = op.Encode(buf[:0])
		r.index++
		if _, err := r.v.Apply(r.index, 1, buf); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCheckpoint_Pause measures how long Apply waits for a checkpoint of 100,000 files, each
// with one block.
func BenchmarkCheckpoint_Pause(b *testing.B) {
	r := newRig(b, disk.OS(b.TempDir()))
	for i := range 100_000 {
		f := r.must(in(rootDir, Create, fmt.Sprintf("file%d", i)))
		r.v.table.inodes[f.File].ext.set(0, 1, true, r.index)
	}
	var image []byte
	b.ReportAllocs()
	for b.Loop() {
		image = r.v.appendImage(make([]byte, 0, len(image)+len(image)/8+4096))
	}
	b.ReportMetric(float64(len(image)), "bytes")
}
