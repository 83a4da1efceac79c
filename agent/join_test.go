package main

import (
	"net"
	"os"
	"strings"
	"testing"

	"trinas/agent/config"
	"trinas/agent/control"
)

// Goal: a join that cannot work is refused in one line by whole agents, with real connections; the
// agent then joins without a restart, its token not used up, and nothing of the attempts is left.
func TestDaemon_BadJoins(t *testing.T) {
	ctx := t.Context()
	first := testConfig(t)
	one, _ := startAgent(t, first)
	waitFor(t, one, "waiting", inState(control.Waiting))
	inv, err := one.Init(ctx, "home", "")
	if err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	plain, _, _ := net.SplitHostPort(first.Peer.Listen)
	web := freeAddress(t)
	tests := []struct {
		what, name, address, token string
		adjust                     func(*config.Config)
		say                        []string
	}{
		{"nobody listens", "", web, inv.Token, nil, []string{web, "refused", "not running"}},
		{"no port, and nobody at the usual one", "", plain + "9.invalid", inv.Token, nil, []string{":7370", "IP address"}},
		{"NFS port", "", first.NFS.Listen[0], inv.Token, nil, []string{"no trinas agent", "trinas status"}},
		{"wrong token", "", inv.Address, strings.Replace(inv.Token, inv.Token[8:16], "00000000", 1), nil, []string{"token is wrong", "trinas token"}},
		{"another cluster's token", "", inv.Address, inv.Token[:len(inv.Token)-4] + "0000", nil, []string{"another cluster", "trinas token"}},
		{"name of a member", "n1", inv.Address, inv.Token, nil, []string{`"n1"`, "member already", "--node"}},
		{"peer port taken", "", inv.Address, inv.Token, func(c *config.Config) { c.Peer.Listen = taken.Addr().String() },
			[]string{"peer.listen", "in use", "trinas check"}},
		{"address of a member", "", inv.Address, inv.Token, func(c *config.Config) { c.Peer.Advertise = first.Peer.Listen },
			[]string{"own address"}},
		{"cannot be reached", "", inv.Address, inv.Token, func(c *config.Config) { c.Peer.Advertise = web },
			[]string{"cannot connect back to " + web, "firewall", "peer.advertise"}},
	}
	var last config.Config
	for _, tt := range tests {
		last = testConfig(t)
		last.Node = config.Node{Name: "n2"} // not Given: --node may say another
		if tt.adjust != nil {
			tt.adjust(&last)
		}
		two, stop := startAgent(t, last)
		waitFor(t, two, "waiting", inState(control.Waiting))
		err := two.Join(ctx, tt.name, tt.address, tt.token)
		if err == nil {
			t.Fatalf("%s: joined", tt.what)
		}
		for _, w := range tt.say {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q does not say %q", tt.what, err, w)
			}
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: more than one line: %q", tt.what, err)
		}
		if left, err := os.ReadDir(last.DataDir); err != nil || len(left) != 0 {
			t.Errorf("%s: left behind: %v, %v", tt.what, left, err)
		}
		if st, err := one.Status(ctx); err != nil || len(st.Nodes) != 1 {
			t.Errorf("%s: the cluster counts %+v, %v", tt.what, st.Nodes, err)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	}

	last = testConfig(t)
	last.Node = config.Node{Name: "n2"}
	two, _ := startAgent(t, last)
	waitFor(t, two, "waiting", inState(control.Waiting))
	if err := two.Join(ctx, "", web, inv.Token); err == nil {
		t.Fatal("joined nobody")
	}
	if err := two.Join(ctx, "", inv.Address, inv.Token); err != nil {
		t.Fatalf("the agent that failed to join cannot join: %v", err)
	}
	waitFor(t, two, "running", inState(control.Running))
	if st, err := one.Status(ctx); err != nil || len(st.Nodes) != 2 || st.Nodes[1].Joining {
		t.Errorf("the cluster counts %+v, %v", st.Nodes, err)
	}
	if err := two.Join(ctx, "", inv.Address, inv.Token); err == nil || !strings.Contains(err.Error(), "belongs to cluster home already, as n2") {
		t.Errorf("a member joins again: %v", err)
	}

	third := testConfig(t)
	third.Node = config.Node{Name: "n3"}
	three, _ := startAgent(t, third)
	waitFor(t, three, "waiting", inState(control.Waiting))
	if err := three.Join(ctx, "", inv.Address, inv.Token); err == nil || !strings.Contains(err.Error(), `used already, by node "n2"`) {
		t.Errorf("used token: %v", err)
	}
}
