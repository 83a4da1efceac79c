package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/willscott/go-nfs"

	"trinas/agent/control"
	"trinas/nfsgw/nfs3"
)

// Goal: the Proxmox storage plugin and this agent understand each other. Method: plugin/t/live.t asks an
// agent whose volume has two images.
func TestPlugin(t *testing.T) {
	for _, need := range [][]string{{"qemu-img", "--version"}, {"perl", "-MJSON", "-e", "1"}} {
		if err := exec.Command(need[0], need[1:]...).Run(); err != nil {
			t.Skipf("%v: %v (make deps)", need, err)
		}
	}
	c := testConfig(t)
	client, stop := startAgent(t, c)
	defer func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}()
	waitFor(t, client, "waiting", inState(control.Waiting))
	if _, err := client.Init(t.Context(), "home", ""); err != nil {
		t.Fatal(err)
	}
	waitFor(t, client, "running", inState(control.Running))
	if _, err := client.CreateVolume(t.Context(), "vm", 1); err != nil {
		t.Fatal(err)
	}
	qcow2 := filepath.Join(t.TempDir(), "x.qcow2")
	if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", qcow2, "5G").CombinedOutput(); err != nil {
		t.Fatalf("qemu-img: %v: %s", err, out)
	}
	head, err := os.ReadFile(qcow2)
	if err != nil {
		t.Fatal(err)
	}
	putImages(t, c.NFS.Listen[0], map[string][]byte{"vm-100-disk-0.raw": make([]byte, 1<<20), "vm-100-disk-1.qcow2": head})

	cmd := exec.Command("prove", "-v", "../plugin/t/live.t")
	cmd.Env = append(os.Environ(), "TRINAS_SOCKET="+c.Control.Socket, "TRINAS_VOLUME=vm", "TRINAS_NODE=n1", "PVE_PERL=")
	if out, err := cmd.CombinedOutput(); err != nil || bytes.Contains(out, []byte("skipped")) {
		t.Errorf("%v\n%s", err, out)
	}
}

// putImages writes files to images/100 of the volume vm.
func putImages(t *testing.T, addr string, files map[string][]byte) {
	t.Helper()
	client, err := nfs3.Dial(t.Context(), addr, "test", false)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	dir, err := client.Mnt(t.Context(), "/vm")
	for _, name := range []string{"images", "100"} {
		if err != nil {
			t.Fatal(err)
		}
		var args nfs3.MkDirArgs
		args.FH, args.Name = dir, name
		var res nfs3.CreateRes
		if err = client.Call(t.Context(), nfs.NFSProcedureMkDir, &args, &res); err == nil {
			dir, _, err = client.Lookup(t.Context(), dir, name)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range files {
		file, err := client.Create(t.Context(), dir, name, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		const chunk = 256 << 10
		for at := 0; at < len(data); at += chunk {
			if _, _, err := client.Write(t.Context(), file, uint64(at), data[at:min(at+chunk, len(data))], nfs3.FileSync); err != nil {
				t.Fatal(err)
			}
		}
	}
}
