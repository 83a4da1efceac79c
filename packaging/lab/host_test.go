package lab

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// needNamespaces skips a test where namespaces cannot be had.
func needNamespaces(t *testing.T) context.Context {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	if err := Need("ip"); err != nil {
		t.Skip(err)
	}
	host, err := OpenHost(t.Context(), "try")
	if err != nil {
		t.Skip(err)
	}
	if err := host.Close(); err != nil {
		t.Fatal(err)
	}
	return t.Context()
}

// Hosts of a network reach one another, their loopbacks are their own, and nothing is left.
func TestNetwork(t *testing.T) {
	ctx := needNamespaces(t)
	w, err := openNetwork(ctx, "", []string{"n1", "n2"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	listeners := map[string]net.Listener{}
	for _, address := range []string{"127.0.0.1:2049", "10.77.0.1:7370"} {
		if err := inNamespace(w.hosts[0].NS, func() { listeners[address], err = net.Listen("tcp4", address) }); err != nil {
			t.Fatal(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer listeners[address].Close()
	}
	reach := func(host int, address string) bool {
		var conn net.Conn
		var err error
		dialer := net.Dialer{Timeout: 5 * time.Second}
		if nsErr := inNamespace(w.hosts[host].NS, func() { conn, err = dialer.Dial("tcp4", address) }); nsErr != nil {
			t.Fatal(nsErr)
		}
		if err == nil {
			conn.Close()
		}
		return err == nil
	}
	if !reach(0, "127.0.0.1:2049") {
		t.Error("n1 does not reach its own loopback")
	}
	if reach(1, "127.0.0.1:2049") {
		t.Error("n2 reaches n1's loopback")
	}
	if !reach(1, "10.77.0.1:7370") {
		t.Error("n2 does not reach n1")
	}
	// A process that is left behind goes with its host.
	left := w.hosts[1].Command(ctx, "sleep", "1000")
	if err := left.Start(); err != nil {
		t.Fatal(err)
	}
	namespaces := []string{w.hub.NS, w.hosts[0].NS, w.hosts[1].NS}
	for _, err := range []error{w.close(), w.close()} {
		if err != nil {
			t.Error(err)
		}
	}
	if err := left.Wait(); err == nil || left.ProcessState.Success() {
		t.Error("a process outlived its host")
	}
	for _, ns := range namespaces {
		if _, err := os.Stat(filepath.Join(namespaceDir, ns)); err == nil {
			t.Errorf("namespace %s is still there", ns)
		}
	}
}

// Two networks of one process, told apart by their labs' names, have the same addresses and no link.
func TestNetwork_Named(t *testing.T) {
	ctx := needNamespaces(t)
	for _, lab := range []string{"", "other-"} {
		w, err := openNetwork(ctx, lab, []string{"n1"})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := w.close(); err != nil {
				t.Error(err)
			}
		}()
	}
}

func TestProcess(t *testing.T) {
	pid := os.Getpid()
	now, peak, err := Memory(pid)
	if err != nil || now < 1<<20 || peak < now {
		t.Errorf("memory: %d now, %d peak, %v", now, peak, err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		used, err := CPU(pid)
		if err != nil {
			t.Fatal(err)
		}
		if used > 0 { // this loop uses some
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no processor time")
		}
	}
	if _, err := CPU(1 << 30); err == nil {
		t.Error("processor time of a process that is not there")
	}
}

func TestMakeDir_Memory(t *testing.T) {
	if _, err := makeDir("/dev/shm"); err == nil || !strings.Contains(err.Error(), "in memory") {
		t.Errorf("a folder in memory: %v", err)
	}
}
