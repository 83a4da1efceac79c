package lab

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/willscott/go-nfs"

	"trinas/nfsgw/nfs3"
	"trinas/nfsgw/rpc"
)

const (
	retryInterval = 20 * time.Millisecond // between two attempts while the gateway does not serve
	callTimeout   = 20 * time.Second      // an attempt without an answer for so long is made again
)

// File is one file of a volume, reached by NFS through a node's gateway. It is as patient as a
// hard mount: a call is made again, over a new connection where need be, until it is answered or
// its ctx ends. For one goroutine at a time.
type File struct {
	node         *Node
	volume, name string
	create       bool

	client *nfs3.Client // nil while not connected
	handle []byte
}

// File names a file in a volume's root directory, "" for that directory. create: it is made when it is
// not there.
// Nothing happens before the first call.
func (n *Node) File(volume, name string, create bool) *File {
	return &File{node: n, volume: volume, name: name, create: create}
}

// Write writes p, at most nfs3.MaxIOBytes, and returns once the gateway has answered that it is
// durable (FILE_SYNC).
func (f *File) Write(ctx context.Context, p []byte, offset int64) error {
	return f.patiently(ctx, "write", func(ctx context.Context) error {
		n, _, err := f.client.Write(ctx, f.handle, uint64(offset), p, nfs3.FileSync)
		if err == nil && int(n) != len(p) {
			return fmt.Errorf("the server took %d of %d bytes", n, len(p))
		}
		return err
	})
}

// Read returns length bytes, or fewer at the file's end.
func (f *File) Read(ctx context.Context, length int, offset int64) (data []byte, err error) {
	err = f.patiently(ctx, "read", func(ctx context.Context) error {
		data, _, err = f.client.Read(ctx, f.handle, uint64(offset), uint32(length))
		return err
	})
	return data, err
}

// Attr returns the file's attributes.
func (f *File) Attr(ctx context.Context) (attr nfs3.Attr, err error) {
	err = f.patiently(ctx, "getattr", func(ctx context.Context) error {
		attr, err = f.client.GetAttr(ctx, f.handle)
		return err
	})
	return attr, err
}

// Close ends the connection. The next call makes a new one.
func (f *File) Close() {
	if f.client != nil {
		_ = f.client.Close()
		f.client = nil
	}
}

// MakeDirs makes folders in an export ("/demo") of this host itself, each in the one before it.
func (h *Host) MakeDirs(ctx context.Context, export string, names ...string) error {
	var client *nfs3.Client
	var err error
	nsErr := inNamespace(h.NS, func() { client, err = nfs3.Dial(ctx, nfsAddress, h.Name, true) })
	if err = errors.Join(nsErr, err); err != nil {
		return err
	}
	defer client.Close()
	dir, err := client.Mnt(ctx, export)
	for _, name := range names {
		if err == nil {
			dir, err = client.MkDir(ctx, dir, name, 0o755)
		}
	}
	return err
}

// patiently makes one call until the server has answered it.
func (f *File) patiently(ctx context.Context, verb string, call func(context.Context) error) error {
	for {
		err := f.attempt(ctx, call)
		if err == nil {
			return nil
		}
		if final(err) {
			return fmt.Errorf("%s %s/%s through %s: %w", verb, f.volume, f.name, f.node.Name, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s %s/%s through %s: %w; last answer: %w",
				verb, f.volume, f.name, f.node.Name, ctx.Err(), err)
		case <-time.After(retryInterval):
		}
	}
}

func (f *File) attempt(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if f.client == nil {
		if err := f.connect(ctx); err != nil {
			f.Close()
			return err
		}
	}
	err := call(ctx)
	if status := (*nfs3.StatusError)(nil); err != nil && !errors.As(err, &status) {
		f.Close() // whatever comes next needs a new connection
	}
	return err
}

func (f *File) connect(ctx context.Context) (err error) {
	nsErr := inNamespace(f.node.NS, func() {
		f.client, err = nfs3.Dial(ctx, f.node.NFS(), f.node.Name, true)
	})
	if err = errors.Join(nsErr, err); err != nil {
		return err
	}
	root, err := f.client.Mnt(ctx, "/"+f.volume)
	switch {
	case err != nil:
	case f.name == "":
		f.handle = root
	case f.create:
		f.handle, err = f.client.Create(ctx, root, f.name, 0o644)
	default:
		f.handle, _, err = f.client.Lookup(ctx, root, f.name)
	}
	return err
}

// final reports whether an error is the server's last word: one that it did not say to come back
// with.
func final(err error) bool {
	var status *nfs3.StatusError
	var reply *rpc.ReplyError
	switch {
	case errors.As(err, &status):
		return status.Status != nfs.NFSStatusJukebox
	case errors.As(err, &reply):
		return true
	}
	return false
}

// IsStatus reports whether an error is the NFS status given.
func IsStatus(err error, status nfs.NFSStatus) bool {
	var e *nfs3.StatusError
	return errors.As(err, &e) && e.Status == status
}
