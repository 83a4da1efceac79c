package control

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"trinas/replica"
)

// ask sends a request with headers to the agent at path, and gives its status, headers and answer.
func ask(t *testing.T, path, method, url, body string, header ...string) (int, http.Header, string) {
	t.Helper()
	h := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", path) }}}
	req, err := http.NewRequest(method, "http://agent"+url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := h.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

// mustRefuse checks that an answer is an error in one line with these parts.
func mustRefuse(t *testing.T, code, want int, body string, parts ...string) {
	t.Helper()
	var e Error
	if err := json.Unmarshal([]byte(body), &e); code != want || err != nil {
		t.Errorf("status %d, want %d: %s", code, want, body)
	}
	mustSay(t, &e, parts...)
}

// Goal: every answer tells the agent's level; a program that is too old, or newer than the agent, and a
// request meant for another cluster are refused in one line, and nothing is done.
func TestControl_Fit(t *testing.T) {
	f := &fakeNode{member: true}
	_, path := start(t, f)
	level := fmt.Sprint(Level)
	const url = "/v1/volumes/vm/service"
	code, header, body := ask(t, path, "GET", url, "", LevelHeader, level, ClusterHeader, "c")
	if code != 200 || header.Get(LevelHeader) != level {
		t.Errorf("status %d, %v: %s", code, header, body)
	}
	_, header, _ = ask(t, path, "GET", "/v1/nothing", "")
	if header.Get(LevelHeader) != level {
		t.Errorf("an unknown request: %v", header)
	}
	f.asked = nil
	code, _, body = ask(t, path, "GET", url, "", LevelHeader, fmt.Sprint(oldestLevel-1))
	mustRefuse(t, code, 426, body, "level 3 and above", "older than the agent")
	code, _, body = ask(t, path, "GET", url, "", LevelHeader, "x")
	mustRefuse(t, code, 426, body, "older than the agent")
	code, _, body = ask(t, path, "GET", url, "", LevelHeader, fmt.Sprint(Level+1))
	mustRefuse(t, code, 426, body, "restart trinas")
	code, _, body = ask(t, path, "GET", url, "", ClusterHeader, "d")
	mustRefuse(t, code, 409, body, "cluster d", "belongs to c")
	if len(f.asked) != 0 {
		t.Errorf("the node was asked %v", f.asked)
	}
	f.member = false
	code, _, body = ask(t, path, "GET", url, "", ClusterHeader, "d")
	mustRefuse(t, code, 409, body, "belongs to no cluster")
}

// Goal: a volume is provided when every node of Proxmox has an agent that answers and is new enough; else
// the nodes that have not are named, with why, and nothing is made.
func TestControl_Provide(t *testing.T) {
	f := &fakeNode{member: true}
	c, _ := start(t, f)
	provide := func(volume string, req provideRequest) (Service, error) {
		var out Service
		return out, c.do(t.Context(), http.MethodPost, "/v1/volumes/"+volume+"/provide", req, &out)
	}
	f.peers = []replica.PeerProbe{{Node: "n2", Level: pluginLevel}}
	s, err := provide("none", provideRequest{Nodes: []string{"N1", "n2"}, Create: true, Folders: []string{"images", "template/iso"}})
	if err != nil || s.ID != 9 || s.Mount == nil {
		t.Errorf("%+v, %v", s, err)
	}
	if got := fmt.Sprint(f.asked); got != "[await none create none 0 await none folders none [images template/iso]]" {
		t.Errorf("asked %s", got)
	}
	f.asked = nil
	_, err = provide("none", provideRequest{Nodes: []string{"n1"}})
	mustSay(t, err, "no such volume")
	if got := fmt.Sprint(f.asked); got != "[await none]" {
		t.Errorf("without create: asked %s", got)
	}

	f.asked = nil
	f.peers = []replica.PeerProbe{{Node: "n2", Version: "0.0.1", Level: pluginLevel - 1}, {Node: "n3", Level: pluginLevel}}
	_, err = provide("none", provideRequest{Nodes: []string{"n1", "n2", "n3", "n4"}, Create: true})
	mustSay(t, err, "n2: has trinas 0.0.1, which is too old", "n3: not in this", "n4: not in this", "storage.cfg")
	f.peers[0] = replica.PeerProbe{Node: "n2", Error: "connection lost"}
	_, err = provide("none", provideRequest{Nodes: []string{"n2"}, Create: true})
	mustSay(t, err, "n2: does not answer (connection lost)")
	if len(f.asked) != 0 {
		t.Errorf("asked %v", f.asked)
	}
}

// Goal: files are described, images are activated with their snapshots, and waits are passed on.
func TestControl_Plugin(t *testing.T) {
	f := &fakeNode{member: true}
	_, path := start(t, f)
	code, _, body := ask(t, path, "GET", "/v1/volumes/vm/service?wait_sec=5", "")
	if code != 200 || fmt.Sprint(f.asked) != "[await vm]" {
		t.Errorf("service: %d %s, asked %v", code, body, f.asked)
	}
	code, _, body = ask(t, path, "GET", "/v1/volumes/vm/file?path=images/100/vm-100-disk-0.raw", "")
	if code != 200 || !strings.Contains(body, `"size_bytes":1073741824`) {
		t.Errorf("file: %d %s", code, body)
	}
	code, _, body = ask(t, path, "GET", "/v1/volumes/vm/file?path=images", "")
	mustRefuse(t, code, 404, body, "no such image")
	code, _, body = ask(t, path, "GET", "/v1/volumes/vm/images?folder=other", "")
	if code != 200 || !strings.Contains(body, `"other/100/vm-100-disk-0.raw"`) {
		t.Errorf("images: %d %s", code, body)
	}
	f.asked = nil
	code, _, body = ask(t, path, "POST", "/v1/volumes/vm/activate", `{"path":"images/100/x.raw","wait_sec":5,"chain":true}`)
	if code != 200 || !strings.Contains(body, `"was_active":true`) || fmt.Sprint(f.asked) != "[await vm activate vm images/100/x.raw]" {
		t.Errorf("activate: %d %s, asked %v", code, body, f.asked)
	}
	f.err = fmt.Errorf("%w: it reaches nobody", replica.ErrCutOff)
	code, _, body = ask(t, path, "POST", "/v1/volumes/vm/activate", `{"path":"images/100/x.raw"}`)
	mustRefuse(t, code, 503, body, "cut off", "trinas status")
}

// Goal: a volume is mounted from a loopback address of the server, with its port, or not at all.
func TestMountOf(t *testing.T) {
	for addresses, want := range map[string]string{
		"192.0.2.1:2049,127.0.0.1:2050": "127.0.0.1:/v vers=3,proto=tcp,mountproto=tcp,port=2050,mountport=2050,nolock,hard,nconnect=4,retry=0",
		"0.0.0.0:2049":                  "127.0.0.1:/v vers=3,proto=tcp,mountproto=tcp,port=2049,mountport=2049,nolock,hard,nconnect=4,retry=0",
		"[::1]:2049":                    "[::1]:/v vers=3,proto=tcp6,mountproto=tcp6,port=2049,mountport=2049,nolock,hard,nconnect=4,retry=0",
		"192.0.2.1:2049":                "",
		"":                              "",
	} {
		got := ""
		if m := mountOf(addresses, "v"); m != nil {
			got = m.Source + " " + m.Options
		}
		if got != want {
			t.Errorf("%q: %q, want %q", addresses, got, want)
		}
	}
}
