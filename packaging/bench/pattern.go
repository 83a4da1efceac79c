package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"trinas/packaging/lab"
)

// pattern is one kind of load. Sizes are bytes.
type pattern struct {
	name  string
	size  int // of a request
	depth int // requests under way
	write bool
	flush int // requests between two flushes; 0: none
	step  int // from one request's offset to the next's, round the image

	// What is wanted at least, over ganesha's speed and over GlusterFS'; 0: nothing is.
	goal, glusterGoal float64
}

// Steps are odd multiples of the request's size, so that they visit every block of an image whose
// size is a power of two before they come back to one: the nearest that qemu-img bench has to
// random offsets.
const (
	smallStep = 4096 * 81001
	largeStep = 1 << 20 * 37
)

// patterns with their goals: three synced copies beside one, and beside another's three.
func patterns() []pattern {
	return []pattern{
		{"4 KiB write, depth 1, flush each", 4096, 1, true, 1, smallStep, 0.8, 8},
		{"4 KiB write, depth 16, flush every 16", 4096, 16, true, 16, smallStep, 1, 10},
		{"4 KiB read, depth 1", 4096, 1, false, 0, smallStep, 1, 0},
		{"4 KiB read, depth 16", 4096, 16, false, 0, smallStep, 1, 0},
		{"1 MiB write, depth 4", 1 << 20, 4, true, 0, largeStep, 0, 1.5},
		{"1 MiB read, depth 4", 1 << 20, 4, false, 0, largeStep, 1, 0},
	}
}

// bench runs the patterns against all servers.
type bench struct {
	settings
	ours    *server
	peer    *ganesha
	gluster *ganesha // nil: left out
	synced  *ganesha // one copy with synced metadata, for the kernel's part; nil: left out
	scratch string   // a folder
	started time.Time
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%6.1f s  %s\n", time.Since(b.started).Seconds(), fmt.Sprintf(format, args...))
}

func (b *bench) run(ctx context.Context, l *lab.Lab) (*figures, error) {
	f := &figures{Date: time.Now().Format(time.DateOnly), Machine: describeMachine(),
		ImageBytes: b.imageBytes, Seconds: b.seconds, Rounds: b.rounds}
	pids := b.ours.pids()
	f.Memory = make([]memory, len(pids))
	for i, pid := range pids {
		now, _, err := lab.Memory(pid)
		if err != nil {
			return nil, err
		}
		f.Memory[i].IdleBytes = now
	}
	if b.takes(clientQEMU) {
		rows, err := b.runPatterns(ctx)
		if err != nil {
			return nil, err
		}
		f.Rows = rows
	}
	if b.takes(clientKernel) {
		k := &kernelBench{bench: b, lab: l}
		rows, err := k.run(ctx)
		if err != nil {
			return nil, err
		}
		f.Kernel = rows
	}
	if b.takes(clientLong) {
		trials, err := (&longBench{bench: b, lab: l}).run(ctx)
		if err != nil {
			return nil, err
		}
		f.Long = trials
	}
	for i, pid := range pids {
		_, peak, err := lab.Memory(pid)
		if err != nil {
			return nil, err
		}
		f.Memory[i].PeakBytes = peak
	}
	return f, nil
}

// takes reports whether a part is to be run.
func (b *bench) takes(part string) bool { return b.client == clientAll || b.client == part }

// runPatterns has QEMU's client work on an image at each server.
func (b *bench) runPatterns(ctx context.Context) (rows []row, err error) {
	servers := b.servers()
	for _, s := range servers {
		b.say("%s: fill an image of %d MiB", s.name, b.imageBytes>>20)
		if err := s.create(ctx, b.imageBytes); err != nil {
			return nil, err
		}
	}
	for _, p := range patterns() {
		if !b.pattern.MatchString(p.name) {
			continue
		}
		row, err := b.compare(ctx, p)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		rows = append(rows, row)
	}
	for _, s := range servers {
		b.say("%s: read the image back", s.name)
		if err := s.verify(ctx, filepath.Join(b.scratch, s.name+".img"), b.imageBytes); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// servers are those that QEMU's client works on: ours, ganesha and, if it takes part, GlusterFS.
func (b *bench) servers() []*server {
	all := []*server{b.ours, b.peer.server}
	if b.gluster != nil {
		all = append(all, b.gluster.server)
	}
	return all
}

// compare lets the servers take turns on one pattern.
func (b *bench) compare(ctx context.Context, p pattern) (row, error) {
	servers := b.servers()
	counts := make([]int, len(servers))
	for i, s := range servers { // warm up, and find out how many requests fill the time
		rate, err := b.estimate(ctx, s, p)
		if err != nil {
			return row{}, err
		}
		counts[i] = max(p.depth*4, int(rate*b.seconds))
	}
	runs := make([][]result, len(servers))
	for range b.rounds {
		for i, s := range servers {
			r, err := once(ctx, s, p, counts[i])
			if err != nil {
				return row{}, err
			}
			runs[i] = append(runs[i], r)
			b.say("%-38s %-8s %9.0f/s", p.name, s.name, r.PerSecond)
		}
	}
	r := row{Pattern: p.name, RequestBytes: p.size, Goal: p.goal, GlusterGoal: p.glusterGoal,
		Ours: median(runs[0]), Ganesha: median(runs[1])}
	if b.gluster != nil {
		r.Gluster = new(median(runs[2]))
	}
	return r, nil
}

// estimate returns requests per second, from a run of a third of the time at least.
func (b *bench) estimate(ctx context.Context, s *server, p pattern) (float64, error) {
	for count := p.depth * 16; ; count *= 4 {
		took, err := s.bench(ctx, p, count)
		if err != nil {
			return 0, err
		}
		if took.Seconds() > b.seconds/3 || count > 1<<24 {
			return float64(count) / took.Seconds(), nil
		}
	}
}

// once makes one run, after everything that earlier ones have left unwritten is on the disk: the
// other server must not pay for it. A run whose bytes did not all go over the wire is an error: QEMU
// takes a short READ for zeros, and a server that answers with nothing would look fast.
func once(ctx context.Context, s *server, p pattern, count int) (result, error) {
	unix.Sync()
	if s.ready != nil {
		if err := s.ready(ctx); err != nil {
			return result{}, err
		}
	}
	cpuBefore, err := s.processorTime()
	if err != nil {
		return result{}, err
	}
	wireBefore, err := s.host.LoopbackBytes(ctx)
	if err != nil {
		return result{}, err
	}
	took, err := s.bench(ctx, p, count)
	if err != nil {
		return result{}, err
	}
	wireAfter, err := s.host.LoopbackBytes(ctx)
	if err != nil {
		return result{}, err
	}
	cpuAfter, err := s.processorTime()
	if err != nil {
		return result{}, err
	}
	if moved, want := wireAfter-wireBefore, int64(count)*int64(p.size); moved < want {
		return result{}, fmt.Errorf("%s: %d requests of %d bytes moved %d bytes only, not %d",
			s.name, count, p.size, moved, want)
	}
	return result{
		PerSecond:     float64(count) / took.Seconds(),
		CPUPer1000Ops: (cpuAfter - cpuBefore).Seconds() * 1000 / float64(count),
	}, nil
}

// median is the run with the middle speed; of an even number the slower of the two.
func median(runs []result) result {
	return medianBy(runs, func(r result) float64 { return r.PerSecond })
}

func medianBy[R any](runs []R, speed func(R) float64) R {
	sorted := slices.SortedFunc(slices.Values(runs), func(a, b R) int { return cmp.Compare(speed(a), speed(b)) })
	return sorted[(len(sorted)-1)/2]
}
