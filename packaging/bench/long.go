package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"trinas/packaging/lab"
)

// What the long part works with.
const (
	crowdImages = 8
	crowdBytes  = 256 << 20 // of each of them
	loadDepth   = 16
	longImage   = "long.img"

	logRoomBytes = 2 << 30 // beside each copy of the image: logs, and what a node keeps back

	idleVolumes = 100
	idleTime    = 20 * time.Second
)

// longBench is the part whose answers need time: full caches, checkpoints, several guests, a bad disk.
type longBench struct {
	*bench
	lab    *lab.Lab
	crowd  bool // the images for crowd are there
	trials []trial
}

// run makes the trials whose names match the pattern.
func (b *longBench) run(ctx context.Context) ([]trial, error) {
	for _, t := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"idle volumes", b.idle},
		{"restore", b.restore},
		{"sustained", b.sustained},
		{"crowd", b.manyImages},
		{"slow secondary", b.slowSecondary},
	} {
		if !b.pattern.MatchString(t.name) {
			continue
		}
		b.say("%s", t.name)
		if err := t.run(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", t.name, err)
		}
	}
	return b.trials, nil
}

func (b *longBench) note(t trial) {
	b.trials = append(b.trials, t)
	b.say("%s: %.2f%s (%s); %s", t.Name, t.Value, t.Unit, t.goalText(), t.Detail)
}

// fresh makes an image at each server and fills it by 1 MiB writes, as a restore does, with one flush at the end;
// it returns each one's MB per second.
func (b *longBench) fresh(ctx context.Context) ([]float64, error) {
	copies := int64(4)
	if b.gluster != nil {
		copies += 3
	}
	var st unix.Statfs_t
	if err := unix.Statfs(b.scratch, &st); err != nil {
		return nil, fmt.Errorf("room in %s: %w", b.scratch, err)
	}
	if need := copies * (b.longBytes + logRoomBytes); int64(st.Bavail)*st.Bsize < need {
		return nil, fmt.Errorf("%s needs %d GiB free: give another place with -dir, or a smaller -long-image", b.scratch, need>>30)
	}
	var speeds []float64
	for _, s := range b.servers() {
		unix.Sync()
		mib := int(b.longBytes >> 20)
		took, err := s.of(longImage).fill(ctx, b.longBytes, mib)
		if err != nil {
			return nil, err
		}
		speeds = append(speeds, float64(b.longBytes)/1e6/took.Seconds())
		b.say("restore of %d MiB: %-8s %.0f MB/s", mib, s.name, speeds[len(speeds)-1])
	}
	return speeds, nil
}

func (b *longBench) restore(ctx context.Context) error {
	speeds, err := b.fresh(ctx)
	if err != nil {
		return err
	}
	if b.gluster != nil {
		b.note(trial{Name: "restore, over GlusterFS'", Value: speeds[0] / speeds[2], Goal: 1.2,
			Detail: fmt.Sprintf("%.0f, %.0f MB/s; ganesha's one copy %.0f", speeds[0], speeds[2], speeds[1])})
	}
	return nil
}

// sustained has each server take random writes for long over the image that restore has made.
func (b *longBench) sustained(ctx context.Context) error {
	if !b.pattern.MatchString("restore") {
		if _, err := b.fresh(ctx); err != nil {
			return err
		}
	}
	var done []loaded
	var held []int64 // by ours, each second
	for i, s := range b.servers() {
		unix.Sync()
		sampling, stop := context.WithCancel(ctx)
		sampled := make(chan []int64, 1)
		go func() { sampled <- sampleMemory(sampling, s.pids) }()
		l := load{at: s, host: s.host, image: longImage, sizeBytes: b.longBytes, depth: loadDepth}
		d, err := l.run(ctx, b.longTime)
		stop()
		samples := <-sampled
		if err != nil {
			return err
		}
		if i == 0 {
			held = samples
		}
		done = append(done, d)
		b.say("sustained: %-8s %.0f/s, rounds of %d: p50 %.1f, p99 %.1f, most %.1f ms", s.name, d.perSecond(), loadDepth,
			d.millis(0.5), d.millis(0.99), d.millis(1))
	}
	ours, peer := done[0], done[1]
	b.note(trial{Name: "sustained, over ganesha's", Value: ours.perSecond() / peer.perSecond(), Goal: 0.6,
		Detail: fmt.Sprintf("%.0f, %.0f writes/s", ours.perSecond(), peer.perSecond())})
	if len(done) > 2 {
		b.note(trial{Name: "sustained, over GlusterFS'", Value: ours.perSecond() / done[2].perSecond(), Goal: 6,
			Detail: fmt.Sprintf("%.0f, %.0f writes/s", ours.perSecond(), done[2].perSecond())})
	}
	b.note(trial{Name: "sustained, p99 over p50", Value: ours.tail(), Goal: 20, Most: true,
		Detail: fmt.Sprintf("%.1f, %.1f ms; ganesha's %.1f, %.1f ms", ours.millis(0.99), ours.millis(0.5), peer.millis(0.99), peer.millis(0.5))})
	if half := len(held) / 2; half > 1 {
		first, second := slices.Max(held[:half]), slices.Max(held[half:])
		b.note(trial{Name: "sustained, memory: second half over first", Value: float64(second) / float64(first), Goal: 1.1, Most: true,
			Detail: fmt.Sprintf("%d, %d MiB over three agents", second>>20, first>>20)})
	}
	return nil
}

// sampleMemory notes each second, until ctx ends, what processes hold resident in sum.
func sampleMemory(ctx context.Context, pids func() []int) (held []int64) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return held
		case <-tick.C:
		}
		sum := int64(0)
		for _, pid := range pids() {
			now, _, _ := lab.Memory(pid) // one that has ended holds nothing
			sum += now
		}
		held = append(held, sum)
	}
}

// crowdLoads are the loads on images of our volume, over all nodes in turn.
func (b *longBench) crowdLoads(ctx context.Context) ([]load, error) {
	var loads []load
	for i := range crowdImages {
		l := load{at: b.ours, host: b.lab.Nodes[i%len(b.lab.Nodes)].Host, image: "crowd" + strconv.Itoa(i) + ".img",
			sizeBytes: crowdBytes, depth: loadDepth}
		if !b.crowd {
			if err := b.ours.of(l.image).create(ctx, crowdBytes); err != nil {
				return nil, err
			}
		}
		loads = append(loads, l)
	}
	b.crowd = true
	return loads, nil
}

// turns lets two ways of running loads take turns and joins what each has done.
func (b *longBench) turns(ctx context.Context, one, other func() (loaded, error)) (a, z loaded, err error) {
	for range b.rounds {
		for _, w := range []struct {
			run func() (loaded, error)
			sum *loaded
		}{{one, &a}, {other, &z}} {
			unix.Sync()
			if err := b.ours.ready(ctx); err != nil {
				return a, z, err
			}
			before, err := b.ours.processorTime()
			if err != nil {
				return a, z, err
			}
			d, err := w.run()
			if err != nil {
				return a, z, err
			}
			after, err := b.ours.processorTime()
			if err != nil {
				return a, z, err
			}
			d.cpu = after - before
			*w.sum = w.sum.then(d)
		}
	}
	return a, z, nil
}

func (b *longBench) length() time.Duration { return time.Duration(b.seconds * float64(time.Second)) }

// manyImages has eight guests write at once, on three nodes.
func (b *longBench) manyImages(ctx context.Context) error {
	loads, err := b.crowdLoads(ctx)
	if err != nil {
		return err
	}
	alone, all, err := b.turns(ctx,
		func() (loaded, error) { return loads[0].run(ctx, b.length()) },
		func() (loaded, error) { return runAll(ctx, loads, b.length()) })
	if err != nil {
		return err
	}
	b.note(trial{Name: "8 images at once, sum over one alone", Value: all.perSecond() / alone.perSecond(), Goal: 1,
		Detail: fmt.Sprintf("%.0f, %.0f writes/s; %.0f, %.0f us of processor time each", all.perSecond(), alone.perSecond(),
			all.cpuMicros(), alone.cpuMicros())})
	b.note(trial{Name: "8 images at once, p99 over median", Value: all.tail(), Goal: 5, Most: true,
		Detail: fmt.Sprintf("%.1f, %.1f ms", all.millis(0.99), all.millis(0.5))})
	return nil
}

// slowSecondary compares with a secondary whose disk does a hundredth.
func (b *longBench) slowSecondary(ctx context.Context) error {
	loads, err := b.crowdLoads(ctx)
	if err != nil {
		return err
	}
	victim := b.lab.Nodes[len(b.lab.Nodes)-1]
	limit, err := newDiskLimit(b.lab.Dir, victim.PID())
	if err != nil {
		return err
	}
	defer limit.remove()
	well, ill, err := b.turns(ctx,
		func() (loaded, error) { return loads[0].run(ctx, b.length()) },
		func() (done loaded, err error) {
			if err := limit.set(true); err != nil {
				return done, err
			}
			if done, err = loads[0].run(ctx, b.length()); err != nil {
				return done, err
			}
			if err := limit.set(false); err != nil {
				return done, err
			}
			return done, b.lab.Nodes[0].AwaitUpToDate(ctx, volume, victim.Name)
		})
	if err != nil {
		return err
	}
	b.note(trial{Name: "a secondary with a slow disk, over one without", Value: ill.perSecond() / well.perSecond(), Goal: 0.9,
		Detail: fmt.Sprintf("%.0f, %.0f writes/s; p99 %.1f, %.1f ms", ill.perSecond(), well.perSecond(), ill.millis(0.99), well.millis(0.99))})
	return nil
}

// idle looks at agents that have many volumes and nothing to do.
func (b *longBench) idle(ctx context.Context) error {
	l, err := lab.Open(ctx, lab.Options{Binary: b.binary, Dir: b.dir, Nodes: 3, Name: "idle"})
	if err != nil {
		return err
	}
	defer func() {
		_ = l.Close() // the figures are there
		_ = l.Remove()
	}()
	if err := l.Form(ctx); err != nil {
		return err
	}
	for i := range idleVolumes {
		if _, err := l.Nodes[0].CLI(ctx, "volume", "create", "idle"+strconv.Itoa(i)); err != nil {
			return err
		}
	}
	last := "idle" + strconv.Itoa(idleVolumes-1)
	for _, n := range l.Nodes {
		if err := l.Nodes[0].AwaitUpToDate(ctx, last, n.Name); err != nil {
			return err
		}
	}
	var most struct{ bytes, share float64 }
	used := map[int]time.Duration{}
	for _, n := range l.Nodes {
		if used[n.PID()], err = lab.CPU(n.PID()); err != nil {
			return err
		}
	}
	began := time.Now()
	select {
	case <-time.After(idleTime):
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, n := range l.Nodes {
		cpu, err := lab.CPU(n.PID())
		if err != nil {
			return err
		}
		held, _, err := lab.Memory(n.PID())
		if err != nil {
			return err
		}
		most.share = max(most.share, (cpu-used[n.PID()]).Seconds()/time.Since(began).Seconds())
		most.bytes = max(most.bytes, float64(held))
	}
	detail := fmt.Sprintf("the most of three agents, over %v", idleTime)
	b.note(trial{Name: "100 idle volumes, resident", Value: most.bytes / (1 << 20), Goal: 100, Most: true, Unit: " MiB", Detail: detail})
	b.note(trial{Name: "100 idle volumes, of a processor", Value: 100 * most.share, Goal: 2, Most: true, Unit: " %", Detail: detail})
	return nil
}
