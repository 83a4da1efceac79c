package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// recordHeaderBytes is the header of a TLS record (RFC 8446 §5.1): type, version, length.
const recordHeaderBytes = 5

// wire is what lies under a TLS connection: it gathers written records until they are flushed and
// reads many records at once, for TLS itself would do one system call for each record of 16 KiB.
// As it hands records to TLS one at a time, it knows whether a whole one has arrived already.
type wire struct {
	net.Conn

	// Reading: one goroutine at a time, which is TLS's own rule.
	in         []byte
	start, end int // unread bytes: in[start:end]
	left       int // bytes of the current record not handed over yet

	mu      sync.Mutex // TLS writes alerts from whichever goroutine finds the fault
	out     []byte
	holding bool

	// flushNow's; raw is nil where the connection is no socket. try is made once, so that a call
	// allocates nothing.
	raw     syscall.RawConn
	try     func(fd uintptr) bool
	sent    int
	sendErr error
}

// wireWriteBytes bounds what is held back from one write to the network. More is slower: the other
// side could be deciphering already (DESIGN.md has figures).
const wireWriteBytes = 128 << 10

// newWire makes a wire that reads up to readBytes ahead.
func newWire(raw net.Conn, readBytes int) *wire {
	w := &wire{Conn: raw, in: make([]byte, readBytes)}
	if socket, ok := raw.(syscall.Conn); ok {
		w.raw, _ = socket.SyscallConn() // fails when it is closed, which the first use tells
	}
	w.try = func(fd uintptr) bool {
		w.sent, w.sendErr = unix.Write(int(fd), w.out)
		return true
	}
	return w
}

// Read returns bytes of one record only.
func (w *wire) Read(p []byte) (int, error) {
	for w.left == 0 && w.end-w.start < recordHeaderBytes || w.start == w.end {
		if err := w.fill(); err != nil {
			return 0, err
		}
	}
	if w.left == 0 {
		w.left = w.recordBytes()
	}
	n := copy(p, w.in[w.start:min(w.end, w.start+w.left)])
	w.start += n
	w.left -= n
	return n, nil
}

func (w *wire) fill() error {
	if w.start > 0 {
		w.end = copy(w.in, w.in[w.start:w.end])
		w.start = 0
	}
	n, err := w.Conn.Read(w.in[w.end:])
	w.end += n
	if n > 0 {
		return nil
	}
	return err
}

// recordBytes is the length of the record at start, with its header.
func (w *wire) recordBytes() int {
	return recordHeaderBytes + int(binary.BigEndian.Uint16(w.in[w.start+3:]))
}

// ready reports whether TLS can read a record without waiting for the network.
func (w *wire) ready() bool {
	buffered := w.end - w.start
	return w.left == 0 && buffered >= recordHeaderBytes && buffered >= w.recordBytes()
}

// Write sends p, or keeps it when the writer holds.
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.holding && len(w.out) == 0 {
		return w.Conn.Write(p)
	}
	if len(w.out)+len(p) > wireWriteBytes {
		if err := w.flushLocked(); err != nil {
			return 0, err
		}
	}
	w.out = append(w.out, p...)
	if !w.holding { // behind what flushNow has left
		return len(p), w.flushLocked()
	}
	return len(p), nil
}

// hold gathers what is written until flush.
func (w *wire) hold() {
	w.mu.Lock()
	w.holding = true
	w.mu.Unlock()
}

func (w *wire) flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.holding = false
	return w.flushLocked()
}

// flushNow is flush as far as the socket takes it without waiting; the next flush sends the rest.
func (w *wire) flushNow() (all bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.holding = false
	if w.raw == nil {
		return len(w.out) == 0, nil
	}
	if err := w.raw.Write(w.try); err != nil {
		return false, err
	}
	switch {
	case w.sendErr == unix.EAGAIN || w.sendErr == unix.EINTR:
		return false, nil
	case w.sendErr != nil:
		return false, os.NewSyscallError("write", w.sendErr)
	}
	w.out = w.out[:copy(w.out, w.out[w.sent:])]
	return len(w.out) == 0, nil
}

func (w *wire) flushLocked() error {
	if len(w.out) == 0 {
		return nil
	}
	_, err := w.Conn.Write(w.out)
	w.out = w.out[:0]
	return err
}

// dialTCP is the real network.
func dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	var dialer net.Dialer
	return dialer.DialContext(ctx, "tcp", addr)
}

// tune sets what a TCP connection between nodes needs: small frames leave at once (Go's default
// as well), and a peer that went away without a word is noticed after unackedTimeout, be there
// bytes on their way (TCP_USER_TIMEOUT, tcp(7)) or not (keepalive). Where the system's congestion control is BBR, which
// paces by a timer what it sends, which is for far networks, Reno takes its place: everybody may choose that.
func tune(raw net.Conn) error {
	tcp, ok := raw.(*net.TCPConn)
	if !ok {
		return nil
	}
	keepAlive := net.KeepAliveConfig{Enable: true, Idle: keepAliveIdle, Interval: keepAliveIdle / 2, Count: 3}
	if err := errors.Join(tcp.SetNoDelay(true), tcp.SetKeepAliveConfig(keepAlive)); err != nil {
		return fmt.Errorf("set TCP options: %w", err)
	}
	sys, err := tcp.SyscallConn()
	if err != nil {
		return fmt.Errorf("set TCP options: %w", err)
	}
	var set error
	err = sys.Control(func(fd uintptr) {
		ms := int(unackedTimeout.Milliseconds())
		set = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, ms)
		if control, _ := unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION); control == "bbr" {
			_ = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, "reno")
		}
	})
	if err = errors.Join(err, os.NewSyscallError("setsockopt TCP_USER_TIMEOUT", set)); err != nil {
		return fmt.Errorf("set TCP options: %w", err)
	}
	return nil
}
