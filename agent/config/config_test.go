package config

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// Goal: the example is the manual: it sets exactly the defaults, names every key, and explains
// each.
func TestExample_IsTheDefaults(t *testing.T) {
	var c Config
	if err := parse(Example(), &c); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(c, Default()) {
		t.Errorf("example sets\n%+v\ndefaults are\n%+v", c, Default())
	}
	var named []string
	table, explained := "", false
	lines := bufio.NewScanner(bytes.NewReader(Example()))
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "["):
			table = strings.Trim(line, "[]") + "."
		case strings.HasPrefix(line, "# "):
			explained = true
		case strings.Contains(line, " = "):
			key := table + strings.Fields(line)[0]
			named = append(named, key)
			if !explained {
				t.Errorf("key %s is not explained", key)
			}
			explained = false
		default:
			explained = false
		}
	}
	if want := keys(reflect.TypeFor[Config](), ""); !reflect.DeepEqual(named, want) {
		t.Errorf("example names\n%v\nkeys are\n%v", named, want)
	}
}

// keys lists the keys of a configuration struct, in order, with their tables.
func keys(typ reflect.Type, table string) []string {
	var out []string
	for f := range typ.Fields() {
		name := f.Tag.Get("toml")
		if name == "-" {
			continue // no key
		}
		if f.Type.Kind() == reflect.Struct {
			out = append(out, keys(f.Type, name+".")...)
		} else {
			out = append(out, table+name)
		}
	}
	return out
}

func TestDefault_IsValid(t *testing.T) {
	c := Default()
	c.Node.Name = "node1"
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
}

// Goal: every bad file gives one line that names file, line and key, and the cause.
func TestLoad_Bad(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string
	}{
		{"unknown key", "data_dir = \"/x\"\n[nfs]\nlissten = \"127.0.0.1:1\"\n", []string{"trinas.toml:3:", `unknown key "nfs.lissten"`}},
		{"unknown table", "\n[nsf]\nlisten = \"127.0.0.1:1\"\n", []string{"trinas.toml:2:", `unknown key "nsf"`}},
		{"bad size", "[log]\nlimit = \"2GB\"\n", []string{"trinas.toml:2:", "log.limit", `"2GB" is no size`}},
		{"bad duration", "[raft]\n\nlease = \"300\"\n", []string{"trinas.toml:3:", "raft.lease", `"300" is no duration`}},
		{"wrong type", "[nfs]\nprivileged_ports = \"yes\"\n", []string{"trinas.toml:2:", "nfs.privileged_ports"}},
		{"syntax", "data_dir = \n", []string{"trinas.toml:1:"}},
		{"twice", "data_dir = \"/a\"\ndata_dir = \"/b\"\n", []string{"trinas.toml", "data_dir"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "trinas.toml")
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Load(path, false)
			if err == nil {
				t.Fatal("accepted")
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %v", err)
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not say %q", err, w)
				}
			}
		})
	}
}

func TestLoad_Absent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.toml")
	if c, err := Load(path, true); err != nil || !reflect.DeepEqual(c, Default()) {
		t.Fatalf("optional: %v", err)
	}
	if _, err := Load(path, false); err == nil || !strings.Contains(err.Error(), path) {
		t.Fatalf("demanded: %v", err)
	}
}

func TestLoad_Overrides(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trinas.toml")
	text := "[log]\nlimit = \"4 GiB\"\n[raft]\nelection = \"2s\"\n[nfs]\nprivileged_ports = false\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Log.Limit, want.Raft.Election, want.NFS.PrivilegedPorts = 4*GiB, Duration(2*time.Second), false
	if c, err := Load(path, false); err != nil || !reflect.DeepEqual(c, want) {
		t.Fatalf("got %+v, %v", c, err)
	}
}

// Goal: nfs.listen is a list, or one string; the list replaces the default.
func TestLoad_Listen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trinas.toml")
	for text, want := range map[string]Addresses{
		`"192.0.2.1:2049"`: {"192.0.2.1:2049"},
		`["127.0.0.1:2049", "192.0.2.1:2049", "[2001:db8::1]:2049"]`: {"127.0.0.1:2049", "192.0.2.1:2049", "[2001:db8::1]:2049"},
		`["192.0.2.1:2049"]`: {"192.0.2.1:2049"},
	} {
		if err := os.WriteFile(path, []byte("[nfs]\nlisten = "+text+"\n[node]\nname = \"n\"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(path, false)
		if err == nil {
			err = c.Validate()
		}
		if err != nil || !reflect.DeepEqual(c.NFS.Listen, want) {
			t.Errorf("%s: %v, %v", text, c.NFS.Listen, err)
		}
	}
}

// Goal: a value that cannot work is refused with the key's name before anything happens.
func TestValidate_Bad(t *testing.T) {
	tests := []struct {
		key string
		set func(*Config)
	}{
		{"data_dir", func(c *Config) { c.DataDir = "var" }},
		{"log_level", func(c *Config) { c.LogLevel = "loud" }},
		{"control.socket", func(c *Config) { c.Control.Socket = "" }},
		{"control.socket", func(c *Config) { c.Control.Socket = "/" + strings.Repeat("x", 107) }},
		{"node.name", func(c *Config) { c.Node.Name = "a b" }},
		{"node.name", func(c *Config) { c.Node.Name = "-a" }},
		{"node.name", func(c *Config) { c.Node.Name = strings.Repeat("a", 64) }},
		{"peer.listen", func(c *Config) { c.Peer.Listen = "node1:7370" }},
		{"metrics.listen", func(c *Config) { c.Metrics.Listen = ":7371" }},
		{"load.interval", func(c *Config) { c.Load.Interval = Duration(time.Minute) }},
		{"peer.advertise", func(c *Config) { c.Peer.Advertise = "0.0.0.0:7370" }},
		{"peer.advertise", func(c *Config) { c.Peer.Advertise = "10.0.0.1" }},
		{"nfs.listen", func(c *Config) { c.NFS.Listen = Addresses{":2049"} }},
		{"nfs.listen", func(c *Config) { c.NFS.Listen = nil }},
		{"nfs.listen", func(c *Config) { c.NFS.Listen = make(Addresses, 17) }},
		{"same port", func(c *Config) { c.NFS.Listen = Addresses{"127.0.0.1:2049", "192.0.2.1:2050"} }},
		{"overlap", func(c *Config) { c.NFS.Listen = Addresses{"127.0.0.1:2049", "127.0.0.1:2049"} }},
		{"overlap", func(c *Config) { c.NFS.Listen = Addresses{"0.0.0.0:2049", "192.0.2.1:2049"} }},
		{"nfs.portmap", func(c *Config) { c.NFS.Portmap = "on" }},
		{"nfs.max_connections", func(c *Config) { c.NFS.MaxConnections = 0 }},
		{"log.limit", func(c *Config) { c.Log.Limit = MiB }},
		{"log.limit", func(c *Config) { c.Log.Segment = GiB }},
		{"log.segment", func(c *Config) { c.Log.Segment = 64*MiB + 1 }},
		{"log.cache", func(c *Config) { c.Log.Cache = 0 }},
		{"log.stuck_after", func(c *Config) { c.Log.StuckAfter = Duration(time.Second) }},
		{"log.stuck_after", func(c *Config) {
			c.Log.StuckAfter, c.Raft.Heartbeat, c.Raft.Election = Duration(2*time.Second), Duration(1500*time.Millisecond), Duration(time.Minute)
		}},
		{"ha.evacuate_after", func(c *Config) { c.HA.EvacuateAfter = Duration(time.Second) }},
		{"ha.return_after", func(c *Config) { c.HA.ReturnAfter = Duration(time.Second) }},
		{"ha.stuck_after", func(c *Config) { c.HA.StuckAfter = Duration(10 * time.Second) }},
		{"checkpoint.interval", func(c *Config) { c.Checkpoint.Interval = 0 }},
		{"raft.heartbeat", func(c *Config) { c.Raft.Heartbeat = 0 }},
		{"raft.election", func(c *Config) { c.Raft.Election = 4 * c.Raft.Heartbeat }},
		{"raft.lease", func(c *Config) { c.Raft.Lease = c.Raft.Election }},
		{"raft.lease", func(c *Config) { c.Raft.Lease = c.Raft.Heartbeat }},
		{"memory.limit", func(c *Config) { c.Memory.Limit = MiB }},
		{"pve.dir", func(c *Config) { c.PVE.Dir = "etc/pve" }},
	}
	for _, tt := range tests {
		c := Default()
		c.Node.Name = "node1"
		tt.set(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), tt.key) {
			t.Errorf("%s: got %v", tt.key, err)
		}
	}
}

func TestAdvertiseAddress(t *testing.T) {
	c := Default()
	c.Peer.Listen = "127.0.0.2:7370"
	if got, err := c.AdvertiseAddress(); err != nil || got != "127.0.0.2:7370" {
		t.Errorf("from listen: %q, %v", got, err)
	}
	c.Peer.Advertise = "192.0.2.1:9"
	if got, err := c.AdvertiseAddress(); err != nil || got != "192.0.2.1:9" {
		t.Errorf("set: %q, %v", got, err)
	}
}

// Goal: an agent without memory.limit takes what its machine can spare, and one with it that.
func TestValidate_MemoryLimit(t *testing.T) {
	for _, tt := range []struct{ machine, want Size }{
		{128 * MiB, 64 * MiB}, {256 * MiB, 64 * MiB}, {GiB, 256 * MiB}, {64 * GiB, 300 * MiB},
	} {
		if got := memoryFor(tt.machine); got != tt.want {
			t.Errorf("machine of %s: %s, want %s", tt.machine, got, tt.want)
		}
	}
	machine, err := machineMemory()
	if err != nil || machine < 64*MiB {
		t.Fatalf("this machine has %s of memory, %v", machine, err)
	}
	c := Default()
	c.Node.Name = "node1"
	if err := c.Validate(); err != nil || c.Memory.Limit != memoryFor(machine) {
		t.Errorf("without a key: %s, %v", c.Memory.Limit, err)
	}
	c.Memory.Limit = 128 * MiB
	if err := c.Validate(); err != nil || c.Memory.Limit != 128*MiB {
		t.Errorf("with 128MiB: %s, %v", c.Memory.Limit, err)
	}
	if n := c.Memory.Share(8, 32*MiB); n != 16<<20 {
		t.Errorf("an eighth of 128MiB is %d", n)
	}
	if n := c.Memory.Share(8, 4*MiB); n != 4<<20 {
		t.Errorf("an eighth of 128MiB, 4MiB at most, is %d", n)
	}
}
