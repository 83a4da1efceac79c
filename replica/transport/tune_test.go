package transport

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// Goal: no connection between nodes is paced by BBR. Method: one that has it is tuned.
func TestTune_Congestion(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	c, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		if err := unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, "bbr"); err != nil {
			t.Skip("this kernel has no BBR:", err)
		}
	})
	if err := tune(c); err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		got, err := unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
		if err != nil || got != "reno" {
			t.Errorf("congestion control %q, %v, want reno", got, err)
		}
	})
}
