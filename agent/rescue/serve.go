package rescue

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	billy "github.com/go-git/go-billy/v5"
	nfs "github.com/willscott/go-nfs"

	"trinas/replica/volume"
)

// ServeOptions say how to serve.
type ServeOptions struct {
	// PrivilegedPorts refuses clients whose source port is 1024 or above: any local user could
	// otherwise read everything.
	PrivilegedPorts bool
}

// Serve answers MOUNT and NFSv3 requests on l, each volume as /NAME, read-only, until ctx ends.
// It closes l. The NFS server is go-nfs; it needs a client that is told the port
// (mount -o port=P,mountport=P).
func (s *Store) Serve(ctx context.Context, l net.Listener, opt ServeOptions) error {
	h := newHandler(s)
	watched := newListener(l, opt.PrivilegedPorts)
	stop := context.AfterFunc(ctx, watched.closeAll)
	defer stop()
	err := (&nfs.Server{Handler: h, Context: ctx}).Serve(watched)
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("serve %s: %w", l.Addr(), err)
}

// listener bounds go-nfs's connections and closes them at the end, which it does not do itself.
type listener struct {
	net.Listener
	privileged bool

	mu   sync.Mutex
	open map[*conn]time.Time // when bytes last came from it
}

func newListener(l net.Listener, privileged bool) *listener {
	return &listener{Listener: l, privileged: privileged, open: map[*conn]time.Time{}}
}

const maxConns = 64 // connections at once; one more closes the one that was quiet longest

func (l *listener) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if a, ok := nc.RemoteAddr().(*net.TCPAddr); l.privileged && (!ok || a.Port >= 1024) {
			nc.Close()
			continue
		}
		c := &conn{Conn: nc, of: l}
		if quiet := l.add(c); quiet != nil {
			quiet.Close()
		}
		return c, nil
	}
}

// add notes a new connection. When there were too many it returns the one to close.
func (l *listener) add(c *conn) (quiet *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open) >= maxConns {
		for o, last := range l.open {
			if quiet == nil || last.Before(l.open[quiet]) {
				quiet = o
			}
		}
	}
	l.open[c] = time.Now()
	return quiet
}

func (l *listener) closeAll() {
	l.Listener.Close()
	l.mu.Lock()
	open := slices.Collect(maps.Keys(l.open))
	l.mu.Unlock()
	for _, c := range open {
		c.Close()
	}
}

type conn struct {
	net.Conn
	of *listener
}

// Read closes the connection when it fails: go-nfs (v0.0.4, conn.go) does so only at a clean end.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.Close()
		return n, err
	}
	c.of.mu.Lock()
	if _, open := c.of.open[c]; open {
		c.of.open[c] = time.Now()
	}
	c.of.mu.Unlock()
	return n, nil
}

func (c *conn) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

// exported is a served volume. go-nfs knows files by path, its clients by handle; places leads
// from one to the other.
type exported struct {
	*Volume

	mu     sync.Mutex
	places map[volume.FileID]place // bounded by the volume's files
	walked bool                    // places holds every file
}

// place is one name of a file.
type place struct {
	parent volume.FileID
	name   string
}

// nfsHandler is go-nfs's view of the store.
//
//	handle   0        8        16
//	         | volume | file id |    both big endian
type nfsHandler struct {
	volumes map[uint64]*exported
}

const handleBytes = 16

func newHandler(s *Store) *nfsHandler {
	h := &nfsHandler{volumes: map[uint64]*exported{}}
	for _, v := range s.volumes {
		if v.Err == nil {
			h.volumes[uint64(v.replica.Info().ID)] = &exported{Volume: v, places: map[volume.FileID]place{}}
		}
	}
	return h
}

func (h *nfsHandler) Mount(_ context.Context, _ net.Conn, req nfs.MountRequest) (nfs.MountStatus, billy.Filesystem, []nfs.AuthFlavor) {
	name := strings.Trim(string(req.Dirpath), "/")
	for _, v := range h.volumes {
		if v.Name == name {
			return nfs.MountStatusOk, billyView{v.Volume}, []nfs.AuthFlavor{nfs.AuthFlavorUnix, nfs.AuthFlavorNull}
		}
	}
	return nfs.MountStatusErrNoEnt, nil, nil
}

// Change is nil: nothing can be changed.
func (h *nfsHandler) Change(billy.Filesystem) billy.Change { return nil }

func (h *nfsHandler) FSStat(_ context.Context, view billy.Filesystem, st *nfs.FSStat) error {
	if v, ok := view.(billyView); ok {
		st.TotalSize, st.FreeSize, st.AvailableSize = v.volume.UsedBytes, 0, 0
		st.TotalFiles, st.FreeFiles, st.AvailableFiles = v.volume.Files, 0, 0
	}
	return nil
}

// ToHandle names the file at parts, which go-nfs has just looked at. An empty handle, which no
// client is ever given by success, stands for one that cannot be found.
func (h *nfsHandler) ToHandle(view billy.Filesystem, parts []string) []byte {
	v, ok := view.(billyView) // go-nfs passes nil when a mount was refused
	if !ok {
		return nil
	}
	id := uint64(v.volume.replica.Info().ID)
	parent, err := v.volume.Lookup(strings.Join(parts[:max(len(parts)-1, 0)], "/"))
	if err != nil {
		return nil
	}
	file := parent.File
	if len(parts) > 0 {
		attr, err := v.volume.Lookup(strings.Join(parts, "/"))
		if err != nil {
			return nil
		}
		file = attr.File
		h.volumes[id].learn(file, place{parent: parent.File, name: parts[len(parts)-1]})
	}
	out := make([]byte, 0, handleBytes)
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(out, id), uint64(file))
}

var errStale = errors.New("file handle of another file system")

func (h *nfsHandler) FromHandle(handle []byte) (billy.Filesystem, []string, error) {
	if len(handle) != handleBytes {
		return nil, nil, errStale
	}
	v := h.volumes[binary.BigEndian.Uint64(handle)]
	if v == nil {
		return nil, nil, errStale
	}
	parts, err := v.path(volume.FileID(binary.BigEndian.Uint64(handle[8:])))
	return billyView{v.Volume}, parts, err
}

func (h *nfsHandler) InvalidateHandle(billy.Filesystem, []byte) error { return nil }

// HandleLimit is how many handles clients may use at once: as many as there are files.
func (h *nfsHandler) HandleLimit() int { return 1 << 30 }

func (e *exported) learn(file volume.FileID, p place) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.places[file] = p
}

// path leads from a file to its names from the root on. A handle given out by an earlier process
// is found by walking the volume, once.
func (e *exported) path(file volume.FileID) ([]string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, known := e.places[file]; !known && file != volume.RootID && !e.walked {
		root, err := e.Lookup("")
		if err == nil {
			err = e.walk(root, "")
		}
		if err != nil {
			return nil, err
		}
		e.walked = true
	}
	parts := []string{}
	for file != volume.RootID {
		p, known := e.places[file]
		if !known {
			return nil, fmt.Errorf("file %d: %w", file, fs.ErrNotExist)
		}
		parts = append([]string{p.name}, parts...)
		file = p.parent
	}
	return parts, nil
}

// walk learns every file beneath dir. The caller holds mu.
func (e *exported) walk(dir volume.Attr, name string) error {
	entries, err := e.ReadDir(dir, name)
	if err != nil {
		return err
	}
	for _, f := range entries {
		e.places[f.Attr.File] = place{parent: dir.File, name: f.Name}
		if f.Attr.Type == volume.Directory {
			if err := e.walk(f.Attr, name+"/"+f.Name); err != nil {
				return err
			}
		}
	}
	return nil
}
