package config

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// nodeName is what a node may be called: a host name's label, as Proxmox demands it of a node.
var nodeName = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$`)

// Validate reports the first key whose value cannot work, and fills in node.name from the host
// where it is empty and memory.limit where it is 0. It has no other effect.
func (c *Config) Validate() error {
	c.Node.Given = c.Node.Given || c.Node.Name != ""
	if c.Node.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("node.name: empty, and this host's name cannot be read: %w", err)
		}
		c.Node.Name, _, _ = strings.Cut(host, ".")
	}
	if c.Memory.Limit == 0 {
		machine, err := machineMemory()
		if err != nil {
			return err
		}
		c.Memory.Limit = memoryFor(machine)
	}
	checks := []error{
		absolute("data_dir", c.DataDir),
		oneOf("log_level", c.LogLevel, "debug", "info", "warn", "error"),
		absolute("control.socket", c.Control.Socket),
		// sockaddr_un holds 108 bytes with the closing zero (unix(7)).
		inRange("length of control.socket", len(c.Control.Socket), 1, 107),
		ValidName("node.name", c.Node.Name),
		address("peer.listen", c.Peer.Listen),
		c.advertise(),
		c.nfsListen(),
		oneOf("nfs.portmap", c.NFS.Portmap, PortmapAuto, PortmapOff),
		inRange("nfs.max_connections", c.NFS.MaxConnections, 1, 65536),
		inRange("log.limit", c.Log.Limit, 256*MiB, TiB),
		inRange("log.segment", c.Log.Segment, 16*MiB, GiB),
		inRange("log.cache", c.Log.Cache, MiB, 8*GiB),
		inRange("log.stuck_after", c.Log.StuckAfter, Duration(2*time.Second), Duration(time.Hour)),
		inRange("checkpoint.interval", c.Checkpoint.Interval, Duration(time.Second), Duration(time.Hour)),
		inRange("resync.rate", c.Resync.Rate, 0, TiB),
		neverOr("verify.interval", c.Verify.Interval, Duration(time.Hour), Duration(365*24*time.Hour)),
		neverOr("placement.replace_after", c.Placement.ReplaceAfter, Duration(time.Minute), Duration(365*24*time.Hour)),
		inRange("verify.rate", c.Verify.Rate, 0, TiB),
		inRange("raft.heartbeat", c.Raft.Heartbeat, Duration(10*time.Millisecond), Duration(10*time.Second)),
		inRange("raft.election", c.Raft.Election, Duration(100*time.Millisecond), Duration(time.Minute)),
		inRange("raft.lease", c.Raft.Lease, Duration(20*time.Millisecond), Duration(time.Minute)),
		inRange("load.interval", c.Load.Interval, Duration(time.Second), Duration(5*time.Second)),
		inRange("memory.limit", c.Memory.Limit, 64*MiB, TiB),
		c.metricsListen(),
		c.pveDir(),
		c.webListen(),
		inRange("ha.evacuate_after", c.HA.EvacuateAfter, Duration(10*time.Second), Duration(time.Hour)),
		inRange("ha.return_after", c.HA.ReturnAfter, Duration(10*time.Second), Duration(24*time.Hour)),
		inRange("ha.stuck_after", c.HA.StuckAfter, Duration(20*time.Second), Duration(time.Hour)),
	}
	for _, err := range checks {
		if err != nil {
			return err
		}
	}
	return c.together()
}

func (c *Config) webListen() error {
	if c.Web.Listen == "" {
		return nil
	}
	return address("web.listen", c.Web.Listen)
}

// together checks keys whose values depend on each other.
func (c *Config) together() error {
	switch {
	case c.Log.Segment%4096 != 0:
		return fmt.Errorf("log.segment = %s: must be a multiple of 4KiB", c.Log.Segment)
	case c.Log.Limit < 4*c.Log.Segment:
		// One segment fills, one is prepared, and the oldest can only go as a whole.
		return fmt.Errorf("log.limit = %s: must be at least four times log.segment (%s)", c.Log.Limit, c.Log.Segment)
	case (c.HA.Evacuate || c.HA.KillStuck) && c.PVE.Dir == "":
		return fmt.Errorf("ha.evacuate, ha.kill_stuck: they need Proxmox's cluster file system: set pve.dir")
	case c.Log.StuckAfter < 2*c.Raft.Heartbeat:
		return fmt.Errorf("log.stuck_after = %s: must be at least twice raft.heartbeat (%s)", c.Log.StuckAfter, c.Raft.Heartbeat)
	case c.Raft.Election < 5*c.Raft.Heartbeat:
		return fmt.Errorf("raft.election = %s: must be at least five times raft.heartbeat (%s), "+
			"else lost heartbeats look like a lost node", c.Raft.Election, c.Raft.Heartbeat)
	case c.Raft.Lease < 2*c.Raft.Heartbeat:
		return fmt.Errorf("raft.lease = %s: must be at least twice raft.heartbeat (%s), "+
			"else it runs out between two heartbeats", c.Raft.Lease, c.Raft.Heartbeat)
	case c.Raft.Lease > c.Raft.Election/2:
		return fmt.Errorf("raft.lease = %s: must be at most half of raft.election (%s)", c.Raft.Lease, c.Raft.Election)
	}
	return nil
}

// advertise checks peer.advertise: an address that other nodes can dial, by number.
func (c *Config) advertise() error {
	if c.Peer.Advertise == "" {
		return nil
	}
	a, err := netip.ParseAddrPort(c.Peer.Advertise)
	if err != nil || a.Port() == 0 || a.Addr().IsUnspecified() {
		return fmt.Errorf("peer.advertise = %q: must be the address and port that other nodes reach this node at, "+
			"such as \"192.0.2.1:7370\"", c.Peer.Advertise)
	}
	return nil
}

func (c *Config) metricsListen() error {
	if c.Metrics.Listen == "" {
		return nil
	}
	return address("metrics.listen", c.Metrics.Listen)
}

func (c *Config) pveDir() error {
	if c.PVE.Dir == "" {
		return nil
	}
	return absolute("pve.dir", c.PVE.Dir)
}

// nfsListen checks nfs.listen.
func (c *Config) nfsListen() error {
	if err := inRange("number of addresses of nfs.listen", len(c.NFS.Listen), 1, maxListen); err != nil {
		return err
	}
	var seen []netip.AddrPort
	for _, text := range c.NFS.Listen {
		if err := address("nfs.listen", text); err != nil {
			return err
		}
		a := netip.MustParseAddrPort(text)
		a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
		for _, b := range seen {
			switch {
			case a.Port() != b.Port():
				return fmt.Errorf("nfs.listen = %q: all addresses must have the same port: the port mapper can tell clients one only", c.NFS.Listen)
			case a == b || a.Addr().IsUnspecified() || b.Addr().IsUnspecified():
				return fmt.Errorf("nfs.listen = %q: %s and %s overlap: leave one of them out", c.NFS.Listen, b, a)
			}
		}
		seen = append(seen, a)
	}
	return nil
}

// maxListen bounds the addresses of nfs.listen.
const maxListen = 16

// Level is log_level for log/slog. Only to be called after Validate.
func (c *Config) Level() slog.Level {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.LogLevel)) // Validate has seen it
	return level
}

// ValidName checks the name of a node, named what in the error: letters, digits and hyphens, at
// most 63 bytes.
func ValidName(what, name string) error {
	if !nodeName.MatchString(name) {
		return fmt.Errorf("%s = %q: must be 1 to 63 letters, digits and inner hyphens", what, name)
	}
	return nil
}

func absolute(key, path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%s = %q: must be an absolute path", key, path)
	}
	return nil
}

func address(key, value string) error {
	if _, err := netip.ParseAddrPort(value); err != nil {
		return fmt.Errorf("%s = %q: must be an IP address and a port, such as \"127.0.0.1:2049\"", key, value)
	}
	return nil
}

func oneOf(key, value string, allowed ...string) error {
	for _, a := range allowed {
		if value == a {
			return nil
		}
	}
	return fmt.Errorf("%s = %q: must be one of \"%s\"", key, value, strings.Join(allowed, `", "`))
}

// neverOr checks a time that is 0, for never, or in a range.
func neverOr(key string, value, low, high Duration) error {
	if value == 0 {
		return nil
	}
	return inRange(key, value, low, high)
}

func inRange[T Size | Duration | int](key string, value, low, high T) error {
	if value < low || value > high {
		return fmt.Errorf("%s = %v: must be from %v to %v", key, value, low, high)
	}
	return nil
}
