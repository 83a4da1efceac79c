package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"trinas/agent/control"
	"trinas/packaging/lab"
)

const (
	restartGoal = 2 * time.Second  // what trinas may add to Proxmox's own time until a guest runs again
	activation  = 40 * time.Second // the plugin's time limit
	blockBytes  = 4096
)

// guestDisk is a guest's image in the volume.
type guestDisk struct {
	folder, name string
	stamp        byte // what its block is full of
}

// restarts cuts nodes off, in turn, that lead the volume and have two guests' images active, and times what the start of
// a guest on another node needs of trinas. The first one is started at once, and so waits for a new primary. Proxmox
// starts guests two minutes later, when that is over: the second one stands for that.
func restarts(ctx context.Context, l *lab.Lab, rounds int) error {
	disks := []*guestDisk{{folder: "images/100", name: "vm-100-disk-0.raw"}, {folder: "images/101", name: "vm-101-disk-0.raw"}}
	for _, d := range disks {
		if err := d.make(ctx, l.Nodes[0]); err != nil {
			return err
		}
	}
	times := make([][]time.Duration, len(disks))
	for round := range rounds {
		victim, other := l.Nodes[round%len(l.Nodes)], l.Nodes[(round+1)%len(l.Nodes)]
		took, err := restart(ctx, l, disks, victim, other)
		if err != nil {
			return fmt.Errorf("round %d: %s is cut off, %s takes over: %w", round+1, victim.Name, other.Name, err)
		}
		for i := range took {
			times[i] = append(times[i], took[i])
		}
	}
	fmt.Printf("restart: %d times the primary, where images were active, was cut off;\n", rounds)
	fmt.Println("an image is activated on another node, a block read, and one written durably")
	fmt.Println("  " + timesText("from the cut, with the election", times[0]))
	fmt.Println("  " + timesText("another one after it", times[1]))
	return nil
}

// restart is one round: how long each disk's start took. The first counts from the moment before the cable is pulled.
func restart(ctx context.Context, l *lab.Lab, disks []*guestDisk, victim, other *lab.Node) (took []time.Duration, err error) {
	for _, d := range disks {
		if err := d.start(ctx, victim); err != nil {
			return nil, err
		}
	}
	if err := l.SetPrimary(ctx, volume, victim); err != nil {
		return nil, err
	}
	began := time.Now()
	if err := l.Cut(ctx, victim); err != nil {
		return nil, err
	}
	for _, d := range disks {
		if err = d.start(ctx, other); err != nil {
			break
		}
		took = append(took, time.Since(began))
		began = time.Now()
	}
	if err := errors.Join(err, l.Heal(ctx, victim)); err != nil {
		return nil, err
	}
	for _, n := range l.Nodes {
		if err := n.AwaitUpToDate(ctx, volume, victim.Name); err != nil {
			return nil, err
		}
	}
	return took, nil
}

// make makes the disk, through a node.
func (d *guestDisk) make(ctx context.Context, n *lab.Node) error {
	at := volume
	for _, name := range strings.Split(d.folder, "/") {
		f := n.File(at, "", false)
		err := lab.MakeFolder(ctx, f, name)
		f.Close()
		if err != nil {
			return err
		}
		at += "/" + name
	}
	f := n.File(at, d.name, true)
	defer f.Close()
	return f.Write(ctx, d.block(), 0)
}

func (d *guestDisk) block() []byte { return bytes.Repeat([]byte{d.stamp}, blockBytes) }

// start does what a guest's start needs: the image is activated on the node, as the plugin's activate_volume asks for, a
// block is read, which must be the one acknowledged last, and another one written.
func (d *guestDisk) start(ctx context.Context, n *lab.Node) error {
	client := control.NewClient(n.Socket())
	defer client.Close()
	if err := client.Activate(ctx, volume, d.folder+"/"+d.name, activation); err != nil {
		return err
	}
	f := n.File(volume+"/"+d.folder, d.name, false)
	defer f.Close()
	got, err := f.Read(ctx, blockBytes, 0)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, d.block()) {
		return fmt.Errorf("%s reads another block than the one acknowledged last", n.Name)
	}
	d.stamp++
	return f.Write(ctx, d.block(), 0)
}

// timesText is a line of the report.
func timesText(what string, times []time.Duration) string {
	slices.Sort(times)
	longest := times[len(times)-1]
	text := fmt.Sprintf("%-34s p50 %4d ms, longest %4d ms", what, times[len(times)/2].Milliseconds(), longest.Milliseconds())
	if longest > restartGoal {
		text += fmt.Sprintf("  goal %v: MISSED", restartGoal)
	}
	return text
}
