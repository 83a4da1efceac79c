package rpc

import (
	"context"
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// ListenFree is net.Listen for an address that no interface may have yet (ip(7), IP_FREEBIND):
// clients reach the listener as soon as one has it, whatever comes first at boot.
func ListenFree(network, address string) (net.Listener, error) {
	return (&net.ListenConfig{Control: freeBind}).Listen(context.Background(), network, address)
}

// listenPacketFree is the same for datagrams.
func listenPacketFree(network, address string) (net.PacketConn, error) {
	return (&net.ListenConfig{Control: freeBind}).ListenPacket(context.Background(), network, address)
}

func freeBind(network, _ string, raw syscall.RawConn) error {
	level, option := unix.IPPROTO_IP, unix.IP_FREEBIND
	if network == "tcp6" || network == "udp6" {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_FREEBIND
	}
	var set error
	err := raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), level, option, 1) })
	return errors.Join(err, set)
}
