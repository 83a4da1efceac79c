// Package check looks for what is wrong on a node and says in plain words how to mend it. It must
// never change anything that lasts, never wait longer than its bounds, and never touch what lies
// below a mount of NFS: that can hang for ever.
//
// Floor 4: imports replica and agent/config.
package check

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"trinas/agent/config"
	"trinas/replica"
)

// Level is how bad a finding is.
type Level int

// The levels, the worst last.
const (
	OK Level = iota
	Warning
	Error
)

// String is "ok", "warning" or "error".
func (l Level) String() string { return [...]string{"ok", "warning", "error"}[l] }

// MarshalJSON writes what String gives.
func (l Level) MarshalJSON() ([]byte, error) { return json.Marshal(l.String()) }

// Finding is one line of the result.
type Finding struct {
	Check string `json:"check"` // what was looked at: "clock"
	Level Level  `json:"level"`
	Text  string `json:"text"`
	Do    string `json:"do,omitempty"` // what to do; never empty where Level is not OK
}

// Subject is what is known of the node before anything is looked at.
type Subject struct {
	Config  config.Config
	Version string // of this program

	// The agent, when it runs.
	AgentPID     int // 0: it does not
	AgentState   string
	AgentVersion string
	Serving      bool // NFS
	Waiting      bool // for a cluster

	Member  *replica.Membership // nil: the data directory has no identity, or it could not be read
	Address string              // the node's own for the others, "": not known
	Peers   []replica.Member    // the other nodes
	Probe   *replica.Probe      // what the agent found out about them; nil when it could not be asked
}

// Host is the machine as the probes reach it. Tests put other things there.
type Host struct {
	Root    string // where /proc, /etc and /run are: "/"
	Dial    func(ctx context.Context, network, addr string) (net.Conn, error)
	PathMTU func(ctx context.Context, addr string) (PathMTU, error)
	Run     func(ctx context.Context, name string, args ...string) ([]byte, error)
	Synced  func() (bool, error) // whether the kernel's clock is kept right
}

// This is the machine that the program runs on.
func This() Host {
	return Host{
		Root: "/", Dial: (&net.Dialer{}).DialContext, PathMTU: pathMTU, Synced: clockSynced,
		Run: func(ctx context.Context, name string, args ...string) ([]byte, error) {
			cmd := exec.CommandContext(ctx, name, args...)
			cmd.WaitDelay = time.Second
			return cmd.Output()
		},
	}
}

func (h Host) read(path string) ([]byte, error) { return os.ReadFile(filepath.Join(h.Root, path)) }

// probeTimeout bounds each probe; they run at the same time.
const probeTimeout = 4 * time.Second

type probe struct {
	name string
	look func(context.Context, Subject, Host) []Finding
}

func probes() []probe {
	return []probe{
		{"agent", checkAgent},
		{"unit", checkUnit},
		{"versions", checkVersions},
		{"ports", checkPorts},
		{"file system", checkFileSystem},
		{"disk", checkDisk},
		{"memory", checkMemory},
		{"clock", checkClock},
		{"network", checkNetwork},
		{"mtu", checkMTU},
		{"certificates", checkCertificates},
		{"mounts", checkMounts},
	}
}

// Run looks at everything, in probeTimeout at most. The order of the findings is always the same.
func Run(ctx context.Context, s Subject, h Host) []Finding { return run(ctx, s, h, probes()) }

func run(ctx context.Context, s Subject, h Host, all []probe) []Finding {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	results := make([]chan []Finding, len(all))
	for i, p := range all {
		results[i] = make(chan []Finding, 1) // a probe that hangs in the kernel is left behind
		go func() { results[i] <- p.look(ctx, s, h) }()
	}
	var out []Finding
	for i, p := range all {
		select {
		case found := <-results[i]:
			out = append(out, found...)
			continue
		default:
		}
		select {
		case found := <-results[i]:
			out = append(out, found...)
		case <-time.After(untilDone(ctx)):
			out = append(out, Finding{p.name, Error, fmt.Sprintf("was not done within %s", probeTimeout),
				"see the kernel's log (dmesg) for a disk or a mount that does not answer"})
		}
	}
	return out
}

// untilDone is how long to wait for a probe: a little beyond ctx, so that one that keeps to its
// bound can still say what it found.
func untilDone(ctx context.Context) time.Duration {
	deadline, _ := ctx.Deadline()
	return max(time.Until(deadline), 0) + time.Second
}

// Worst is the highest level among the findings.
func Worst(found []Finding) Level {
	worst := OK
	for _, f := range found {
		worst = max(worst, f.Level)
	}
	return worst
}

func checkAgent(_ context.Context, s Subject, _ Host) []Finding {
	f := Finding{Check: "agent", Text: fmt.Sprintf("runs (process %d): %s", s.AgentPID, s.AgentState)}
	switch {
	case s.AgentPID == 0 && s.Member != nil:
		f = Finding{"agent", Error, fmt.Sprintf("node %s of cluster %s has no agent running", s.Member.Node, s.Member.Cluster),
			"systemctl start trinas; journalctl -u trinas says why it stopped"}
	case s.AgentPID == 0:
		f = Finding{"agent", Warning, "does not run", "systemctl start trinas"}
	case s.Member != nil:
		f.Text += fmt.Sprintf(", node %s of cluster %s", s.Member.Node, s.Member.Cluster)
	}
	return []Finding{f}
}

func checkVersions(_ context.Context, s Subject, _ Host) []Finding {
	ours, whose := s.Version, "this program"
	var out []Finding
	if s.AgentVersion != "" {
		if s.AgentVersion != s.Version {
			out = append(out, Finding{"versions", Warning,
				fmt.Sprintf("this program is trinas %s, the agent that runs is %s", s.Version, s.AgentVersion), "systemctl restart trinas"})
		}
		ours, whose = s.AgentVersion, "the agent"
	}
	same := 0
	if s.Probe != nil {
		for _, p := range s.Probe.Peers {
			switch {
			case p.Error != "": // the network's matter
			case p.Version != ours:
				out = append(out, Finding{"versions", Warning, fmt.Sprintf("%s here is trinas %s, on %s it is %s", whose, ours, p.Node, p.Version),
					"install the same version on all nodes, one after the other"})
			default:
				same++
			}
		}
	}
	if out == nil {
		out = []Finding{{Check: "versions", Text: fmt.Sprintf("trinas %s here and on %d other nodes", ours, same)}}
	}
	return out
}
