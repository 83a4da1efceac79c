package nfsgw

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/willscott/go-nfs"

	"trinas/replica/latency"
	"trinas/replica/volume"
)

// procedures is how many procedures NFSv3 has, NULL included (RFC 1813 §3.3).
const procedures = int(nfs.NFSProcedureCommit) + 1

// Figures is what a gateway has counted since it was started.
type Figures struct {
	Procedures   []ProcedureFigures // but for NULL, which costs nothing
	ReadBytes    uint64             // that READs have returned
	WrittenBytes uint64             // that WRITEs have written
	Connections  int                // of clients, now
}

// ProcedureFigures is one procedure's.
type ProcedureFigures struct {
	Name    string // in capitals
	Latency latency.Counts
}

// FileFigures is what was read and written of one file since the last TakeFiles.
type FileFigures struct {
	Volume                  volume.ID
	File                    volume.FileID // 0: files beyond maxFiles, together
	Reads, Writes           latency.Counts
	ReadBytes, WrittenBytes uint64
}

// maxFiles bounds the files that are counted by themselves.
const maxFiles = 512

// counters are a gateway's.
type counters struct {
	procedures  [procedures]latency.Histogram
	read, wrote atomic.Uint64
	files       fileTable
}

// fileTable counts the files in use, up to maxFiles; what is read and written of more of them is
// counted together. Files that were idle from one take to the next leave it.
type fileTable struct {
	by   atomic.Pointer[map[fileKey]*fileCounters] // replaced, never changed: looking it up must not be felt
	rest fileCounters

	mu sync.Mutex // held by whoever replaces it
}

type fileKey struct {
	volume volume.ID
	file   volume.FileID
}

type fileCounters struct {
	reads, writes latency.Histogram
	read, wrote   atomic.Uint64
}

// of gives a file's counters. Only a file's first operation allocates.
func (t *fileTable) of(key fileKey) *fileCounters {
	if by := t.by.Load(); by != nil {
		if f := (*by)[key]; f != nil {
			return f
		}
		if len(*by) >= maxFiles {
			return &t.rest
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	by := map[fileKey]*fileCounters{}
	if old := t.by.Load(); old != nil {
		if f := (*old)[key]; f != nil {
			return f
		}
		if len(*old) >= maxFiles {
			return &t.rest
		}
		maps.Copy(by, *old)
	}
	f := &fileCounters{}
	by[key] = f
	t.by.Store(&by)
	return f
}

// take empties the counters. One that a request has got hold of just before it left the table counts for nobody.
func (t *fileTable) take() []FileFigures {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []FileFigures
	take := func(key fileKey, f *fileCounters) (busy bool) {
		x := FileFigures{Volume: key.volume, File: key.file, Reads: f.reads.Take(), Writes: f.writes.Take(),
			ReadBytes: f.read.Swap(0), WrittenBytes: f.wrote.Swap(0)}
		if x.Reads.Total()+x.Writes.Total() == 0 {
			return false
		}
		out = append(out, x)
		return true
	}
	if old := t.by.Load(); old != nil {
		by := map[fileKey]*fileCounters{}
		for key, f := range *old {
			if take(key, f) {
				by[key] = f
			}
		}
		t.by.Store(&by)
	}
	take(fileKey{}, &t.rest)
	slices.SortFunc(out, func(a, b FileFigures) int {
		return cmp.Or(cmp.Compare(a.Volume, b.Volume), cmp.Compare(a.File, b.File))
	})
	return out
}

// count notes a call that has ended. What went wrong tells nothing of a file.
func (s *counters) count(c *call, took time.Duration) {
	proc := nfs.NFSProcedure(c.in.Proc)
	if int(proc) >= procedures {
		return
	}
	s.procedures[proc].Observe(took)
	if !c.ok {
		return
	}
	switch proc {
	case nfs.NFSProcedureRead:
		n := uint64(len(c.res.Data))
		s.read.Add(n)
		f := s.files.of(fileKey{c.vol, c.op.File})
		f.reads.Count(took)
		f.read.Add(n)
	case nfs.NFSProcedureWrite:
		n := uint64(c.res.Count)
		s.wrote.Add(n)
		f := s.files.of(fileKey{c.vol, c.op.File})
		f.writes.Count(took)
		f.wrote.Add(n)
	}
}

// Figures gives what the gateway has counted.
func (s *Server) Figures() Figures {
	out := Figures{ReadBytes: s.counters.read.Load(), WrittenBytes: s.counters.wrote.Load(), Connections: s.rpc.Connections()}
	for i := range s.counters.procedures {
		if proc := nfs.NFSProcedure(i); proc != nfs.NFSProcedureNull {
			out.Procedures = append(out.Procedures, ProcedureFigures{Name: strings.ToUpper(proc.String()), Latency: s.counters.procedures[i].Counts()})
		}
	}
	return out
}

// TakeFiles gives what was read and written, by files, since the last call. For one caller.
func (s *Server) TakeFiles() []FileFigures { return s.counters.files.take() }
