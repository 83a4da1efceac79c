package nfsgw

import (
	"bytes"
	"io"
	"net"
	"os"
	"testing"

	"github.com/willscott/go-nfs-client/nfs"
	clientrpc "github.com/willscott/go-nfs-client/nfs/rpc"
)

// TestInterop_GoNFSClient works on the gateway with a client that shares no code with it:
// github.com/willscott/go-nfs-client.
func TestInterop_GoNFSClient(t *testing.T) {
	g := startGateway(t, Options{})
	nc, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = nc.Close()
	c, err := clientrpc.DialTCP("tcp", g.addr, false)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	mount := nfs.Mount{Client: c}
	vol, err := mount.Mount("/vol", clientrpc.NewAuthUnix("tester", 0, 0).Auth())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := vol.Mkdir("dir", 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := vol.OpenFile("dir/file", 0o644)
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("0123456789abcdef"), 200_000)
	if n, err := io.Copy(f, bytes.NewReader(data)); err != nil || n != int64(len(data)) {
		t.Fatalf("wrote %d bytes: %v", n, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f, err = vol.Open("dir/file")
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(f)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("read %d bytes back, wrote %d: %v", len(got), len(data), err)
	}
	entries, err := vol.ReadDirPlus("dir")
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, e := range entries {
		if e.Name() == "file" {
			found = e.Size() == int64(len(data))
		}
	}
	if !found {
		t.Errorf("the file is not listed with its size: %v", entries)
	}
	if err := vol.Rename("dir/file", "dir/moved"); err != nil {
		t.Error(err)
	}
	if _, _, err := vol.Lookup("dir/file"); !os.IsNotExist(err) {
		t.Errorf("the old name: %v", err)
	}
	if err := vol.Remove("dir/moved"); err != nil {
		t.Error(err)
	}
	if err := vol.RmDir("dir"); err != nil {
		t.Error(err)
	}
	if err := mount.Unmount(); err != nil {
		t.Error(err)
	}
}
