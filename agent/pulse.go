package main

import (
	"fmt"
	"strings"
	"time"

	"trinas/agent/notify"
	"trinas/replica"
)

// beatEvery is how often the pulse looks at the node. systemd's watchdog is pinged as often.
const beatEvery = time.Second

// pulse watches the loops that the node is nothing without, keeps systemd's watchdog content while
// they go on, and tells systemd the node's state in a line when it changes.
//
// A loop hangs when looks over stuckAfter have found the same step in it. Looks are counted, not
// time: when the whole process was stopped (SIGSTOP, a suspended host) no look took place either.
type pulse struct {
	systemd    *notify.Systemd
	node       func() *replica.Node // nil: not a member yet
	stuckAfter time.Duration

	stuck chan error // has room for one: why the log hangs
	quit  chan struct{}
	ended chan struct{}

	beats  map[string]beat
	status string // as systemd knows it
}

// beat is what a look has found, and how many looks in a row have found the same.
type beat struct {
	steps uint64
	still int
}

// startPulse begins to look. Before the agent is ready systemd takes the pings for nothing, and shows the state.
func startPulse(systemd *notify.Systemd, node func() *replica.Node, stuckAfter time.Duration) *pulse {
	p := &pulse{systemd: systemd, node: node, stuckAfter: stuckAfter,
		stuck: make(chan error, 1), quit: make(chan struct{}), ended: make(chan struct{})}
	go p.run()
	return p
}

// stop ends the looking; it returns when nothing more is told to systemd.
func (p *pulse) stop() {
	close(p.quit)
	<-p.ended
}

func (p *pulse) run() {
	defer close(p.ended)
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		p.look()
		select {
		case <-tick.C:
		case <-p.quit:
			return
		}
	}
}

func (p *pulse) look() {
	node := p.node()
	if node == nil {
		p.systemd.Alive()
		return
	}
	hung := p.hung(node.Vitals())
	if len(hung) == 0 {
		p.systemd.Alive()
	} else if hung[0] == replica.LogVital {
		select {
		case p.stuck <- fmt.Errorf("a write to the log has not ended within %s: the disk under the data directory hangs; "+
			"look at the kernel's messages, and at what shares the disk", p.stuckAfter):
		default: // told
		}
	}
	if status := statusLine(node.Summary(), hung); status != p.status {
		p.status = status
		p.systemd.Status(status)
	}
}

// hung returns the names of what hangs, the log's first.
func (p *pulse) hung(vitals []replica.Vital) (names []string) {
	beats := make(map[string]beat, len(vitals))
	for _, v := range vitals {
		b, seen := p.beats[v.Name]
		if !seen || !v.Busy || b.steps != v.Steps {
			b = beat{steps: v.Steps}
		} else {
			b.still++
		}
		beats[v.Name] = b
		if time.Duration(b.still)*beatEvery >= p.stuckAfter {
			names = append(names, v.Name)
		}
	}
	p.beats = beats
	return names
}

// statusLine is the node's state in one line, what is wrong first.
func statusLine(s replica.Summary, hung []string) string {
	var parts []string
	list := func(text string, names []string) {
		if len(names) > 0 {
			parts = append(parts, text+strings.Join(names, ", "))
		}
	}
	list("does not go on: ", hung)
	list("replica failed: ", s.Failed)
	list("no primary: ", s.Alone)
	for _, r := range s.Resyncs {
		parts = append(parts, fmt.Sprintf("resync of %s: %d%%", r.Volume, r.Percent))
	}
	parts = append(parts,
		fmt.Sprintf("primary of %d, secondary of %d volumes", len(s.Primary), len(s.Secondary)),
		fmt.Sprintf("%d of %d nodes connected", s.Connected, s.Nodes))
	return strings.Join(parts, "; ")
}

// startPulse begins to watch, once.
func (d *daemon) startPulse() {
	if d.pulse == nil {
		d.pulse = startPulse(d.systemd, d.currentNode, time.Duration(d.config.Log.StuckAfter))
	}
}

func (d *daemon) stopPulse() error {
	if d.pulse != nil {
		d.pulse.stop()
		d.pulse = nil
	}
	return nil
}
