package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/willscott/go-nfs"

	"trinas/nfsgw/nfs3"
	"trinas/nfsgw/rpc"
)

// raw makes calls without the kernel, which never sends some forms of them.
type raw struct {
	relay  string // address
	volume string
}

// createGuarded makes file new in a folder by CREATE GUARDED, which no other file may be there for.
func (r raw) createGuarded(folder string) error {
	return r.with(folder, func(ctx context.Context, c *nfs3.Client, dir []byte) error {
		var res nfs3.CreateRes
		args := nfs3.CreateArgs{NameArgs: nfs3.NameArgs{FH: dir, Name: "new"}, How: nfs3.Guarded}
		err := c.Call(ctx, nfs.NFSProcedureCreate, &args, &res)
		return errors.Join(err, statusError(res.Status))
	})
}

// truncateGuarded empties file old by a SETATTR that is to fail when the file has changed since it
// was looked at.
func (r raw) truncateGuarded(folder string) error {
	return r.with(folder, func(ctx context.Context, c *nfs3.Client, dir []byte) error {
		file, attr, err := c.Lookup(ctx, dir, "old")
		if err != nil {
			return err
		}
		var res nfs3.WccRes
		args := nfs3.SetAttrArgs{FH: file, Set: nfs3.SetAttrs{Size: new(uint64)}, Guard: &attr.Ctime}
		err = c.Call(ctx, nfs.NFSProcedureSetAttr, &args, &res)
		return errors.Join(err, statusError(res.Status))
	})
}

func statusError(status nfs.NFSStatus) error {
	if status == nfs.NFSStatusOk {
		return nil
	}
	return fmt.Errorf("NFS status %s", status)
}

// with gives f a client and a folder's handle.
func (r raw) with(folder string, f func(ctx context.Context, c *nfs3.Client, dir []byte) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), redialTimeout)
	defer cancel()
	line := &steadyLine{to: r.relay}
	if err := line.dial(); err != nil {
		return err
	}
	c := nfs3.NewClient(rpc.NewClient(line), rpc.Cred{Flavor: rpc.AuthSys, Machine: []byte("guest")})
	defer c.Close()
	dir, err := c.Mnt(ctx, "/"+r.volume)
	for _, name := range strings.Split(path.Clean(folder), "/") {
		if err == nil {
			dir, _, err = c.Lookup(ctx, dir, name)
		}
	}
	if err != nil {
		return err
	}
	return f(ctx, c, dir)
}

// Ports that the kernel's client does not take (it has 665 to 1023).
const lowPort, highPort = 513, 664

const (
	redialTimeout  = 60 * time.Second
	redialInterval = 20 * time.Millisecond
)

// steadyLine is a connection that does what Linux's NFS client does when it breaks: it is made anew
// from the same source port, and what was not answered is sent again as it was. For one call at a
// time.
type steadyLine struct {
	net.Conn // the first one; for what it is asked beside Read, Write and Close
	to       string
	port     int

	mu     sync.Mutex
	now    net.Conn
	sent   []byte // the last record
	closed bool
}

// dial makes the first connection.
func (l *steadyLine) dial() (err error) {
	for l.port = lowPort; l.port <= highPort; l.port++ {
		if l.Conn, err = l.connect(); err == nil {
			l.now = l.Conn
			return nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) && !errors.Is(err, syscall.EADDRNOTAVAIL) {
			break
		}
	}
	return err
}

func (l *steadyLine) connect() (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{Port: l.port}}
	return d.Dial("tcp4", l.to)
}

func (l *steadyLine) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent = append(l.sent[:0], b...)
	return l.now.Write(b)
}

func (l *steadyLine) Read(b []byte) (int, error) {
	for {
		l.mu.Lock()
		now := l.now
		l.mu.Unlock()
		n, err := now.Read(b)
		if n > 0 || err == nil {
			return n, err
		}
		if !l.again() {
			return 0, err
		}
	}
}

// again makes the connection anew; false when it was closed, or nobody takes it.
func (l *steadyLine) again() bool {
	for deadline := time.Now().Add(redialTimeout); time.Now().Before(deadline); time.Sleep(redialInterval) {
		l.mu.Lock()
		_ = l.now.Close()
		if l.closed {
			l.mu.Unlock()
			return false
		}
		nc, err := l.connect()
		if err == nil {
			l.now = nc
			_, err = nc.Write(l.sent)
		}
		l.mu.Unlock()
		if err == nil {
			return true
		}
	}
	return false
}

func (l *steadyLine) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	return l.now.Close()
}
