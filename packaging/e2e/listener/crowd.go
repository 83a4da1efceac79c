package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"trinas/nfsgw/nfs3"
	"trinas/nfsgw/rpc"
)

// Who a client is to the agent: its source address. The node's own guests come from 127.0.0.0/8, of
// which a crowd takes the next address when it has used up the ports of one. Other hosts are played
// by addresses that the node is given for it (openHosts).
const (
	neighbourHost = "127.0.0.1"
	idleHost      = "127.0.1.10"
	silentHost    = "127.0.1.20"
	goneHost      = "127.0.1.40"
	brokenHost    = "127.0.1.50"
	userHost      = "127.0.1.60" // from ports that any user may take

	slowHost   = "10.77.0.251"
	greedyHost = "10.77.0.252"
	otherHost  = "10.77.0.253" // means no harm
)

// openHosts gives the node the addresses of the other hosts. They go with the function returned.
func openHosts(ctx context.Context) (closeHosts func() error, err error) {
	change := func(ctx context.Context, verb string) error {
		var errs []error
		for _, host := range []string{slowHost, greedyHost, otherHost} {
			out, err := exec.CommandContext(ctx, "ip", "addr", verb, host+"/32", "dev", "lo").CombinedOutput()
			if err != nil {
				errs = append(errs, fmt.Errorf("ip addr %s %s: %w: %s", verb, host, err, out))
			}
		}
		return errors.Join(errs...)
	}
	return func() error { return change(context.WithoutCancel(ctx), "del") }, change(ctx, "add")
}

// Ports below 1024 that a crowd takes, per address.
const (
	lowPort      = 512
	portsPerHost = 500
)

// dialTimeout bounds one connection: the agent is on the same loopback.
const dialTimeout = 5 * time.Second

// crowd is connections that do the same.
type crowd struct {
	conns []net.Conn
	ended atomic.Int32 // how many the server has closed
	done  sync.WaitGroup
}

// dial connects from the n-th privileged port of a host.
func (s *scenario) dial(host string, n int) (net.Conn, error) {
	ip := net.ParseIP(host).To4()
	ip[3] += byte(n / portsPerHost)
	return s.dialFrom(ip, lowPort+n%portsPerHost)
}

// dialUser connects from a port above 1023.
func (s *scenario) dialUser() (net.Conn, error) { return s.dialFrom(net.ParseIP(userHost), 0) }

// dialFrom connects from an address and port; port 0 is any above 1023. The connection is closed by
// RST, so that its port can be used again at once.
func (s *scenario) dialFrom(ip net.IP, port int) (net.Conn, error) {
	to := "127.0.0.1"
	if !ip.IsLoopback() {
		to = s.agent.Address
	}
	d := net.Dialer{Timeout: dialTimeout, LocalAddr: &net.TCPAddr{IP: ip, Port: port}}
	nc, err := d.Dial("tcp4", net.JoinHostPort(to, nfsPort))
	if err != nil {
		return nil, err
	}
	return nc, nc.(*net.TCPConn).SetLinger(0)
}

// client is an NFS client on the n-th privileged port of a host.
func (s *scenario) client(host string, n int) (*nfs3.Client, error) {
	nc, err := s.dial(host, n)
	if err != nil {
		return nil, err
	}
	return nfs3.NewClient(rpc.NewClient(nc), *root()), nil
}

// gather makes n connections from a host and sends b on each.
func (s *scenario) gather(host string, n int, b []byte) (*crowd, error) {
	c := &crowd{}
	for i := range n {
		nc, err := s.dial(host, i)
		if err == nil && len(b) > 0 {
			_, err = nc.Write(b)
		}
		if err != nil {
			c.close()
			return nil, fmt.Errorf("connection %d of %d: %w", i+1, n, err)
		}
		c.conns = append(c.conns, nc)
	}
	return c, nil
}

// watch notes which connections the server closes. Nothing else may read them.
func (c *crowd) watch() {
	for _, nc := range c.conns {
		c.done.Go(func() {
			_, err := io.Copy(io.Discard, nc)
			if !errors.Is(err, net.ErrClosed) {
				c.ended.Add(1)
			}
		})
	}
}

// awaitEnd waits until the server has closed so many connections: not later than deadline, and none
// before earliest.
func (c *crowd) awaitEnd(ctx context.Context, count int, earliest, deadline time.Time) error {
	defer c.close()
	for {
		ended := int(c.ended.Load())
		now := time.Now()
		switch {
		case ended > 0 && now.Before(earliest):
			return fmt.Errorf("the server closed %d of %d connections %.1f s early", ended, len(c.conns), earliest.Sub(now).Seconds())
		case ended >= count:
			return nil
		case now.After(deadline):
			return fmt.Errorf("the server has closed %d of %d connections", ended, len(c.conns))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// close closes what is open.
func (c *crowd) close() {
	for _, nc := range c.conns {
		_ = nc.Close()
	}
	c.done.Wait()
}

// closedByServer reports whether the server ended a connection on which nothing is to be said.
func closedByServer(nc net.Conn, within time.Duration) (bool, error) {
	if err := nc.SetReadDeadline(time.Now().Add(within)); err != nil {
		return false, err
	}
	n, err := nc.Read(make([]byte, 1))
	switch {
	case n > 0:
		return false, errors.New("the server said something")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return false, nil
	case err == io.EOF, errors.Is(err, syscall.ECONNRESET):
		return true, nil
	}
	return false, err
}
