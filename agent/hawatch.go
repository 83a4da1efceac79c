package main

import (
	"context"
	"time"

	"trinas/agent/ha"
	"trinas/agent/pve"
	"trinas/replica"
)

// haManager is Proxmox's command.
const haManager = "ha-manager"

// watchHA begins what ha.evacuate and ha.kill_stuck allow. It ends with ctx.
func (d *daemon) watchHA(ctx context.Context, node *replica.Node) {
	c := d.config.HA
	if d.config.PVE.Dir == "" || !c.Evacuate && !c.KillStuck {
		return
	}
	dir, log := pve.Dir(d.config.PVE.Dir), d.log.With("node", node.Name())
	d.besides.Go(func() {
		name := awaitProxmox(ctx, dir, node.Name())
		if ctx.Err() != nil {
			return
		}
		if c.Evacuate {
			e := ha.Evacuator{Node: name, Dir: dir, Look: node.Summary, After: time.Duration(c.EvacuateAfter),
				Return: time.Duration(c.ReturnAfter), Command: haManager, Log: log}
			d.besides.Go(func() { e.Run(ctx) })
		}
		if c.KillStuck {
			k := ha.Killer{Node: name, Dir: dir, Stuck: node.Stuck, After: time.Duration(c.StuckAfter), PIDs: ha.PIDDir, Log: log}
			d.besides.Go(func() { k.Run(ctx) })
		}
	})
}

// awaitProxmox waits until Proxmox's cluster file system is there and has this node, and returns Proxmox's name of
// it.
func awaitProxmox(ctx context.Context, dir pve.Dir, name string) string {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if found := ha.NodeName(dir, name); found != "" {
			return found
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ""
		}
	}
}
