package drill

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
	dial         Dial
	through      string
	volume, name string
	create       bool

	client *nfs3.Client // nil while not connected
	handle []byte
}

// Dial connects to a gateway.
type Dial func(ctx context.Context) (*nfs3.Client, error)

// NewFile names a file in a volume's root directory, "" for that directory, reached through the gateway of a node (through,
// for messages). create: it is made when it is not there. Nothing happens before the first call.
func NewFile(dial Dial, through, volume, name string, create bool) *File {
	return &File{dial: dial, through: through, volume: volume, name: name, create: create}
}

// Write writes p, at most nfs3.MaxIOBytes, and returns once the gateway has answered that it is
// durable (FILE_SYNC).
func (f *File) Write(ctx context.Context, p []byte, offset int64) error {
	return f.Patiently(ctx, "write", func(ctx context.Context, c *nfs3.Client, handle []byte) error {
		n, _, err := c.Write(ctx, handle, uint64(offset), p, nfs3.FileSync)
		if err == nil && int(n) != len(p) {
			return fmt.Errorf("the server took %d of %d bytes", n, len(p))
		}
		return err
	})
}

// Read returns length bytes, or fewer at the file's end.
func (f *File) Read(ctx context.Context, length int, offset int64) (data []byte, err error) {
	err = f.Patiently(ctx, "read", func(ctx context.Context, c *nfs3.Client, handle []byte) error {
		data, _, err = c.Read(ctx, handle, uint64(offset), uint32(length))
		return err
	})
	return data, err
}

// Attr returns the file's attributes.
func (f *File) Attr(ctx context.Context) (attr nfs3.Attr, err error) {
	err = f.Patiently(ctx, "getattr", func(ctx context.Context, c *nfs3.Client, handle []byte) error {
		attr, err = c.GetAttr(ctx, handle)
		return err
	})
	return attr, err
}

// Remove removes the file. One that is not there is no error.
func (f *File) Remove(ctx context.Context) error {
	err := f.Patiently(ctx, "remove", func(ctx context.Context, c *nfs3.Client, handle []byte) error {
		root, err := c.Mnt(ctx, "/"+f.volume)
		if err != nil {
			return err
		}
		return c.Remove(ctx, root, f.name)
	})
	if IsStatus(err, nfs.NFSStatusNoEnt) {
		return nil
	}
	return err
}

// Close ends the connection. The next call makes a new one.
func (f *File) Close() {
	if f.client != nil {
		_ = f.client.Close()
		f.client = nil
	}
}

// Patiently calls call, with a client of the gateway and the file's handle, until the server has answered
// it. verb is for messages.
func (f *File) Patiently(ctx context.Context, verb string, call func(ctx context.Context, c *nfs3.Client, handle []byte) error) error {
	for {
		err := f.attempt(ctx, call)
		if err == nil {
			return nil
		}
		if final(err) {
			return fmt.Errorf("%s %s/%s through %s: %w", verb, f.volume, f.name, f.through, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s %s/%s through %s: %w; last answer: %w",
				verb, f.volume, f.name, f.through, ctx.Err(), err)
		case <-time.After(retryInterval):
		}
	}
}

func (f *File) attempt(ctx context.Context, call func(context.Context, *nfs3.Client, []byte) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if f.client == nil {
		if err := f.connect(ctx); err != nil {
			f.Close()
			return err
		}
	}
	err := call(ctx, f.client, f.handle)
	if status := (*nfs3.StatusError)(nil); err != nil && !errors.As(err, &status) {
		f.Close() // whatever comes next needs a new connection
	}
	return err
}

func (f *File) connect(ctx context.Context) (err error) {
	if f.client, err = f.dial(ctx); err != nil {
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
