package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/willscott/go-nfs"

	"trinas/agent/drill"
	"trinas/packaging/lab"
	"trinas/replica"
)

const (
	volume      = "demo"
	writerFile  = "writes"
	writerSlots = 4096 // 16 MiB, written round and round
	blockBytes  = 4096
	imageName   = "disk.img"

	downTime    = 3 * time.Second // between the primary's death and its return
	settleTime  = time.Second     // how long gaps are measured on after a planned stop
	waitTimeout = 45 * time.Second
)

// play is one performance of the demo.
type play struct {
	lab    *lab.Lab
	out    io.Writer
	start  time.Time
	image  *image
	writer *lab.Writer
	probes []*probe
	report report
}

func newPlay(l *lab.Lab, out io.Writer) *play {
	p := &play{lab: l, out: out, start: time.Now()}
	p.writer = lab.NewWriter(l.Nodes[1].File(volume, writerFile, true), writerSlots, blockBytes)
	for _, n := range l.Nodes {
		p.probes = append(p.probes, newProbe(n, volume))
	}
	return p
}

func (p *play) say(format string, args ...any) {
	fmt.Fprintf(p.out, "%6.2f s  %s\n", time.Since(p.start).Seconds(), fmt.Sprintf(format, args...))
}

// perform plays the demo from the first act to the last. An error says what could not be done;
// what was done and found is in the report.
func (p *play) perform(ctx context.Context) error {
	if err := p.prepare(ctx); err != nil {
		return err
	}
	// Writer and probes have a context that ends before the acknowledged writes are checked. If one
	// of them fails, so does everything.
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	busy, endBusy := context.WithCancel(ctx)
	var group sync.WaitGroup
	run := func(f func(context.Context) error) {
		group.Go(func() {
			if err := f(busy); err != nil {
				fail(err)
			}
		})
	}
	run(p.writer.Run)
	for _, probe := range p.probes {
		run(probe.run)
	}
	err := p.disturb(ctx)
	endBusy()
	group.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err != nil {
		return err
	}
	return p.checkWrites(ctx)
}

// prepare makes the cluster, the volume and the image.
func (p *play) prepare(ctx context.Context) error {
	var err error
	source := filepath.Join(p.lab.Dir, "source.img")
	if p.image, err = makeImage(ctx, source, "/usr/share", "/usr/lib"); err != nil {
		return err
	}
	p.say("an ext4 image of %d MiB with %d files of this machine, %d MiB of it not holes",
		imageBytes>>20, p.image.files, p.image.allocatedBytes>>20)
	if err := p.lab.Form(ctx); err != nil {
		return err
	}
	if err := p.lab.CreateVolume(ctx, volume); err != nil {
		return err
	}
	if err := p.lab.SetPrimary(ctx, volume, p.lab.Nodes[2]); err != nil {
		return err
	}
	p.say("three agents, volume %q UpToDate on each, primary %s", volume, p.lab.Nodes[2].Name)
	return nil
}

// disturb kills the primary in the middle of a copy, lets it come back, and later stops a primary
// as an admin would.
func (p *play) disturb(ctx context.Context) error {
	n1, n3 := p.lab.Nodes[0], p.lab.Nodes[2]
	begun := time.Now()
	copied := make(chan error, 1)
	go func() { copied <- n1.Convert(ctx, p.image.path, n1.URL("/"+volume, imageName)) }()
	if err := p.awaitCopied(ctx, n1, p.image.allocatedBytes/2, copied); err != nil {
		return err
	}
	p.report.phase("copying in", begun, time.Now(), nil, 0)
	if err := p.killPrimary(ctx, n1, n3); err != nil {
		return err
	}
	if err := <-copied; err != nil {
		return fmt.Errorf("copy in through %s: %w", n1.Name, err)
	}
	p.report.copyTime = time.Since(begun)
	p.say("the copy through %s is done", n1.Name)
	if err := p.readBack(ctx, n3); err != nil {
		return err
	}
	return p.stopPrimary(ctx)
}

// awaitCopied waits until that many bytes of the image are in the volume.
func (p *play) awaitCopied(ctx context.Context, n *lab.Node, bytes int64, copied chan error) error {
	ctx, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	file := n.File(volume, imageName, false)
	defer file.Close()
	tick := time.NewTicker(lab.PollInterval)
	defer tick.Stop()
	for {
		attr, err := file.Attr(ctx)
		if err != nil && !drill.IsStatus(err, nfs.NFSStatusNoEnt) {
			return err
		}
		if err == nil && int64(attr.Used) >= bytes {
			p.say("%d MiB copied in through %s: the primary dies now", attr.Used>>20, n.Name)
			return nil
		}
		select {
		case err := <-copied:
			return fmt.Errorf("the copy ended before the primary could be killed in its middle: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("waiting for the middle of the copy: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

// killPrimary kills the primary, watches from another node who follows, starts the agent again
// after downTime and waits until its replica is UpToDate.
func (p *play) killPrimary(ctx context.Context, watcher, victim *lab.Node) error {
	ctx, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	if st, err := watcher.Volume(ctx, volume); err != nil || st.Primary != victim.Name {
		return fmt.Errorf("before the kill %s should be primary, it is %q (%w)", victim.Name, st.Primary, err)
	}
	killed := time.Now()
	victim.Kill(syscall.SIGKILL)
	primary, err := watcher.AwaitPrimary(ctx, volume, p.others(victim)...)
	if err != nil {
		return err
	}
	p.report.newPrimary = time.Since(killed)
	p.say("%s is primary, %v after the kill", primary, p.report.newPrimary.Round(time.Millisecond))
	_ = victim.Wait(ctx) // "signal: killed", and the next line wants it gone

	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Until(killed.Add(downTime))):
	}
	if state, err := watcher.ReplicaState(ctx, volume, victim.Name); err != nil || state == replica.UpToDate {
		return fmt.Errorf("%s has been dead for %v and its replica is still reported as %q (%w)",
			victim.Name, downTime, state, err)
	}
	restarted := time.Now()
	p.report.phase("primary killed", killed, restarted, victim, time.Second)
	if err := victim.Start(ctx); err != nil {
		return err
	}
	if err := watcher.AwaitUpToDate(ctx, volume, victim.Name); err != nil {
		return err
	}
	now := time.Now()
	p.report.catchUp = now.Sub(restarted)
	p.report.phase("catching up", restarted, now, victim, 0)
	p.say("%s is back and UpToDate, %v after its start", victim.Name, p.report.catchUp.Round(time.Millisecond))
	return nil
}

// readBack copies the image out through a node and compares.
func (p *play) readBack(ctx context.Context, n *lab.Node) error {
	back := filepath.Join(p.lab.Dir, "back.img")
	if err := n.Convert(ctx, n.URL("/"+volume, imageName), back); err != nil {
		return fmt.Errorf("read back through %s: %w", n.Name, err)
	}
	if err := p.image.verify(ctx, back); err != nil {
		p.report.image = err
		p.say("read back through %s: %v", n.Name, err)
		return nil
	}
	p.report.imageChecked = true
	p.say("read back through %s: the same bit by bit, e2fsck finds nothing", n.Name)
	return nil
}

// stopPrimary stops whichever agent is primary now, as systemctl stop does, and starts it again.
func (p *play) stopPrimary(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	st, err := p.lab.Nodes[0].Volume(ctx, volume)
	if err != nil {
		return err
	}
	victim := p.lab.Node(st.Primary)
	if victim == nil {
		return fmt.Errorf("no primary before the planned stop: %q", st.Primary)
	}
	stopped := time.Now()
	victim.Kill(syscall.SIGTERM)
	if err := victim.Wait(ctx); err != nil {
		return fmt.Errorf("planned stop: %w", err)
	}
	ended := time.Now()
	watcher := p.lab.Node(p.others(victim)[0])
	primary, err := watcher.AwaitPrimary(ctx, volume, p.others(victim)...)
	if err != nil {
		return err
	}
	p.say("%s was told to stop and ended %v later; %s is primary", victim.Name,
		ended.Sub(stopped).Round(time.Millisecond), primary)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(settleTime):
	}
	p.report.phase("handed over", stopped, time.Now(), victim, 200*time.Millisecond)
	if err := victim.Start(ctx); err != nil {
		return err
	}
	if err := watcher.AwaitUpToDate(ctx, volume, victim.Name); err != nil {
		return err
	}
	p.say("%s is back and UpToDate", victim.Name)
	return nil
}

// checkWrites reads the writer's file back through the nodes that it was not written through.
func (p *play) checkWrites(ctx context.Context) error {
	p.report.measure(p.probes)
	for _, n := range []*lab.Node{p.lab.Nodes[0], p.lab.Nodes[2]} {
		found, err := p.writer.Check(ctx, n.File(volume, writerFile, false))
		if err != nil {
			return err
		}
		p.report.addLosses(n.Name, found)
	}
	p.report.acknowledged = p.writer.Acknowledged()
	p.report.writesChecked = true
	p.say("%d writes were acknowledged through %s; checked through %s and %s", p.report.acknowledged,
		p.lab.Nodes[1].Name, p.lab.Nodes[0].Name, p.lab.Nodes[2].Name)
	for _, n := range p.lab.Nodes {
		if !n.Running() {
			return fmt.Errorf("the agent of %s has ended by itself; see %s", n.Name, n.LogFile())
		}
	}
	return nil
}

// others are the names of all nodes but one.
func (p *play) others(but *lab.Node) []string {
	var names []string
	for _, n := range p.lab.Nodes {
		if n != but {
			names = append(names, n.Name)
		}
	}
	return names
}
