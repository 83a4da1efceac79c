package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"trinas/agent/control"
	"trinas/agent/pve"
	"trinas/replica"
)

// proxmox is a folder made as Proxmox's cluster file system is.
func proxmox(t *testing.T, nodes ...string) string {
	t.Helper()
	d := t.TempDir()
	for _, n := range nodes {
		if err := os.MkdirAll(filepath.Join(d, "nodes", n), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(d, "priv"), 0o700); err != nil {
		t.Fatal(err)
	}
	return d
}

// fakeCluster counts the tokens that it makes.
type fakeCluster struct {
	st     replica.Status
	tokens []string
	err    error
}

func (f *fakeCluster) Status(context.Context) replica.Status { return f.st }

func (f *fakeCluster) NewToken(_ context.Context, node string) (string, error) {
	f.tokens = append(f.tokens, node)
	return fmt.Sprintf("token %d", len(f.tokens)), f.err
}

// Goal: the leader, and nobody else, keeps one good invitation for each node of Proxmox that is no
// member: made once, renewed before it ends, withdrawn when the node has arrived. Another cluster's
// is left alone while it is good.
func TestInviter(t *testing.T) {
	dir := pve.Dir(proxmox(t, "pve1", "pve2", "pve3"))
	i := &inviter{dir: dir, log: slog.New(slog.DiscardHandler)}
	f := &fakeCluster{st: replica.Status{
		Cluster: replica.ClusterStatus{ID: "0a", Name: "office"},
		Node:    replica.NodeStatus{Name: "pve1"},
		Nodes:   []replica.NodeStatus{{Name: "pve1", Address: "192.0.2.1:7370"}},
	}}
	now := time.Now()
	keep := func(after time.Duration, tokens string, invited string) {
		t.Helper()
		f.tokens = nil
		if err := i.keep(t.Context(), f, now.Add(after)); err != nil {
			t.Fatal(err)
		}
		names, err := dir.Invited()
		if err != nil || fmt.Sprint(f.tokens) != tokens || fmt.Sprint(names) != invited {
			t.Errorf("after %s: tokens for %v, want %s; invited %v, want %s (%v)", after, f.tokens, tokens, names, invited, err)
		}
	}
	keep(0, "[]", "[]") // nobody leads
	f.st.Cluster.Primary = "pve9"
	keep(0, "[]", "[]")
	f.st.Cluster.Primary = "pve1"
	keep(0, "[pve2 pve3]", "[pve2 pve3]")
	if inv, err := dir.Invitation("pve2"); err != nil || inv.Cluster != "0a" || inv.Token != "token 1" ||
		fmt.Sprint(inv.Addresses) != "[192.0.2.1:7370]" || !inv.Expires.Equal(now.Add(time.Hour)) {
		t.Errorf("invitation %+v, %v", inv, err)
	}
	keep(39*time.Minute, "[]", "[pve2 pve3]")
	keep(41*time.Minute, "[pve2 pve3]", "[pve2 pve3]")

	// One that is on its way is still invited, in case it breaks off; one that has arrived is not.
	f.st.Nodes = append(f.st.Nodes, replica.NodeStatus{Name: "PVE2", Address: "192.0.2.2:7370", Joining: true})
	keep(42*time.Minute, "[]", "[pve2 pve3]")
	f.st.Nodes[1].Joining = false
	keep(42*time.Minute, "[pve3]", "[pve3]") // anew: there is one more address to ask

	// Taken out of Proxmox.
	if err := os.Remove(filepath.Join(string(dir), "nodes", "pve3")); err != nil {
		t.Fatal(err)
	}
	keep(43*time.Minute, "[]", "[]")

	// Another cluster's, good, then ended.
	if err := os.Mkdir(filepath.Join(string(dir), "nodes", "pve4"), 0o755); err != nil {
		t.Fatal(err)
	}
	other := pve.Invitation{Cluster: "0b", ClusterName: "other", Node: "pve4", Token: "theirs", Expires: now.Add(time.Hour)}
	if err := dir.Invite(other); err != nil {
		t.Fatal(err)
	}
	if err := i.keep(t.Context(), f, now); err == nil || !strings.Contains(err.Error(), `another cluster, "other"`) || !strings.Contains(err.Error(), "pve4.json") {
		t.Errorf("another cluster's: %v", err)
	}
	if inv, err := dir.Invitation("pve4"); err != nil || inv.Token != "theirs" {
		t.Errorf("another cluster's invitation is gone: %+v, %v", inv, err)
	}
	keep(61*time.Minute, "[pve4]", "[pve4]")

	// A new cluster takes over what is not its own.
	if err := errors.Join(dir.Invite(other), i.takeOver("0a")); err != nil {
		t.Fatal(err)
	}
	if names, _ := dir.Invited(); names != nil {
		t.Errorf("after the take-over: %v", names)
	}
	if keep(0, "[pve4]", "[pve4]"); i.takeOver("0a") != nil {
		t.Error("take-over")
	}
	if names, _ := dir.Invited(); fmt.Sprint(names) != "[pve4]" {
		t.Errorf("its own: %v", names)
	}
}

// Goal: an agent tries its invitation at every address, not over and over, and neither an ended one
// nor one that was never made for it.
func TestInvitee(t *testing.T) {
	dir := pve.Dir(proxmox(t, "pve1", "pve2"))
	var asked []string
	var answer error
	v := &invitee{dir: dir, name: "pve2", log: slog.New(slog.DiscardHandler), join: func(_ context.Context, address, token string) error {
		asked = append(asked, address+" "+token)
		if address == "b" {
			return answer
		}
		return errors.New("nobody there")
	}}
	now := time.Now()
	accept := func(after time.Duration, member bool, want string) {
		t.Helper()
		asked = nil
		if got := v.accept(t.Context(), now.Add(after)); got != member || fmt.Sprint(asked) != want {
			t.Errorf("after %s: member %v, asked %v; want %v, %s", after, got, asked, member, want)
		}
	}
	invite := func(token string, expires time.Duration) {
		t.Helper()
		if err := dir.Invite(pve.Invitation{Cluster: "0a", Node: "pve2", Addresses: []string{"a", "b"}, Token: token, Expires: now.Add(expires)}); err != nil {
			t.Fatal(err)
		}
	}
	accept(0, false, "[]")
	if err := dir.Invite(pve.Invitation{Node: "pve1", Addresses: []string{"b"}, Expires: now.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	accept(0, false, "[]") // another node's
	answer = errors.New("no majority")
	invite("one", time.Hour)
	accept(0, false, "[a one b one]")
	accept(30*time.Second, false, "[]") // not over and over
	accept(61*time.Second, false, "[a one b one]")
	invite("two", time.Hour)
	accept(62*time.Second, false, "[a two b two]") // a new one at once
	accept(2*time.Hour, false, "[]")               // ended
	if !strings.Contains(v.said, "ended at") {
		t.Errorf("said %q", v.said)
	}
	answer = nil
	invite("three", time.Hour)
	accept(0, true, "[a three b three]")
	answer = &control.Error{Text: "belongs already"}
	accept(2*time.Minute-time.Second, true, "[a three b three]")
}

// Goal: after trinas init on one node of Proxmox the others join by themselves, past the invitations
// of a former cluster; nothing is left in Proxmox's file system, and it is shown to nobody.
func TestDaemon_JoinsByItself(t *testing.T) {
	dir := proxmox(t, "n1", "n2", "n3")
	var clients []*control.Client
	for _, name := range []string{"n1", "n2", "n3"} {
		c := testConfig(t)
		c.Node.Name, c.PVE.Dir = name, dir
		client, _ := startAgent(t, c)
		waitFor(t, client, "waiting", inState(control.Waiting))
		clients = append(clients, client)
	}
	// What a former cluster left: addresses where nobody is, a token of nobody.
	stale := pve.Invitation{Cluster: "0b", Node: "n2", Addresses: []string{freeAddress(t)}, Token: "trinas1.00.00", Expires: time.Now().Add(time.Hour)}
	if err := pve.Dir(dir).Invite(stale); err != nil {
		t.Fatal(err)
	}
	if _, err := clients[0].Init(t.Context(), "home", ""); err != nil {
		t.Fatal(err)
	}
	for i, client := range clients {
		waitFor(t, client, fmt.Sprintf("membership of n%d", i+1), func(st control.Status) bool {
			return st.Agent.State == control.Running && len(st.Nodes) == 3
		})
	}
	waitFor(t, clients[0], "withdrawal of the invitations", func(control.Status) bool {
		left, err := pve.Dir(dir).Invited()
		return err == nil && left == nil
	})
	if v, err := clients[1].CreateVolume(t.Context(), "vm", 3); err != nil {
		t.Errorf("a volume on all: %+v, %v", v, err)
	}
}
