package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"trinas/agent/load"
	"trinas/replica"
	"trinas/replica/volume"
)

// fakeNode is an agent with or without a cluster, which notes what it was asked.
type fakeNode struct {
	member bool
	asked  []string
	err    error
	peers  []replica.PeerProbe
	block  chan struct{} // when set, requests for a token wait for it or their context
}

func (f *fakeNode) Web() (WebLogin, error) { return WebLogin{Token: "T"}, nil }

func (f *fakeNode) Events(_ context.Context, since time.Time) Events {
	return Events{Events: []Event{{Nodes: []string{since.UTC().Format(time.RFC3339Nano)}}}}
}

func (f *fakeNode) Ask(_ context.Context, node, topic string, body []byte) ([]byte, error) {
	if topic == RebuildTopic {
		f.note("%s on %s: %s", topic, node, body)
	}
	return fmt.Appendf(nil, `{"node":%q,"topic":%q,"body":%s}`, node, topic, body), nil
}

func (f *fakeNode) note(format string, a ...any) {
	f.asked = append(f.asked, fmt.Sprintf(format, a...))
}

func (f *fakeNode) About() About {
	return About{Version: "1.2", State: Running, PID: 7, NFS: "192.0.2.1:2050,127.0.0.1:2050"}
}

func (f *fakeNode) ClusterID() string { return "c" }

func (f *fakeNode) Cluster() (Cluster, error) {
	if !f.member {
		return nil, replica.ErrNoIdentity
	}
	return f, nil
}

func (f *fakeNode) Init(_ context.Context, cluster, node string) (Invitation, error) {
	f.note("init %s %s", cluster, node)
	return Invitation{Token: "tok"}, f.err
}

func (f *fakeNode) Load(history time.Duration) (Load, error) {
	f.note("load %s", history)
	if !f.member {
		return Load{}, replica.ErrNoIdentity
	}
	return Load{Nodes: []NodeLoad{{Node: "n1", Self: true, Load: &load.Report{CPUPercent: 12.5}}}}, f.err
}

func (f *fakeNode) Join(_ context.Context, node, address, token string) error {
	f.note("join %s %s %s", node, address, token)
	return f.err
}

func (f *fakeNode) Status(context.Context) replica.Status {
	return replica.Status{
		Node:    replica.NodeStatus{ID: 1, Name: "n1", Address: "10.0.0.1:7370"},
		Nodes:   []replica.NodeStatus{{ID: 1, Name: "n1"}, {ID: 2, Name: "n2"}, {ID: 3, Name: "n3", Joining: true}},
		Volumes: []replica.VolumeStatus{{ID: 9, Name: "vm", Primary: "n1", UsedBytes: 1 << 50}},
	}
}

func (f *fakeNode) Probe(context.Context) replica.Probe {
	return replica.Probe{Peers: []replica.PeerProbe{{Node: "n2", RoundTrip: time.Millisecond}}}
}

func (f *fakeNode) Present(context.Context) []replica.PeerProbe { return f.peers }

func (f *fakeNode) NewToken(ctx context.Context, _ string) (string, error) {
	if f.block != nil {
		select {
		case <-f.block:
		case <-ctx.Done():
			return "", fmt.Errorf("write to the cluster's log: %w", ctx.Err())
		}
	}
	return "secret", f.err
}

func (f *fakeNode) CreateVolume(_ context.Context, name string, replicas int) (replica.VolumeStatus, error) {
	f.note("create %s %d", name, replicas)
	return replica.VolumeStatus{Name: name}, f.err
}

func (f *fakeNode) DeleteVolume(_ context.Context, name string) error {
	f.note("delete %s", name)
	return f.err
}

func (f *fakeNode) Transfer(_ context.Context, volume, node string) error {
	f.note("transfer %s %s", volume, node)
	return f.err
}

func (f *fakeNode) MoveVolume(_ context.Context, volume, from, to string) error {
	f.note("move %s %s %s", volume, from, to)
	return f.err
}

func (f *fakeNode) Verify(_ context.Context, volume string, req replica.VerifyRequest) error {
	f.note("verify %s %v", volume, req)
	return f.err
}

func (f *fakeNode) RebuildReplica(_ context.Context, volume string, discard bool) error {
	f.note("rebuild %s %t", volume, discard)
	return f.err
}

func (f *fakeNode) RetryReplica(_ context.Context, volume string) error {
	f.note("retry %s", volume)
	return f.err
}

func (f *fakeNode) RemoveNode(_ context.Context, node string) error {
	f.note("remove %s", node)
	return f.err
}

func (f *fakeNode) ReplaceToken(_ context.Context, node string) (string, error) {
	f.note("replace %s", node)
	return "secret", f.err
}

func (f *fakeNode) Service(_ context.Context, volume string) (replica.Service, error) {
	f.note("service %s", volume)
	return replica.Service{Cluster: "c", ID: 9, Volume: volume, Serving: true}, f.err
}

func (f *fakeNode) AwaitService(_ context.Context, volume string) (replica.Service, error) {
	f.note("await %s", volume)
	if volume == "none" && !slices.Contains(f.asked, "create none 0") {
		return replica.Service{}, fmt.Errorf("volume %q: %w", volume, replica.ErrNoVolume)
	}
	return replica.Service{Cluster: "c", ID: 9, Volume: volume, Serving: true}, f.err
}

func (f *fakeNode) Claim(_ context.Context, volume, path string) (bool, error) {
	f.note("activate %s %s", volume, path)
	return true, f.err
}

func (f *fakeNode) MakeFolders(_ context.Context, volume string, paths []string) error {
	f.note("folders %s %s", volume, paths)
	return f.err
}

func (f *fakeNode) Deactivate(_ context.Context, volume, path string) error {
	f.note("deactivate %s %s", volume, path)
	return f.err
}

func (f *fakeNode) Images(string) ([]replica.Image, error) {
	return []replica.Image{{Path: "images/100/vm-100-disk-0.raw", Writers: []string{"n1"}, Barred: []string{"n2"}}}, nil
}

// Do answers for a volume with one image.
func (f *fakeNode) Do(_ context.Context, _ volume.ID, op *volume.Op, res *volume.Result) error {
	names := map[volume.FileID]string{volume.RootID: "images", 2: "100", 3: "vm-100-disk-0.raw"}
	attr := volume.Attr{File: op.File + 1, Gen: 1, Type: volume.Directory}
	if op.File == 3 {
		attr.Type, attr.SizeBytes = volume.Regular, 1<<30
	}
	*res = volume.Result{EOF: true, Obj: volume.Change{Known: true, After: attr},
		Entries: []volume.DirEntry{{Name: names[op.File], Cookie: 3, Attr: attr}}}
	return nil
}

func (f *fakeNode) Allow(_ context.Context, name string, r volume.Rule) error {
	f.note("allow %s %v", name, r)
	return f.err
}

func (f *fakeNode) Deny(_ context.Context, name string, client netip.Prefix) error {
	f.note("deny %s %v", name, client)
	return f.err
}

// start serves f on a socket of its own and returns a client and the socket's path.
func start(t *testing.T, f *fakeNode) (*Client, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "run", "c.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	s := Serve(l, f, slog.New(slog.DiscardHandler))
	c := NewClient(path)
	t.Cleanup(func() {
		c.Close()
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is left behind: %v", err)
		}
	})
	return c, path
}

// Goal: each request of the client reaches the node as it was meant, and its answer comes back.
func TestControl_Requests(t *testing.T) {
	f := &fakeNode{member: true}
	c, path := start(t, f)
	ctx := t.Context()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", info.Mode(), err)
	}
	st, err := c.Status(ctx)
	if err != nil || st.Agent.PID != 7 || st.Node.Name != "n1" || st.Volumes[0].UsedBytes != 1<<50 {
		t.Errorf("status: %+v, %v", st, err)
	}
	if inv, err := c.Init(ctx, "home", "n1"); err != nil || inv.Token != "tok" {
		t.Errorf("init: %+v, %v", inv, err)
	}
	if err := c.Join(ctx, "n2", "10.0.0.1:7370", "t"); err != nil {
		t.Error(err)
	}
	inv, err := c.Token(ctx)
	if err != nil || inv.Command != "trinas join 10.0.0.1:7370 --token secret" {
		t.Errorf("token: %+v, %v", inv, err)
	}
	if p, err := c.Probe(ctx); err != nil || len(p.Peers) != 1 || p.Peers[0].RoundTrip != time.Millisecond {
		t.Errorf("probe: %+v, %v", p, err)
	}
	if v, err := c.CreateVolume(ctx, "vm", 3); err != nil || v.Name != "vm" {
		t.Errorf("create: %+v, %v", v, err)
	}
	if err := c.DeleteVolume(ctx, "a/../b ?"); err != nil {
		t.Error(err)
	}
	if err := c.SetPrimary(ctx, "vm", "n2"); err != nil {
		t.Error(err)
	}
	if vs, err := c.Volumes(ctx); err != nil || len(vs) != 1 || vs[0].ID != 9 {
		t.Errorf("volumes: %+v, %v", vs, err)
	}
	if err := c.MoveVolume(ctx, "vm", "n1", "n4"); err != nil {
		t.Error(err)
	}
	if err := c.Verify(ctx, "vm", replica.VerifyRequest{Repair: true}); err != nil {
		t.Error(err)
	}
	if err := c.RetryReplica(ctx, "vm"); err != nil {
		t.Error(err)
	}
	if err := c.RebuildReplica(ctx, "vm", "", true); err != nil {
		t.Error(err)
	}
	if err := c.RebuildReplica(ctx, "vm", "n2", false); err != nil {
		t.Error(err)
	}
	if err := c.RemoveNode(ctx, "n1"); err != nil {
		t.Error(err)
	}
	if inv, err := c.ReplaceNode(ctx, "n2"); err != nil || inv.Token != "secret" {
		t.Errorf("replace: %+v, %v", inv, err)
	}
	service, err := c.Service(ctx, "vm")
	if err != nil || service.Cluster != "c" || !service.Serving || service.Mount == nil || service.Mount.Source != "127.0.0.1:/vm" {
		t.Errorf("service: %+v, %v", service, err)
	}
	if err := c.Activate(ctx, "vm", "images/100/x.raw", 5*time.Second); err != nil {
		t.Error(err)
	}
	if err := c.Deactivate(ctx, "vm", "images/100/x.raw", 0); err != nil {
		t.Error(err)
	}
	images, err := c.Images(ctx, "vm", "100")
	if err != nil || len(images) != 1 || images[0].SizeBytes != 1<<30 || fmt.Sprint(images[0].Writers, images[0].Barred) != "[n1] [n2]" {
		t.Errorf("images: %+v, %v", images, err)
	}
	loads, err := c.Load(ctx, 2*time.Hour)
	if err != nil || len(loads.Nodes) != 1 || loads.Nodes[0].Load.CPUPercent != 12.5 {
		t.Errorf("load: %+v, %v", loads, err)
	}
	if r, err := c.Allow(ctx, "vm", "10.0.0.0/24", true, volume.SquashAll); err != nil || r.String() != "10.0.0.0/24 (read-only, all squashed)" {
		t.Errorf("allow: %v, %v", r, err)
	}
	if err := c.Deny(ctx, "vm", "10.0.0.0/24"); err != nil {
		t.Error(err)
	}
	_, err = c.Allow(ctx, "vm", "10.0.0.1/24", false, volume.SquashRoot)
	mustSay(t, err, "10.0.0.0/24 for the network")
	_, err = c.Allow(ctx, "vm", "10.0.0.1", false, "some")
	mustSay(t, err, "squash", "none")
	mustSay(t, c.Deny(ctx, "vm", "pve9"), "such as 192.0.2.7")
	want := "[init home n1 join n2 10.0.0.1:7370 t create vm 3 delete a/../b ? transfer vm n2 move vm n1 n4 verify vm {true false} retry vm rebuild vm true rebuild on n2: {\"volume\":\"vm\",\"discard\":false} remove n1 replace n2 service vm activate vm images/100/x.raw deactivate vm images/100/x.raw service vm load 1h0m0s allow vm 10.0.0.0/24 (read-only, all squashed) deny vm 10.0.0.0/24]"
	if got := fmt.Sprint(f.asked); got != want {
		t.Errorf("asked %s, want %s", got, want)
	}
}

// Goal: errors of the node come out of the client as one line with the next step.
func TestControl_Errors(t *testing.T) {
	f := &fakeNode{}
	c, _ := start(t, f)
	ctx := t.Context()
	if st, err := c.Status(ctx); err != nil || st.Status != nil || st.Agent.Version != "1.2" {
		t.Errorf("status without a cluster: %+v, %v", st, err)
	}
	_, err := c.Volumes(ctx)
	mustSay(t, err, "belongs to no cluster", "trinas init")
	f.member, f.err = true, errors.New("volume \"vm\" exists already: choose another name")
	_, err = c.CreateVolume(ctx, "vm", 0)
	mustSay(t, err, "volume \"vm\" exists already: choose another name")
	f.err = fmt.Errorf("write to the cluster's log: %w", context.DeadlineExceeded)
	mustSay(t, c.DeleteVolume(ctx, "vm"), "cluster's log", "majority")
	f.err = &Error{Text: "member already", Hint: "use another"}
	_, err = c.Init(ctx, "x", "")
	mustSay(t, err, "member already: use another")
	if e := (*Error)(nil); !errors.As(err, &e) || e.Hint != "use another" {
		t.Errorf("no *Error: %v", err)
	}
}

func mustSay(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Error("no error")
		return
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("%q does not say %q", err, p)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("%q has more than one line", err)
	}
}

// Goal: what is no request of this API gets an answer in the API's form, and nothing happens.
func TestControl_BadRequests(t *testing.T) {
	f := &fakeNode{member: true}
	_, path := start(t, f)
	h := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", path) }}}
	tests := []struct {
		method, path, body string
		status             int
		say                string
	}{
		{"GET", "/v1/nothing", "", 404, "different versions"},
		{"GET", "/v2/status", "", 404, "different versions"},
		{"PUT", "/v1/volumes", "", 404, "PUT /v1/volumes"},
		{"POST", "/v1/volumes", `{"nome":"x"}`, 400, "nome"},
		{"POST", "/v1/volumes", `{"name":`, 400, "cannot be read"},
		{"POST", "/v1/volumes", `{"name":"x"}{"name":"y"}`, 400, "more than one"},
		{"POST", "/v1/volumes", `{"name":5}`, 400, "cannot be read"},
		{"POST", "/v1/volumes", `{"name":"` + strings.Repeat("x", maxRequestBytes) + `"}`, 400, "too large"},
		{"GET", "/v1/load?history=soon", "", 400, "no duration"},
		{"GET", "/v1/load?history=-1s", "", 400, "no duration"},
		{"POST", "/v1/volumes/vm/primary", ``, 400, "cannot be read"},
	}
	for _, tt := range tests {
		req, err := http.NewRequest(tt.method, "http://agent"+tt.path, strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := h.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != tt.status || !bytes.Contains(b, []byte(tt.say)) || !bytes.Contains(b, []byte(`"error"`)) {
			t.Errorf("%s %s: %s %s", tt.method, tt.path, resp.Status, b)
		}
	}
	if len(f.asked) != 0 {
		t.Errorf("the node was asked %v", f.asked)
	}
}

// Goal: requests that wait cannot pile up without bound; those that are under way still end.
func TestControl_Busy(t *testing.T) {
	f := &fakeNode{member: true, block: make(chan struct{})}
	c, path := start(t, f)
	results := make(chan error, maxRequests)
	for range maxRequests {
		go func() {
			own := NewClient(path)
			defer own.Close()
			_, err := own.Token(context.Background())
			for err != nil && strings.Contains(err.Error(), "busy") { // by a status, below: its place is free again
				_, err = own.Token(context.Background())
			}
			results <- err
		}()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var err error
	for err == nil { // until all of them are being worked on, the status is answered
		_, err = c.Status(ctx)
	}
	mustSay(t, err, "busy", "try again")
	close(f.block)
	for range maxRequests {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if _, err := c.Status(t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// Goal: a socket left behind by a killed agent is replaced, one in use is not.
func TestListen_Stale(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.sock")
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "another agent") {
		t.Fatalf("in use: %v", err)
	}
	old.SetUnlinkOnClose(false)
	old.Close()
	l, err := Listen(path)
	if err != nil {
		t.Fatalf("stale: %v", err)
	}
	l.Close()
	l.Close()
}

func TestClient_NoAgent(t *testing.T) {
	dir := t.TempDir()
	c := NewClient(filepath.Join(dir, "none.sock"))
	_, err := c.Status(t.Context())
	mustSay(t, err, "no agent answers at "+dir, "start it")
}
