package ha

import (
	"context"
	"fmt"
	"log/slog"
	"os/exec"
	"slices"
	"strings"
	"time"

	"trinas/agent/pve"
	"trinas/replica"
)

const (
	evacuateEvery = 5 * time.Second
	// evacuateAgain is when HA is told again, if it has not done it. It takes note every 10 s.
	evacuateAgain  = time.Minute
	commandTimeout = time.Minute
)

// Evacuator puts this node into HA's maintenance mode, so that its guests move away live, while its replica is out
// of service or its log's disk is slow; the guests are served through the other nodes meanwhile. When the node has
// been well for Return it ends the mode, if it was this that began it.
type Evacuator struct {
	Node    string // Proxmox's name of this node
	Dir     pve.Dir
	Look    func() replica.Summary
	After   time.Duration // how long the node must be degraded: a log that is slow for a moment is nobody's business
	Return  time.Duration // how long it must then have been well
	Command string        // ha-manager, or what stands for it
	Log     *slog.Logger

	bad, well time.Time // since when; zero: it is not
	tried     time.Time // when HA was told something last
	told      bool      // the log has been told of this evacuation
	said      string    // the last complaint since something worked, so that it is not repeated
}

// Run looks until ctx ends.
func (e *Evacuator) Run(ctx context.Context) {
	tick := time.NewTicker(evacuateEvery)
	defer tick.Stop()
	for {
		if e.Dir.Present() {
			e.complain(ctx, e.step(ctx, time.Now()))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (e *Evacuator) complain(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil && err.Error() != e.said {
		e.Log.Warn("this node's maintenance mode cannot be changed; trying on", "event", "ha-evacuate-failed", "cause", err)
		e.said = err.Error()
	}
}

// step looks once.
func (e *Evacuator) step(ctx context.Context, now time.Time) error {
	s := e.Look()
	var reasons []string
	if len(s.Failed) > 0 {
		reasons = append(reasons, "replicas out of service: "+strings.Join(s.Failed, ", "))
	}
	if s.LogSlow {
		reasons = append(reasons, "the disk of the log is slow")
	}
	since(&e.bad, len(reasons) > 0, now)
	since(&e.well, len(reasons) == 0 && len(s.Resyncs) == 0 && len(s.Alone) == 0, now)
	// A node that reaches no majority is not degraded but cut off, and has nobody to serve its guests.
	away := !e.bad.IsZero() && now.Sub(e.bad) >= e.After && 2*s.Connected > s.Nodes && len(s.Alone) == 0
	back := !e.well.IsZero() && now.Sub(e.well) >= e.Return
	if !away && !back || now.Sub(e.tried) < evacuateAgain {
		return nil
	}
	if away {
		return e.evacuate(ctx, now, strings.Join(reasons, "; "))
	}
	evacuated, err := e.Dir.Evacuated(e.Node)
	if err != nil || !evacuated {
		return err
	}
	return e.comeBack(ctx, now)
}

// since keeps the time since when something holds.
func since(start *time.Time, holds bool, now time.Time) {
	if !holds {
		*start = time.Time{}
	} else if start.IsZero() {
		*start = now
	}
}

// evacuate begins the maintenance mode, unless HA does not take this node for online: then the mode has begun, or HA
// is not used here, or an admin has begun the mode, whose it then stays.
func (e *Evacuator) evacuate(ctx context.Context, now time.Time, reason string) error {
	status, err := e.Dir.ManagerStatus()
	if err != nil || status.Nodes[e.Node] != pve.NodeOnline {
		return err
	}
	e.tried = now
	// Before the command: a mode that nobody knows to be ours would never end.
	if err := e.Dir.SetEvacuated(e.Node, true); err != nil {
		return err
	}
	if err := e.maintenance(ctx, "enable"); err != nil {
		return err
	}
	if e.said = ""; !e.told {
		e.told = true
		e.Log.Warn("HA is told to move this node's guests away", "event", "ha-evacuated", "reason", reason)
	}
	return nil
}

func (e *Evacuator) comeBack(ctx context.Context, now time.Time) error {
	e.tried = now
	if err := e.maintenance(ctx, "disable"); err != nil {
		return err
	}
	if err := e.Dir.SetEvacuated(e.Node, false); err != nil {
		return err
	}
	e.said, e.told = "", false
	e.Log.Info("HA is told that this node can have guests again", "event", "ha-returned")
	return nil
}

func (e *Evacuator) maintenance(ctx context.Context, word string) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	args := []string{"crm-command", "node-maintenance", word, e.Node}
	out, err := exec.CommandContext(ctx, e.Command, args...).CombinedOutput()
	if err != nil {
		said := strings.Fields(string(out))
		return fmt.Errorf("%s %s: %w: %s", e.Command, strings.Join(args, " "), err, strings.Join(said[:min(len(said), 50)], " "))
	}
	return nil
}

// NodeName is Proxmox's name of the node that trinas calls name: they differ in case at most. "": Proxmox has no
// such node.
func NodeName(dir pve.Dir, name string) string {
	nodes, err := dir.Nodes()
	if i := slices.IndexFunc(nodes, func(n string) bool { return strings.EqualFold(n, name) }); err == nil && i >= 0 {
		return nodes[i]
	}
	return ""
}
