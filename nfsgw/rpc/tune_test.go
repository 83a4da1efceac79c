package rpc

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Goal: replies to this host's guests are not paced by BBR; other hosts' connections stay as the system has them.
// Method: a connection that has BBR is tuned for each.
func TestTune_Congestion(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for remote, want := range map[string]string{"127.0.0.1:900": "reno", "[::1]:900": "reno", "192.0.2.7:900": "bbr"} {
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
		tune(c, netip.MustParseAddrPort(remote), time.Minute)
		raw.Control(func(fd uintptr) {
			got, err := unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
			if err != nil || got != want {
				t.Errorf("%s: congestion control %q, %v, want %s", remote, got, err, want)
			}
		})
	}
}
