package main

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"trinas/agent/config"
	"trinas/agent/control"
)

// Goal: an agent that starts does not say READY to systemd while its cluster has no majority, although it answers
// on its socket, and does when the others come. Method: real agents; systemd is a socket of the test's.
func TestDaemon_ReadyWhenServing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer systemd.Close()
	// ready waits for READY so long.
	ready := func(wait time.Duration) bool {
		t.Helper()
		if err := systemd.SetReadDeadline(time.Now().Add(wait)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 4096)
		for {
			n, err := systemd.Read(b)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return false
			}
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(b[:n]), "READY=1") {
				return true
			}
		}
	}
	var configs []config.Config
	var agents []*control.Client
	var stops []func() error
	for _, name := range []string{"n1", "n2", "n3"} {
		c := testConfig(t)
		c.Node = config.Node{Name: name, Given: true}
		agent, stop := startAgent(t, c)
		waitFor(t, agent, "waiting", inState(control.Waiting))
		configs, agents, stops = append(configs, c), append(agents, agent), append(stops, stop)
	}
	if _, err := agents[0].Init(t.Context(), "home", ""); err != nil {
		t.Fatal(err)
	}
	for _, agent := range agents[1:] {
		inv, err := agents[0].Token(t.Context())
		if err == nil {
			err = agent.Join(t.Context(), "", inv.Address, inv.Token)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := agents[0].CreateVolume(t.Context(), "vms", 0); err != nil {
		t.Fatal(err)
	}
	for _, stop := range stops {
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("NOTIFY_SOCKET", path)
	agent, _ := startAgent(t, configs[0])
	waitFor(t, agent, "running", inState(control.Running))
	if ready(2 * time.Second) {
		t.Error("READY without a majority")
	}
	startAgent(t, configs[1])
	for range 2 {
		if !ready(20 * time.Second) {
			t.Fatal("no READY of each, and two of three nodes are there")
		}
	}
}
