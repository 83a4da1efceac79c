package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"trinas/agent/config"
	"trinas/agent/control"
	"trinas/agent/datadir"
	"trinas/agent/rescue"
	"trinas/nfsgw/nfs3"
)

// testConfig is an agent that keeps everything in a directory of the test.
func testConfig(t *testing.T) config.Config {
	t.Helper()
	dir := t.TempDir()
	c := config.Default()
	c.DataDir = filepath.Join(dir, "data")
	c.Control.Socket = filepath.Join(dir, "c.sock")
	c.Node.Name = "n1"
	c.Peer.Listen = freeAddress(t)
	c.NFS.Listen = config.Addresses{freeAddress(t)}
	c.NFS.Portmap = config.PortmapOff
	c.NFS.PrivilegedPorts = false
	c.Log.Segment = 16 * config.MiB
	c.Web.Listen = ""
	c.PVE.Dir = "" // the tests' own where they have one
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	return c
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// startAgent runs an agent until stop is called, which returns what Run returned.
func startAgent(t *testing.T, c config.Config, adjust ...func(*daemon)) (client *control.Client, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	d := newDaemon(c, "", slog.New(slog.DiscardHandler))
	for _, change := range adjust {
		change(d)
	}
	go func() { ended <- d.Run(ctx) }()
	client = control.NewClient(c.Control.Socket)
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		client.Close()
		cancel()
		return <-ended
	}
	t.Cleanup(func() { stop() })
	return client, stop
}

// testAgent is an agent of a cluster.
type testAgent struct {
	*control.Client
	config config.Config
	stop   func() error
}

// startCluster makes n agents, n1 and so on, one cluster.
func startCluster(t *testing.T, n int, adjust ...func(*daemon)) []testAgent {
	t.Helper()
	var out []testAgent
	for i := range n {
		c := testConfig(t)
		c.Node = config.Node{Name: fmt.Sprintf("n%d", i+1)}
		a := testAgent{config: c}
		a.Client, a.stop = startAgent(t, c, adjust...)
		waitFor(t, a.Client, "waiting", inState(control.Waiting))
		var err error
		if i == 0 {
			_, err = a.Init(t.Context(), "home", "")
		} else {
			var inv control.Invitation
			if inv, err = out[0].Token(t.Context()); err == nil {
				err = a.Join(t.Context(), "", inv.Address, inv.Token)
			}
		}
		if err != nil {
			t.Fatalf("%s: %v", c.Node.Name, err)
		}
		waitFor(t, a.Client, "running", inState(control.Running))
		out = append(out, a)
	}
	return out
}

// waitFor asks for the status until it is as wanted.
func waitFor(t *testing.T, client *control.Client, what string, wanted func(control.Status) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for ; ; time.Sleep(20 * time.Millisecond) {
		st, err := client.Status(ctx)
		if err == nil && wanted(st) {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("no %s in time: %+v, %v", what, st, err)
		}
	}
}

func inState(state string) func(control.Status) bool {
	return func(st control.Status) bool { return st.Agent.State == state }
}

// Goal: an agent without a cluster waits, becomes one's first node without a restart, serves a
// volume over NFS, keeps it over a restart, holds its data directory alone, and leaves a directory
// that rescue reads. Method: a whole agent, asked by the command line's client and an NFS client.
func TestDaemon_Life(t *testing.T) {
	c := testConfig(t)
	ctx := t.Context()
	client, stop := startAgent(t, c)
	waitFor(t, client, "waiting", inState(control.Waiting))
	if _, err := client.Token(ctx); err == nil || !strings.Contains(err.Error(), "trinas init") {
		t.Errorf("token without a cluster: %v", err)
	}
	if _, err := client.Init(ctx, "home", "bad name"); err == nil || !strings.Contains(err.Error(), "name of the node") {
		t.Errorf("bad name: %v", err)
	}
	inv, err := client.Init(ctx, "home", "")
	if err != nil || !strings.HasPrefix(inv.Command, "trinas join "+c.Peer.Listen+" --token ") {
		t.Fatalf("init: %+v, %v", inv, err)
	}
	waitFor(t, client, "running", inState(control.Running))
	if _, err := client.Init(ctx, "again", ""); err == nil || !strings.Contains(err.Error(), "belongs to cluster home already, as n1") {
		t.Errorf("second init: %v", err)
	}
	if _, err := client.CreateVolume(ctx, "vm", 1); err != nil {
		t.Fatal(err)
	}
	writeFile(t, c.NFS.Listen[0], "hello")

	err = newDaemon(c, "", slog.New(slog.DiscardHandler)).Run(ctx)
	if !errors.Is(err, datadir.ErrInUse) {
		t.Errorf("second agent on the directory: %v", err)
	}
	if err := stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if _, err := os.Stat(c.Control.Socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
	copied := rescued(t, c.DataDir)
	if copied != "hello" {
		t.Errorf("rescue copied %q", copied)
	}

	client, stop = startAgent(t, c)
	waitFor(t, client, "volume with a primary", func(st control.Status) bool {
		return st.Agent.State == control.Running && len(st.Volumes) == 1 && st.Volumes[0].Primary == "n1"
	})
	if err := stop(); err != nil {
		t.Errorf("second stop: %v", err)
	}
}

// Goal: an address for other hosts is served beside the node's own, also when no
// interface has it yet.
func TestDaemon_FurtherAddress(t *testing.T) {
	c := testConfig(t)
	port := netip.MustParseAddrPort(c.NFS.Listen[0]).Port()
	c.NFS.Listen = append(c.NFS.Listen, fmt.Sprintf("192.0.2.1:%d", port))
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	client, _ := startAgent(t, c)
	waitFor(t, client, "waiting", inState(control.Waiting))
	if _, err := client.Init(t.Context(), "home", ""); err != nil {
		t.Fatal(err)
	}
	waitFor(t, client, "both addresses", func(st control.Status) bool {
		return len(strings.Split(st.Agent.NFS, ",")) == 2 && strings.HasPrefix(st.Agent.NFS, c.NFS.Listen[0])
	})
}

func writeFile(t *testing.T, addr, text string) {
	t.Helper()
	nfs, err := nfs3.Dial(t.Context(), addr, "test", false)
	if err != nil {
		t.Fatal(err)
	}
	defer nfs.Close()
	root, err := nfs.Mnt(t.Context(), "/vm")
	if err != nil {
		t.Fatal(err)
	}
	file, err := nfs.Create(t.Context(), root, "file", 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := nfs.Write(t.Context(), file, 0, []byte(text), nfs3.FileSync); err != nil {
		t.Fatal(err)
	}
}

func rescued(t *testing.T, dir string) string {
	t.Helper()
	s, err := rescue.Open(dir, rescue.Options{Log: slog.New(slog.DiscardHandler), Scratch: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	v, err := s.Volume("vm")
	if err != nil {
		t.Fatal(err)
	}
	dest := filepath.Join(t.TempDir(), "copy")
	if err := (&rescue.Copier{Volume: v}).Copy(t.Context(), "file", dest); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(dest)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Goal: an agent that cannot start says why in one line and leaves nothing behind.
func TestDaemon_CannotStart(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	c := testConfig(t)
	c.NFS.Listen = config.Addresses{taken.Addr().String()}
	err = newDaemon(c, "", slog.New(slog.DiscardHandler)).Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "nfs.listen") || strings.Contains(err.Error(), "\n") {
		t.Errorf("port taken: %v", err)
	}
	lock, err := datadir.Exclusive(c.DataDir)
	if err != nil {
		t.Fatalf("the directory is still held: %v", err)
	}
	lock.Release()

	c = testConfig(t)
	err = newDaemon(c, "0.0.0.0:0", slog.New(slog.DiscardHandler)).Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("profiles for everybody: %v", err)
	}
}

// runCLI runs the command line as a user would.
func runCLI(t *testing.T, args ...string) (out string, err error) {
	t.Helper()
	var b bytes.Buffer
	cmd := newCommand(&b, io.Discard)
	cmd.SetArgs(args)
	err = cmd.ExecuteContext(t.Context())
	return b.String(), err
}

// Goal: commands print what they promise, and refuse in one line.
func TestCommand(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "none.sock")
	if out, err := runCLI(t, "agent", "--example"); err != nil || out != string(config.Example()) {
		t.Errorf("example: %v", err)
	}
	if out, err := runCLI(t, "version", "--json"); err != nil || !strings.Contains(out, `"version"`) {
		t.Errorf("version: %q, %v", out, err)
	}
	if out, err := runCLI(t, "completion", "bash"); err != nil || !strings.Contains(out, "__start_trinas") {
		t.Errorf("completion: %v", err)
	}
	refused := []struct {
		args []string
		say  string
	}{
		{[]string{"status", "--socket", socket}, "no agent answers at " + socket},
		{[]string{"volume", "delete", "vm"}, "--yes"},
		{[]string{"volume", "create"}, "arg"},
		{[]string{"join", "10.0.0.1:7370"}, "token"},
		{[]string{"nothing"}, "unknown command"},
		{[]string{"volume", "nothing"}, "unknown command"},
		{[]string{"status", "--nothing"}, "unknown flag"},
		{[]string{"agent", "--config", socket}, "read configuration"},
		{[]string{"agent", "--data-dir", "relative"}, "data_dir"},
		{[]string{"agent", "--log-level", "loud"}, "log_level"},
		{[]string{"rescue", "list", filepath.Dir(socket)}, "no data directory of trinas"},
		{[]string{"rescue", "list", "--uncommitted", "--without-log", "/x"}, "uncommitted"},
	}
	for _, tt := range refused {
		_, err := runCLI(t, tt.args...)
		if err == nil || !strings.Contains(err.Error(), tt.say) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v: %v, want one line with %q", tt.args, err, tt.say)
		}
	}
}
