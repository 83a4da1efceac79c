package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Values of /proc/net/tcp (Documentation/networking/proc_net_tcp.rst in Linux).
const (
	stateEstablished = 1
	timerKeepalive   = 2
	clockTick        = 10 * time.Millisecond // USER_HZ
)

// socket is the kernel's view of the server's end of a connection.
type socket struct {
	state  int
	queued int           // bytes that the client has not acknowledged
	timer  int           // the one that is set; 0: none
	due    time.Duration // when it runs out
	probes int           // sent, and not answered
}

// sockets returns the server's ends of a crowd's connections, by the crowd's; those that are closed
// are missing. The server must be in this network namespace.
func (c *crowd) sockets() (map[net.Conn]socket, error) {
	wanted := map[string]net.Conn{}
	for _, nc := range c.conns {
		wanted[hex(nc.RemoteAddr())+" "+hex(nc.LocalAddr())] = nc
	}
	found := map[net.Conn]socket{}
	// A server that listens on any address does so on an IPv6 socket.
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) < 9 {
				continue
			}
			nc := wanted[ipv4(f[1])+" "+ipv4(f[2])]
			if nc == nil {
				continue
			}
			var k socket
			var due int
			_, err := fmt.Sscanf(f[3]+" "+f[4][:8]+" "+f[5]+" "+f[8], "%x %x %x:%x %d", &k.state, &k.queued, &k.timer, &due, &k.probes)
			if err != nil {
				return nil, fmt.Errorf("%s: %q: %w", file, line, err)
			}
			k.due = time.Duration(due) * clockTick
			found[nc] = k
		}
	}
	return found, nil
}

// expect checks that the server has at least so many of a crowd's connections, and that what is wanted
// holds for each of them.
func (c *crowd) expect(what string, least int, holds func(socket) bool) error {
	sockets, err := c.sockets()
	if err == nil && len(sockets) < least {
		err = fmt.Errorf("the server has %d of %d connections", len(sockets), len(c.conns))
	}
	for nc, k := range sockets {
		if !holds(k) {
			return errors.Join(err, fmt.Errorf("connection from %s: want %s, it has %+v", nc.LocalAddr(), what, k))
		}
	}
	return err
}

// expectSoon is expect, for what becomes true once the agent has taken the connections: the kernel
// does that before it.
func (c *crowd) expectSoon(ctx context.Context, what string, least int, holds func(socket) bool) error {
	for deadline := time.Now().Add(dialTimeout); ; {
		err := c.expect(what, least, holds)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// sendingTo is the part of a crowd that the server has replies for which it cannot send.
func (c *crowd) sendingTo() (*crowd, error) {
	sockets, err := c.sockets()
	part := &crowd{}
	for nc, k := range sockets {
		if k.state == stateEstablished && k.queued > 0 {
			part.conns = append(part.conns, nc)
		}
	}
	return part, err
}

// awaitGone waits until the server has closed all connections; it need not have got that across.
func (c *crowd) awaitGone(ctx context.Context, deadline time.Time) error {
	for {
		sockets, err := c.sockets()
		left := 0
		for _, k := range sockets {
			if k.state == stateEstablished {
				left++
			}
		}
		switch {
		case err != nil || left == 0:
			return err
		case time.Now().After(deadline):
			return fmt.Errorf("the server keeps %d of %d connections", left, len(c.conns))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// hex is an address as /proc/net/tcp has it: "0100007F:0801" on a machine that is little-endian.
func hex(a net.Addr) string {
	tcp := a.(*net.TCPAddr)
	ip := tcp.IP.To4()
	return fmt.Sprintf("%02X%02X%02X%02X:%04X", ip[3], ip[2], ip[1], ip[0], tcp.Port)
}

// ipv4 is the IPv4 part of an address of /proc/net/tcp6 that is one; others stay as they are.
func ipv4(text string) string {
	const mapped = "0000000000000000FFFF0000"
	return strings.TrimPrefix(text, mapped)
}

// deafen makes the kernel drop all that comes for a connection before TCP sees it: to the other side
// it is as if this host had gone.
func deafen(nc net.Conn) error {
	raw, err := nc.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	filter := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}} // keep no byte
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	var optErr error
	err = raw.Control(func(fd uintptr) {
		optErr = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program)
	})
	return errors.Join(err, optErr)
}
