package web

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"trinas/agent/web/browser"
)

// hour is an API of a cluster that has run for an hour: one node is being brought up to date, one has told
// nothing for a while, and names hold what a page must not take for markup.
func hour(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	var nodes, loads []map[string]any
	for i, name := range []string{"n1", "n2", "n3"} {
		nodes = append(nodes, map[string]any{"name": name, "address": "192.0.2.1:7370", "connected": true, "health": "Healthy"})
		at, values := []int64{}, map[string][]any{}
		for s := 3600; s > 0; s -= 3 {
			if i == 2 && s < 900 {
				break
			}
			at = append(at, now.Unix()-int64(s))
			wave := 50 + 30*math.Sin(float64(s)/300+float64(i))
			for column, v := range map[string]any{"cpu_percent": wave, "io_delay_percent": wave / 10, "load_average": wave / 20,
				"memory_percent": 40 + 10*float64(i), "peer_out_bytes_per_sec": wave * 1e6, "log_write_p99_ms": wave / 8} {
				if i == 0 && s > 1500 && s < 1800 {
					v = nil
				}
				values[column] = append(values[column], v)
			}
		}
		loads = append(loads, map[string]any{"node": name, "answers": i < 2, "age_sec": 900 * (i / 2), "history": map[string]any{"time": at, "values": values}})
	}
	answers := map[string]any{
		"/v1/status": map[string]any{"agent": map[string]any{"state": "running"}, "cluster": map[string]any{"name": "<b>office</b>"},
			"node": nodes[0], "nodes": nodes, "volumes": []any{map[string]any{"name": "vms", "primary": "n1", "used_bytes": 5 << 30, "free_bytes": 7 << 30, "files": 12,
				"replicas": []any{map[string]any{"node": "n1", "role": "primary", "state": "UpToDate"},
					map[string]any{"node": "n2", "role": "secondary", "state": "SyncTarget",
						"resync": map[string]any{"done_bytes": 1 << 30, "total_bytes": 4 << 30, "seconds_left": 90}},
					map[string]any{"node": "n3", "role": "secondary", "state": "Failed", "reason": "input/output error"}}}}},
		"/v1/load": map[string]any{"interval_sec": 3, "nodes": loads},
		"/v1/events": map[string]any{"missing": []any{}, "events": []any{map[string]any{"ids": []string{"n1-1"}, "nodes": []string{"n1"},
			"time": now.Format(time.RFC3339Nano), "level": "error", "event": "primary", "text": "<img src=x onerror=alert(1)>", "took_ns": 1500 * 1000 * 1000}}},
	}
	if err := json.NewEncoder(w).Encode(answers[r.URL.Path]); err != nil {
		http.Error(w, fmt.Sprint(err), http.StatusInternalServerError)
	}
}

// Goal: the page draws an hour of load with its gaps, how far a resync is, and states in their words; what
// an API says is text and never markup, and the policy lets everything of the page work. Method: headless
// Chromium. TRINAS_PICTURES=DIR keeps the pictures.
func TestPage_Hour(t *testing.T) {
	browser.Need(t)
	s, address, _ := serveAPI(t, http.HandlerFunc(hour))
	link := func() string { return address + "/login#" + s.Token() }
	dom := browser.DOM(t, link())
	for _, want := range []string{"trinas: &lt;b&gt;office&lt;/b&gt;", "look at vms", `word wait">SyncTarget`, `word bad">Failed`, "input/output error",
		`value="25"`, "25.0 % of 4.0 GiB, 90 s left", "&lt;img src=x", "took 1.5 s", "n3 (figures are 15 min old)", "5.0 GiB used, 7.0 GiB free"} {
		if !strings.Contains(dom, want) {
			t.Errorf("the page does not show %q", want)
		}
	}
	// Six charts, with a line for each node, and one more for the gap of the first.
	if charts, lines := strings.Count(dom, "<figure>"), strings.Count(dom, "<polyline"); charts != 6 || lines != 24 {
		t.Errorf("%d charts with %d lines", charts, lines)
	}
	dir := os.Getenv("TRINAS_PICTURES")
	if dir == "" {
		dir = t.TempDir()
	}
	browser.Picture(t, link(), filepath.Join(dir, "light.png"), browser.Desktop)
	browser.Picture(t, link(), filepath.Join(dir, "dark.png"), browser.Desktop, browser.Dark)
	browser.Picture(t, link(), filepath.Join(dir, "phone.png"), browser.Phone)
}
