package main

import (
	"context"
	"strings"
	"time"

	"trinas/replica"
)

// How READY waits until the node serves (readyWhenServing).
const (
	readyLook = 50 * time.Millisecond
	readyWait = 2 * time.Minute
)

// readyWhenServing says READY once this node serves its volumes, its own replicas up to date or catching up: what is
// ordered after the agent, HA before all, would only fail before. It says so after readyWait in any case: a
// node whose others do not come is to have its local guests and its web interface all the same.
func (d *daemon) readyWhenServing(ctx context.Context, node *replica.Node) {
	tick := time.NewTicker(readyLook)
	defer tick.Stop()
	for begun := time.Now(); ; {
		missing := node.Unserved()
		if len(missing) == 0 {
			break
		}
		if time.Since(begun) >= readyWait {
			d.log.Warn("agent says that it is ready although it does not serve yet", "event", "agent-not-serving", "reason", strings.Join(missing, "; "))
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
	d.systemd.Ready()
	d.log.Info("agent is ready", "event", "agent-ready", "version", versionText(), "node", node.Name(), "nfs", addressesText(d.gateway.Addrs()))
}
