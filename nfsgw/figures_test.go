package nfsgw

import (
	"testing"
	"time"

	"github.com/willscott/go-nfs"

	"trinas/nfsgw/nfs3"
	"trinas/nfsgw/rpc"
	"trinas/replica/volume"
)

// countedCall is a call that has ended.
func countedCall(proc nfs.NFSProcedure, file uint64, bytes int, ok bool) *call {
	c := &call{in: &rpc.Call{Proc: uint32(proc)}, vol: 7, ok: ok}
	c.op.File = volume.FileID(file)
	c.res.Data, c.res.Count = make([]byte, bytes), uint32(bytes)
	return c
}

// Goal: what was read and written is counted by procedures, and by files for as long as they are in use; what went
// wrong is no file's; more files than the table holds are counted together.
func TestCounters(t *testing.T) {
	var s counters
	s.count(countedCall(nfs.NFSProcedureRead, 5, 4096, true), time.Millisecond)
	s.count(countedCall(nfs.NFSProcedureWrite, 5, 100, true), 2*time.Millisecond)
	s.count(countedCall(nfs.NFSProcedureWrite, 6, 0, false), time.Second)
	s.count(countedCall(99, 6, 0, true), time.Second)
	got := s.files.take()
	if len(got) != 1 || got[0].Volume != 7 || got[0].File != 5 || got[0].ReadBytes != 4096 || got[0].WrittenBytes != 100 ||
		got[0].Reads.Total() != 1 || got[0].Writes.Quantile(0.5) < time.Millisecond {
		t.Errorf("%+v", got)
	}
	if writes := s.procedures[nfs.NFSProcedureWrite].Counts(); writes.Total() != 2 || s.read.Load() != 4096 || s.wrote.Load() != 100 {
		t.Errorf("%d writes, %d and %d bytes", writes.Total(), s.read.Load(), s.wrote.Load())
	}
	if got := s.files.take(); len(got) != 0 || len(*s.files.by.Load()) != 0 {
		t.Errorf("idle files are still there: %+v, %d in the table", got, len(*s.files.by.Load()))
	}
	for file := range uint64(maxFiles + 10) {
		s.count(countedCall(nfs.NFSProcedureRead, file+1, 1, true), time.Millisecond)
	}
	got = s.files.take()
	if len(got) != maxFiles+1 || got[0].File != 0 || got[0].Reads.Total() != 10 || got[0].ReadBytes != 10 {
		t.Errorf("%d files, the first %+v", len(got), got[0].ReadBytes)
	}
}

// Goal: the gateway's figures are those of the calls that clients made.
func TestFigures(t *testing.T) {
	g := startGateway(t, Options{})
	fh := g.create(t, g.root, "f")
	g.call(t, nfs.NFSProcedureWrite, &nfs3.WriteArgs{FH: fh, Stable: nfs3.FileSync, Data: make([]byte, 100)}, &nfs3.WriteRes{})
	g.call(t, nfs.NFSProcedureRead, &nfs3.ReadArgs{FH: fh, Count: 512}, &nfs3.ReadRes{})
	f := g.server.Figures()
	counts := map[string]uint64{}
	for _, p := range f.Procedures {
		counts[p.Name] = p.Latency.Total()
	}
	if counts["READ"] != 1 || counts["WRITE"] != 1 || counts["CREATE"] != 1 || len(counts) != 21 ||
		f.ReadBytes != 100 || f.WrittenBytes != 100 || f.Connections != 1 {
		t.Errorf("%v, %+v", counts, f)
	}
	if files := g.server.TakeFiles(); len(files) != 1 || files[0].Volume != testVolume || files[0].ReadBytes != 100 {
		t.Errorf("%d files: %+v", len(files), files)
	}
}

func BenchmarkCount(b *testing.B) {
	var s counters
	c := countedCall(nfs.NFSProcedureRead, 5, 4096, true)
	b.ReportAllocs()
	for b.Loop() {
		began := time.Now()
		s.count(c, time.Since(began))
	}
}
