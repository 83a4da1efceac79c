package notify

import (
	"bytes"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Goal: what systemd receives is what sd_notify(3) defines. Method: be the receiver.
func TestSystemd_Messages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	s := New(slog.New(slog.DiscardHandler))
	for _, step := range []struct {
		send func(string)
		want string
	}{
		{func(string) { s.Ready() }, "READY=1"}, {s.Status, "STATUS=x"}, {s.Stopping, "STOPPING=1\nSTATUS=x"},
		{func(string) { s.Alive() }, "WATCHDOG=1"},
	} {
		step.send("x")
		b := make([]byte, 256)
		conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		n, err := conn.Read(b)
		if err != nil || string(b[:n]) != step.want {
			t.Fatalf("got %q, %v; want %q", b[:n], err, step.want)
		}
	}
}

// Goal: without systemd nothing happens; a dead notify socket is logged and no more.
func TestSystemd_NobodyListens(t *testing.T) {
	var logged bytes.Buffer
	s := New(slog.New(slog.NewTextHandler(&logged, nil)))
	t.Setenv("NOTIFY_SOCKET", "")
	s.Ready()
	if logged.Len() != 0 {
		t.Fatalf("logged %s", logged.String())
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "none"))
	s.Ready()
	if !strings.Contains(logged.String(), "NOTIFY_SOCKET") {
		t.Fatalf("logged %q", logged.String())
	}
}

// Goal: a socket handed over as systemd does it is found by its name, and served. Method: the
// test runs itself as the service; LISTEN_PID has to be the service's, so a shell sets it.
func TestListener_HandedOver(t *testing.T) {
	if os.Getenv("TRINAS_TEST_SERVICE") != "" {
		serve(t)
		return
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" -test.run=TestListener_HandedOver`, os.Args[0])
	cmd.Env = append(os.Environ(), "TRINAS_TEST_SERVICE=1", "LISTEN_FDS=1", "LISTEN_FDNAMES=nfs")
	cmd.ExtraFiles = []*os.File{f}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := cmd.Wait(); err != nil {
			t.Errorf("service: %v\n%s", err, out.String())
		}
	}()
	conn, err := net.DialTimeout("tcp", l.Addr().String(), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	b := make([]byte, 5)
	if n, err := conn.Read(b); err != nil || string(b[:n]) != "hello" {
		t.Errorf("got %q, %v", b[:n], err)
	}
}

func serve(t *testing.T) {
	l, err := Listener("nfs")
	if err != nil || l == nil {
		t.Fatalf("listener: %v, %v", l, err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	conn.Write([]byte("hello"))
	conn.Close()
	if again, err := Listener("nfs"); again != nil || err != nil {
		t.Fatalf("second call: %v, %v", again, err)
	}
}

func TestListener_None(t *testing.T) {
	t.Setenv("LISTEN_FDS", "")
	if l, err := Listener("nfs"); l != nil || err != nil {
		t.Fatalf("got %v, %v", l, err)
	}
}
