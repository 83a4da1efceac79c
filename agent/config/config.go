// Package config holds the agent's configuration: the keys, their defaults, and what makes a
// value acceptable. It must never touch anything but the file it reads: every check is made
// before the agent has any effect.
//
// Floor 0: imports nothing of trinas.
package config

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
)

// Path is where the agent looks for its configuration when it is not told otherwise.
const Path = "/etc/trinas/trinas.toml"

// Socket is where the control API listens, and where the command line looks for it.
const Socket = "/run/trinas/control.sock"

// PeerPort is the port of peer.listen where it is not configured.
const PeerPort = "7370"

//go:embed trinas.toml
var example []byte

// Example is the example file: every key with its default, its unit and what it does.
func Example() []byte { return bytes.Clone(example) }

// Config is the agent's configuration. The example file explains each key.
type Config struct {
	DataDir    string     `toml:"data_dir"`
	LogLevel   string     `toml:"log_level"`
	Control    Control    `toml:"control"`
	Node       Node       `toml:"node"`
	Peer       Peer       `toml:"peer"`
	NFS        NFS        `toml:"nfs"`
	Log        Log        `toml:"log"`
	Checkpoint Checkpoint `toml:"checkpoint"`
	Resync     Resync     `toml:"resync"`
	Placement  Placement  `toml:"placement"`
	Verify     Verify     `toml:"verify"`
	Raft       Raft       `toml:"raft"`
	Memory     Memory     `toml:"memory"`
	Load       Sampling   `toml:"load"`
	Metrics    Metrics    `toml:"metrics"`
	PVE        PVE        `toml:"pve"`
	Web        Web        `toml:"web"`
	HA         HA         `toml:"ha"`
}

// Control is the table [control].
type Control struct {
	Socket string `toml:"socket"`
}

// Node is the table [node].
type Node struct {
	Name string `toml:"name"` // "": the host's name up to the first dot

	Given bool `toml:"-"` // set by Validate: the name was configured, not found out
}

// Peer is the table [peer].
type Peer struct {
	Listen    string `toml:"listen"`
	Advertise string `toml:"advertise"` // "": found out by AdvertiseAddress
}

// NFS is the table [nfs].
type NFS struct {
	Listen          Addresses `toml:"listen"`
	PrivilegedPorts bool      `toml:"privileged_ports"`
	Portmap         string    `toml:"portmap"` // PortmapAuto or PortmapOff
	MaxConnections  int       `toml:"max_connections"`
}

// What nfs.portmap may be.
const (
	PortmapAuto = "auto"
	PortmapOff  = "off"
)

// Log is the table [log]: the write-ahead log. Sizes are bytes.
type Log struct {
	Limit   Size `toml:"limit"`
	Segment Size `toml:"segment"`
	Cache   Size `toml:"cache"`

	StuckAfter Duration `toml:"stuck_after"`
}

// Checkpoint is the table [checkpoint].
type Checkpoint struct {
	Interval Duration `toml:"interval"`
}

// Resync is the table [resync]. Rate is bytes per second; 0: no bound.
type Resync struct {
	Rate Size `toml:"rate"`
}

// Placement is the table [placement]. ReplaceAfter 0: never.
type Placement struct {
	ReplaceAfter Duration `toml:"replace_after"`
}

// Verify is the table [verify]. Interval 0: never by schedule. Rate is bytes per second; 0: no bound.
type Verify struct {
	Interval Duration `toml:"interval"`
	Rate     Size     `toml:"rate"`
	Repair   bool     `toml:"repair"`
}

// Raft is the table [raft].
type Raft struct {
	Heartbeat Duration `toml:"heartbeat"`
	Election  Duration `toml:"election"`
	Lease     Duration `toml:"lease"`
}

// Memory is the table [memory]. Limit is bytes; 0: Validate sets it by the machine's memory.
type Memory struct {
	Limit Size `toml:"limit"`
}

// Sampling is the table [load].
type Sampling struct {
	Interval Duration `toml:"interval"`
}

// Metrics is the table [metrics]. Listen "": not served.
type Metrics struct {
	Listen string `toml:"listen"`
}

// Web is the table [web]. Listen "": no web page.
type Web struct {
	Listen string `toml:"listen"`
}

// PVE is the table [pve]. Dir "": Proxmox is left alone.
type PVE struct {
	Dir string `toml:"dir"`
}

// HA is the table [ha]: what the agent may tell Proxmox HA, and do to its guests.
type HA struct {
	Evacuate      bool     `toml:"evacuate"`
	EvacuateAfter Duration `toml:"evacuate_after"`
	ReturnAfter   Duration `toml:"return_after"`
	KillStuck     bool     `toml:"kill_stuck"`
	StuckAfter    Duration `toml:"stuck_after"`
}

// Default returns the configuration of an agent without a file.
func Default() Config {
	return Config{
		DataDir:    "/var/lib/trinas",
		LogLevel:   "info",
		Control:    Control{Socket: Socket},
		Peer:       Peer{Listen: "0.0.0.0:" + PeerPort},
		NFS:        NFS{Listen: Addresses{"127.0.0.1:2049"}, PrivilegedPorts: true, Portmap: PortmapAuto, MaxConnections: 2048},
		Log:        Log{Limit: 2 * GiB, Segment: 64 * MiB, Cache: 32 * MiB, StuckAfter: Duration(5 * time.Second)},
		Checkpoint: Checkpoint{Interval: Duration(time.Minute)},
		Resync:     Resync{Rate: 256 * MiB},
		Verify:     Verify{Interval: Duration(7 * 24 * time.Hour), Rate: 32 * MiB, Repair: true},
		Raft: Raft{
			Heartbeat: Duration(100 * time.Millisecond),
			Election:  Duration(time.Second),
			Lease:     Duration(300 * time.Millisecond),
		},
		Load: Sampling{Interval: Duration(3 * time.Second)},
		PVE:  PVE{Dir: "/etc/pve"},
		Web:  Web{Listen: "127.0.0.1:7372"},
		HA: HA{EvacuateAfter: Duration(30 * time.Second), ReturnAfter: Duration(10 * time.Minute),
			StuckAfter: Duration(time.Minute)},
	}
}

// Load reads the file at path over the defaults. With optional, a file that is not there gives
// the defaults. The caller overrides keys as it likes, then calls Validate.
func Load(path string, optional bool) (Config, error) {
	c := Default()
	b, err := os.ReadFile(path)
	if err != nil {
		if optional && errors.Is(err, fs.ErrNotExist) {
			return c, nil
		}
		return c, fmt.Errorf("read configuration: %w", err)
	}
	if err := parse(b, &c); err != nil {
		return c, fmt.Errorf("%s%w", path, err)
	}
	return c, nil
}

// parse decodes b over c. Its errors begin with ":line: key: " (or ": " when there is no place).
func parse(b []byte, c *Config) error {
	err := toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields().Decode(c)
	if err == nil {
		return nil
	}
	if missing := (*toml.StrictMissingError)(nil); errors.As(err, &missing) && len(missing.Errors) > 0 {
		first := missing.Errors[0]
		line, _ := first.Position()
		return fmt.Errorf(":%d: unknown key %q: correct it or remove the line (known keys: trinas agent --example)",
			line, strings.Join(first.Key(), "."))
	}
	if at := (*toml.DecodeError)(nil); errors.As(err, &at) {
		line, _ := at.Position()
		text := strings.TrimPrefix(at.Error(), "toml: ")
		if key := strings.Join(at.Key(), "."); key != "" {
			return fmt.Errorf(":%d: %s: %s", line, key, text)
		}
		return fmt.Errorf(":%d: %s", line, text)
	}
	return fmt.Errorf(": %w", err)
}
