package main

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	gonfs "github.com/willscott/go-nfs"

	"trinas/agent/control"
	"trinas/nfsgw/nfs3"
	"trinas/replica"
)

// writeImage writes to a guest's image of volume vm.
func writeImage(t *testing.T, addr string) {
	t.Helper()
	ctx := t.Context()
	nfs, err := nfs3.Dial(ctx, addr, "test", false)
	if err != nil {
		t.Fatal(err)
	}
	defer nfs.Close()
	dir, err := nfs.Mnt(ctx, "/vm")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"images", "100"} {
		var res nfs3.CreateRes // whether it is there already, the next line tells
		args := nfs3.MkDirArgs{NameArgs: nfs3.NameArgs{FH: dir, Name: name}}
		if err := nfs.Call(ctx, gonfs.NFSProcedureMkDir, &args, &res); err != nil {
			t.Fatal(err)
		}
		if dir, _, err = nfs.Lookup(ctx, dir, name); err != nil {
			t.Fatal(err)
		}
	}
	file, err := nfs.Create(ctx, dir, "vm-100-disk-0.raw", 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := nfs.Write(ctx, file, 0, []byte("x"), nfs3.FileSync); err != nil {
		t.Fatal(err)
	}
}

// Goal: whole agents tell each other their load, and show a node that has stopped with its last figures and their age.
// Method: two agents and a client of each.
func TestDaemon_Load(t *testing.T) {
	ctx := t.Context()
	first, second := testConfig(t), testConfig(t)
	second.Node.Name = "n2"
	for _, c := range []*time.Duration{(*time.Duration)(&first.Load.Interval), (*time.Duration)(&second.Load.Interval)} {
		*c = time.Second
	}
	first.Metrics.Listen = freeAddress(t)
	second.Metrics.Listen = first.Metrics.Listen // taken, which must keep nobody from anything
	one, _ := startAgent(t, first)
	waitFor(t, one, "waiting", inState(control.Waiting))
	if _, err := one.Load(ctx, 0); err == nil {
		t.Error("load without a cluster")
	}
	inv, err := one.Init(ctx, "home", "")
	if err != nil {
		t.Fatal(err)
	}
	two, stop := startAgent(t, second)
	waitFor(t, two, "waiting", inState(control.Waiting))
	if err := two.Join(ctx, "n2", inv.Address, inv.Token); err != nil {
		t.Fatal(err)
	}
	wait := func(c *control.Client, what string, wanted func(control.Load) bool) control.Load {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			l, err := c.Load(ctx, time.Minute)
			if err == nil && wanted(l) {
				return l
			}
			if time.Now().After(end) {
				t.Fatalf("no %s in time: %+v, %v", what, l, err)
			}
		}
	}
	full := func(l control.Load) bool {
		for _, n := range l.Nodes {
			if !n.Answers || n.Load.IntervalSec == 0 || n.Load.Memory.TotalBytes == 0 || len(n.History.Time) == 0 || n.Health != replica.Healthy {
				return false
			}
		}
		return len(l.Nodes) == 2
	}
	for _, c := range []*control.Client{one, two} {
		wait(c, "load of both", func(l control.Load) bool {
			for i := range l.Nodes { // this machine may be busy
				l.Nodes[i].Health = replica.Healthy
			}
			return full(l)
		})
	}
	if _, err := one.CreateVolume(ctx, "vm", 1); err != nil {
		t.Fatal(err)
	}
	wait(two, "the file that is written through n1", func(l control.Load) bool {
		writeFile(t, first.NFS.Listen[0], "hello") // each report is of a second only, and n2 may miss one
		files := l.Nodes[0].Load.Files
		named := len(files) == 1 && len(l.Volumes) == 1 && (files[0].Path == "file" || // the node that has the volume knows its name
			l.Volumes[0].Primary == "n2" && strings.HasPrefix(files[0].Path, "file "))
		return named && files[0].Volume == "vm" && files[0].Writes.P99Ms > 0 && files[0].WriteBytesPerSec > 0 && l.Volumes[0].FreeBytes > 0
	})
	// n2 has no replica: it has to ask for the image's name.
	writeImage(t, second.NFS.Listen[0])
	wait(one, "the image that is written through n2", func(l control.Load) bool {
		for _, f := range l.Nodes[1].Load.Files {
			if f.Path == "images/100/vm-100-disk-0.raw" {
				return true
			}
		}
		writeImage(t, second.NFS.Listen[0])
		return false
	})
	for path, say := range map[string]string{"/metrics": "trinas_machine_cpu_ratio", "/": "404"} {
		resp, err := http.Get("http://" + first.Metrics.Listen + path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !strings.Contains(resp.Status+string(b), say) {
			t.Errorf("%s: %s, %v, without %s", path, resp.Status, err, say)
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	l := wait(one, "n2 as one that does not answer", func(l control.Load) bool {
		return !l.Nodes[1].Answers && l.Nodes[1].AgeSec != nil && *l.Nodes[1].AgeSec > 2
	})
	if n := l.Nodes[1]; n.Load == nil || n.Health != replica.Unfit || n.Connected {
		t.Errorf("stopped: %+v", n)
	}
}
