package metrics

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"trinas/agent/load"
	"trinas/nfsgw"
	"trinas/replica"
	"trinas/replica/volume"
)

// fakeNode is a node that has everything that a node can have.
type fakeNode struct {
	figures replica.Figures
	status  replica.Status
}

func (f *fakeNode) Figures() replica.Figures { return f.figures }
func (f *fakeNode) Known() replica.Status    { return f.status }

// fullSource shows every metric that there is.
func fullSource(t *testing.T) Source {
	t.Helper()
	node := &fakeNode{
		figures: replica.Figures{LogBytesWritten: 7, FreeBytes: 1 << 30, CertificateEnds: time.Unix(2e9, 0), Failed: []string{"old"},
			Volumes: []replica.VolumeFigures{{Name: "vms", Primary: true, HasPrimary: true, Reads: 5, LeaseMisses: 2}, {Name: "iso"}}},
		status: replica.Status{Node: replica.NodeStatus{Name: "n1", Health: replica.Degraded},
			Cluster: replica.ClusterStatus{Primary: "n2"},
			Nodes:   []replica.NodeStatus{{Name: "n1", Connected: true}, {Name: "n2"}},
			Volumes: []replica.VolumeStatus{
				{Name: "vms", Primary: "n1", FreeBytes: 99, Missing: 1, Replicas: []replica.ReplicaStatus{
					{Node: "n1", State: replica.UpToDate},
					{Node: "n2", State: replica.SyncTarget, LagEntries: 3, Damaged: 4, Resync: &replica.ResyncStatus{DoneBytes: 10, TotalBytes: 30}}}},
				{Name: "iso", Primary: "n2", Replicas: []replica.ReplicaStatus{{Node: "n1", State: replica.Outdated}}},
			}},
	}
	node.figures.LogWrites.Buckets[50], node.figures.LogWrites.Sum = 3, 30*time.Millisecond
	report := &load.Report{CPUPercent: 50, LogDisk: &load.Disk{Device: "sda", UtilPercent: 10}, Pressure: &load.Pressure{IOSomePercent: 1},
		Guests: []load.Guest{{VMID: 100, Name: "we\xffb", Kind: load.QEMU, CPUPercent: 25, Images: []load.Image{{Volume: "vms", Path: "images/100/x.raw"}}}},
		Files:  []load.Image{{Path: "other files"}}}
	gateway, err := nfsgw.Listen(noBackend{}, nfsgw.Options{Addrs: []string{"127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = gateway.Shutdown(context.Background()) })
	return Source{Version: "1.2.3", Node: func() Node { return node }, Gateway: func() *nfsgw.Server { return gateway },
		Load: func() *load.Report { return report }}
}

// noBackend has no volume.
type noBackend struct{ nfsgw.Backend }

func (noBackend) Exports() []nfsgw.Export { return nil }
func (noBackend) Node() uint16            { return 1 }
func (noBackend) Do(context.Context, volume.ID, *volume.Op, *volume.Result) error {
	return replica.ErrNoVolume
}

// scrape is what Prometheus gets.
func scrape(t *testing.T, source Source) string {
	t.Helper()
	s := httptest.NewServer(Handler(source))
	defer s.Close()
	resp, err := http.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v: %s", resp.Status, err, b)
	}
	return string(b)
}

// Goal: figures come out under their names, with their units, and a primary tells of its own volumes' replicas only.
func TestHandler(t *testing.T) {
	text := scrape(t, fullSource(t))
	for _, want := range []string{
		`trinas_build_info{version="1.2.3"} 1`,
		`trinas_log_write_duration_seconds_count 3`, `trinas_log_write_duration_seconds_sum 0.03`, `trinas_log_write_duration_seconds_bucket{le="0.016384"} 3`,
		`trinas_log_write_duration_seconds_bucket{le="0.004096"} 0`, `trinas_log_written_bytes_total 7`, `trinas_certificate_expiry_timestamp_seconds 2e+09`,
		`trinas_volume_has_primary{volume="vms"} 1`, `trinas_volume_has_primary{volume="iso"} 0`, `trinas_lease_misses_total{volume="vms"} 2`,
		`trinas_replica_state{node="n2",state="SyncTarget",volume="vms"} 1`, `trinas_replica_state{node="n2",state="UpToDate",volume="vms"} 0`,
		`trinas_replica_damaged_ranges{node="n2",volume="vms"} 4`, `trinas_replica_resync_left_bytes{node="n2",volume="vms"} 20`,
		`trinas_volume_missing_replicas{volume="vms"} 1`, `trinas_failed_replicas 1`, `trinas_node_health{health="Degraded"} 1`, `trinas_node_connected{peer="n2"} 0`,
		`trinas_machine_cpu_ratio 0.5`, `trinas_guest_cpu_ratio{kind="qemu",name="we` + "\uFFFD" + `b",vmid="100"} 0.25`,
		`trinas_nfs_request_duration_seconds_count{procedure="READDIRPLUS"} 0`, "go_goroutines", "process_open_fds",
	} {
		if !strings.Contains(text, want+"\n") && !strings.Contains(text, want+" ") {
			t.Errorf("no %s", want)
		}
	}
	for _, no := range []string{`state="Outdated",volume="iso"`, `trinas_volume_free_bytes{volume="iso"}`} {
		if strings.Contains(text, no) {
			t.Errorf("%s: this node is not the primary", no)
		}
	}
	empty := scrape(t, Source{Node: func() Node { return nil }, Gateway: func() *nfsgw.Server { return nil }, Load: func() *load.Report { return nil }})
	if !strings.Contains(empty, "trinas_build_info") || strings.Contains(empty, "trinas_log") {
		t.Error("an agent without a cluster shows another's metrics, or none")
	}
}

// Goal: names and units are by Prometheus' conventions.
func TestHandler_Lint(t *testing.T) {
	problems, err := testutil.GatherAndLint(Registry(fullSource(t)))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// Goal: every metric and label that the alert rules and the dashboard name is one that an agent shows.
func TestGrafana_Names(t *testing.T) {
	shown := map[string]bool{}
	labels := map[string]bool{"instance": true, "job": true, "le": true, "alertname": true, "severity": true}
	for line := range strings.Lines(scrape(t, fullSource(t))) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), "{")
		name, _, _ = strings.Cut(name, " ")
		shown[name] = true
		for _, m := range regexp.MustCompile(`(\w+)="`).FindAllStringSubmatch(rest, -1) {
			labels[m[1]] = true
		}
	}
	named := regexp.MustCompile(`\btrinas_[a-z0-9_]+`)
	label := regexp.MustCompile(`(\w+)\s*(?:=~|!=|=)"|\{\{\s*\$labels\.(\w+)|\{\{(\w+)\}\}`)
	const folder = "../../packaging/grafana"
	used := map[string]bool{}
	for _, file := range []string{"trinas-rules.yml", "trinas-dashboard.json"} {
		b, err := os.ReadFile(filepath.Join(folder, file))
		if err != nil {
			t.Fatal(err)
		}
		b = bytes.ReplaceAll(b, []byte(`\"`), []byte(`"`))
		for _, name := range named.FindAllString(string(b), -1) {
			used[name] = true
			if !shown[name] {
				t.Errorf("%s names %s, which no agent shows", file, name)
			}
		}
		for _, m := range label.FindAllStringSubmatch(string(b), -1) {
			if name := m[1] + m[2] + m[3]; !labels[name] {
				t.Errorf("%s uses the label %s, which no metric has", file, name)
			}
		}
	}
	if len(used) < 40 {
		t.Errorf("only %d names are used: does this test still find them?", len(used))
	}
}

// Goal: the dashboard is one: each panel has a place of its own and a query.
func TestGrafana_Dashboard(t *testing.T) {
	b, err := os.ReadFile("../../packaging/grafana/trinas-dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		UID    string `json:"uid"`
		Panels []struct {
			ID          int
			Type, Title string
			GridPos     struct{ H, W, X, Y int }
			Targets     []struct{ Expr string }
			Datasource  struct{ UID string }
		}
	}
	if err := json.Unmarshal(b, &d); err != nil || d.UID != "trinas" {
		t.Fatalf("%v", err)
	}
	var ids []int
	taken := map[[2]int]string{}
	for _, p := range d.Panels {
		if slices.Contains(ids, p.ID) {
			t.Errorf("%s: id %d is taken", p.Title, p.ID)
		}
		ids = append(ids, p.ID)
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%s lies over %s, or beyond the edge", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type != "row" && (len(p.Targets) == 0 || p.Targets[0].Expr == "" || p.Datasource.UID != "${datasource}") {
			t.Errorf("%s has no query", p.Title)
		}
	}
	if len(d.Panels) < 20 {
		t.Errorf("%d panels", len(d.Panels))
	}
}

func BenchmarkScrape(b *testing.B) {
	registry := Registry(Source{Node: func() Node { return &fakeNode{figures: replica.Figures{Volumes: make([]replica.VolumeFigures, 1)}} },
		Gateway: func() *nfsgw.Server { return nil }, Load: func() *load.Report { return nil }})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := registry.Gather(); err != nil {
			b.Fatal(err)
		}
	}
}
