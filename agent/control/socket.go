package control

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Listen opens the Unix socket at path for root alone (mode 0600). A socket that an agent left
// behind when it was killed is replaced; one that somebody answers on is an error. Closing the
// listener removes the socket.
func Listen(path string) (net.Listener, error) {
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		conn.Close()
		return nil, fmt.Errorf("control socket %s: another agent answers there: stop it, or set control.socket", path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the control socket's directory: %w", err)
	}
	// The socket gets its mode before it gets its name, so that nobody can slip in between.
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l.SetUnlinkOnClose(false)
	err = os.Chmod(fresh, 0o600)
	if err == nil {
		err = os.Rename(fresh, path)
	}
	if err != nil {
		l.Close()
		os.Remove(fresh)
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return &socket{UnixListener: l, path: path}, nil
}

// socket is a listener that removes its name when it is closed, once.
type socket struct {
	*net.UnixListener
	path string
	once sync.Once
	err  error
}

func (s *socket) Close() error {
	s.once.Do(func() { s.err = errors.Join(os.Remove(s.path), s.UnixListener.Close()) })
	return s.err
}
