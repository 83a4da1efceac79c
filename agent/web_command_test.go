package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"trinas/agent/config"
	"trinas/agent/control"
	"trinas/agent/web/browser"
)

// page is the page of an agent in a browser that has just logged in.
func page(t *testing.T, a testAgent) string {
	t.Helper()
	login, err := a.Web(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return browser.DOM(t, login.Link)
}

// Goal: the page, in a browser, shows nodes, volumes with their replicas, charts and events, after a log-in
// by the link of trinas web; also when a node is gone. Method: three whole agents, headless Chromium.
func TestWeb_Browser(t *testing.T) {
	if testing.Short() {
		t.Skip("three agents and a browser")
	}
	browser.Need(t)
	agents := startCluster(t, 3, func(d *daemon) {
		d.config.Web.Listen = freeAddress(t)
		d.config.Load.Interval = config.Duration(time.Second)
	})
	a := agents[0]
	for _, name := range []string{"vms", "backup"} {
		if _, err := a.CreateVolume(t.Context(), name, 3); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.SetPrimary(t.Context(), "vms", "n2"); err != nil {
		t.Fatal(err)
	}
	waitForLoad(t, a.Client)

	out, err := runCLI(t, "web", "--json", "--socket", a.config.Control.Socket)
	var login control.WebLogin
	if err != nil || json.Unmarshal([]byte(out), &login) != nil || !strings.HasPrefix(login.Link, login.Address+"login#") || len(login.Fingerprint) != 95 {
		t.Errorf("trinas web: %v, %s", err, out)
	}

	dom := page(t, a)
	for _, want := range []string{"<title>trinas: home</title>", "seen from n1: 3 of 3 nodes connected, all replicas UpToDate",
		"<h3>n3</h3>", "<h3>vms</h3>", "<h3>backup</h3>", "primary n2", "secondary", `<span class="word good">UpToDate</span>`,
		"primary of vms", "CPU", "Load average", "<polyline", "volume=vms", "n1, n2, n3"} {
		if !strings.Contains(dom, want) {
			t.Errorf("the page does not show %q", want)
		}
	}
	if strings.Count(dom, "<figure>") != 6 || strings.Count(dom, `word good">UpToDate`) != 6 {
		t.Errorf("%d charts, %d replicas UpToDate", strings.Count(dom, "<figure>"), strings.Count(dom, `word good">UpToDate`))
	}

	if err := agents[2].stop(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, a.Client, "n3 gone", func(st control.Status) bool {
		return !st.Nodes[2].Connected && strings.Contains(fmt.Sprint(st.Volumes), "Outdated")
	})
	dom = page(t, a)
	for _, want := range []string{"2 of 3 nodes connected, look at ", "not connected</span>", "Outdated</span>", "No answer from n3"} {
		if !strings.Contains(dom, want) {
			t.Errorf("with a node gone the page does not show %q", want)
		}
	}
}

// waitForLoad waits until every node has some history.
func waitForLoad(t *testing.T, client *control.Client) {
	t.Helper()
	waitFor(t, client, "history of all nodes", func(control.Status) bool {
		load, err := client.Load(t.Context(), time.Hour)
		for _, n := range load.Nodes {
			if n.History == nil || len(n.History.Time) < 3 {
				return false
			}
		}
		return err == nil && len(load.Nodes) == 3
	})
}
