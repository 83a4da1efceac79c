package rescue

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/willscott/go-nfs-client/nfs"
	"github.com/willscott/go-nfs-client/nfs/rpc"
)

// Goal: an independent NFS client sees the volume's tree and bytes, can change nothing, and a
// handle outlives a restart of the server.
func TestServe_Client(t *testing.T) {
	s := openStore(t, makeDataDir(t, 2), Options{})
	addr := serveStore(t, s, ServeOptions{})
	target, closeTarget := mountNFS(t, addr, "/vm")
	defer closeTarget()

	entries, err := target.ReadDirPlus("/images")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, e := range entries {
		found[e.Name()] = true
	}
	if !found["disk.img"] || !found["disk2.img"] {
		t.Errorf("images holds %v", found)
	}
	f, err := target.Open("/images/disk.img")
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err != nil || !bytes.Equal(b, content()) {
		t.Errorf("%d bytes differ from %d: %v", len(b), len(content()), err)
	}
	if _, err := target.Mkdir("/new", 0o755); err == nil {
		t.Error("a directory was made")
	}
	if err := target.Remove("/latest"); err == nil {
		t.Error("a link was removed")
	}
	info, handle, err := target.Lookup("/images/disk.img")
	if err != nil || info.Size() != int64(len(content())) {
		t.Fatalf("lookup: %v, %v", info, err)
	}

	fresh := newHandler(s) // as after a restart
	view, parts, err := fresh.FromHandle(handle)
	if err != nil || len(parts) != 2 {
		t.Fatalf("handle after a restart: %v, %v", parts, err)
	}
	if fi, err := view.Lstat(view.Join(parts...)); err != nil || fi.Size() != info.Size() {
		t.Errorf("file after a restart: %v", err)
	}
}

func serveStore(t *testing.T, s *Store, opt ServeOptions) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l, opt) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return l.Addr().String()
}

func mountNFS(t *testing.T, addr, export string) (*nfs.Target, func()) {
	t.Helper()
	client, err := rpc.DialTCP("tcp", addr, false)
	if err != nil {
		t.Fatal(err)
	}
	mount := &nfs.Mount{Client: client}
	target, err := mount.Mount(export, rpc.NewAuthUnix("test", 0, 0).Auth())
	if err != nil {
		t.Fatal(err)
	}
	return target, func() { mount.Close() }
}

// Goal: clients that may be any local user are turned away, garbage and foreign handles do no
// harm.
func TestServe_Refuses(t *testing.T) {
	s := openStore(t, makeDataDir(t, 2), Options{})
	c, err := net.Dial("tcp", serveStore(t, s, ServeOptions{PrivilegedPorts: true}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("a client from an unprivileged port got %d bytes, %v; want it closed", n, err)
	}

	h := newHandler(s)
	for _, handle := range [][]byte{nil, {1}, make([]byte, handleBytes), bytes.Repeat([]byte{0xff}, handleBytes),
		append(append(make([]byte, 7), byte(testVolume)), 0, 0, 0, 0, 0, 0, 0xff, 0xff)} {
		if _, parts, err := h.FromHandle(handle); err == nil {
			t.Errorf("handle %x leads to %v", handle, parts)
		}
	}
	if got := h.ToHandle(nil, nil); got != nil {
		t.Errorf("handle of nothing: %x", got)
	}
}

// Goal: connections are bounded; the one that was quiet longest makes room.
func TestListener_Bound(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newListener(inner, false)
	defer l.closeAll()
	var clients []net.Conn
	for range maxConns + 1 {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		clients = append(clients, c)
		if _, err := l.Accept(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := clients[0].Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the oldest connection: %v, want closed", err)
	}
	if len(l.open) != maxConns {
		t.Errorf("%d connections open", len(l.open))
	}
}
