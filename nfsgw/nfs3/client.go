package nfs3

import (
	"context"
	"fmt"

	"github.com/willscott/go-nfs"

	"trinas/nfsgw/rpc"
)

// StatusError is an NFS status that is not NFSStatusOk.
type StatusError struct {
	Proc   string
	Status nfs.NFSStatus
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s: NFS status %d (%s)", e.Proc, uint32(e.Status), e.Status)
}

// Client is a plain NFS client over one TCP connection, for tests and tools. It retries nothing.
// Any number of goroutines may use it at once; the calls then share the connection.
type Client struct {
	rpc  *rpc.Client
	cred rpc.Cred
}

// Dial connects to the server at address and claims to be root on machine. privileged: from a
// source port below 1024.
func Dial(ctx context.Context, address, machine string, privileged bool) (*Client, error) {
	c, err := rpc.Dial(ctx, "tcp", address, privileged)
	if err != nil {
		return nil, fmt.Errorf("connect to NFS server %s: %w", address, err)
	}
	return NewClient(c, rpc.Cred{Flavor: rpc.AuthSys, Machine: []byte(machine)}), nil
}

// NewClient makes calls over c, which it then owns, as cred.
func NewClient(c *rpc.Client, cred rpc.Cred) *Client { return &Client{rpc: c, cred: cred} }

// Close ends the connection.
func (c *Client) Close() error { return c.rpc.Close() }

// Args and Results are what Call takes: any of this package's types.
type (
	Args    interface{ Append([]byte) []byte }
	Results interface{ Decode([]byte) error }
)

// Call makes one NFS call. The error is nil also when the results' status is not NFSStatusOk.
// Slices in the results are the caller's.
func (c *Client) Call(ctx context.Context, proc nfs.NFSProcedure, args Args, res Results) error {
	return c.call(ctx, Program, Version, uint32(proc), proc.String(), args, res)
}

// CallMount makes one MOUNT call.
func (c *Client) CallMount(ctx context.Context, proc nfs.MountProcedure, args Args, res Results) error {
	return c.call(ctx, MountProgram, MountVersion, uint32(proc), "mount "+proc.String(), args, res)
}

func (c *Client) call(ctx context.Context, prog, vers, proc uint32, name string, args Args, res Results) error {
	encode := func(b []byte) []byte { return b }
	if args != nil {
		encode = args.Append
	}
	b, err := c.rpc.Call(ctx, prog, vers, proc, &c.cred, encode)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if res == nil {
		return nil
	}
	if err := res.Decode(b); err != nil {
		return fmt.Errorf("%s: results: %w", name, err)
	}
	return nil
}

func status(proc nfs.NFSProcedure, s nfs.NFSStatus) error {
	if s == nfs.NFSStatusOk {
		return nil
	}
	return &StatusError{proc.String(), s}
}

// Null asks whether the server is there.
func (c *Client) Null(ctx context.Context) error {
	return c.Call(ctx, nfs.NFSProcedureNull, nil, nil)
}

// Mnt returns the handle of an exported directory.
func (c *Client) Mnt(ctx context.Context, path string) (fh []byte, err error) {
	var res MntRes
	if err := c.CallMount(ctx, nfs.MountProcMount, &PathArgs{path}, &res); err != nil {
		return nil, err
	}
	if res.Status != nfs.MountStatusOk {
		return nil, fmt.Errorf("mount %s: status %d", path, res.Status)
	}
	return res.FH, nil
}

// GetAttr returns a file's attributes.
func (c *Client) GetAttr(ctx context.Context, fh []byte) (Attr, error) {
	var res GetAttrRes
	if err := c.Call(ctx, nfs.NFSProcedureGetAttr, &HandleArgs{fh}, &res); err != nil {
		return Attr{}, err
	}
	return res.Attr, status(nfs.NFSProcedureGetAttr, res.Status)
}

// Lookup returns the handle and attributes of a name.
func (c *Client) Lookup(ctx context.Context, dir []byte, name string) ([]byte, Attr, error) {
	var res LookupRes
	if err := c.Call(ctx, nfs.NFSProcedureLookup, &NameArgs{dir, name}, &res); err != nil {
		return nil, Attr{}, err
	}
	return res.FH, res.Obj.Attr, status(nfs.NFSProcedureLookup, res.Status)
}

// Create makes a regular file, or finds the one of that name (UNCHECKED).
func (c *Client) Create(ctx context.Context, dir []byte, name string, mode uint32) ([]byte, error) {
	var res CreateRes
	args := &CreateArgs{NameArgs: NameArgs{dir, name}, Set: SetAttrs{Mode: &mode}}
	if err := c.Call(ctx, nfs.NFSProcedureCreate, args, &res); err != nil {
		return nil, err
	}
	return res.FH, status(nfs.NFSProcedureCreate, res.Status)
}

// MkDir makes a directory.
func (c *Client) MkDir(ctx context.Context, dir []byte, name string, mode uint32) ([]byte, error) {
	var res CreateRes
	args := &MkDirArgs{NameArgs: NameArgs{dir, name}, Set: SetAttrs{Mode: &mode}}
	if err := c.Call(ctx, nfs.NFSProcedureMkDir, args, &res); err != nil {
		return nil, err
	}
	return res.FH, status(nfs.NFSProcedureMkDir, res.Status)
}

// Remove removes a name that is no directory.
func (c *Client) Remove(ctx context.Context, dir []byte, name string) error {
	var res WccRes
	if err := c.Call(ctx, nfs.NFSProcedureRemove, &NameArgs{dir, name}, &res); err != nil {
		return err
	}
	return status(nfs.NFSProcedureRemove, res.Status)
}

// Write writes data, at most MaxIOBytes, and returns how many bytes the server took and its
// write verifier. What was written Unstable is durable after a Commit with the same verifier.
func (c *Client) Write(ctx context.Context, fh []byte, offset uint64, data []byte, how Stable) (
	n uint32, verifier uint64, err error) {
	var res WriteRes
	args := &WriteArgs{FH: fh, Offset: offset, Stable: how, Data: data}
	if err := c.Call(ctx, nfs.NFSProcedureWrite, args, &res); err != nil {
		return 0, 0, err
	}
	return res.Count, res.Verifier, status(nfs.NFSProcedureWrite, res.Status)
}

// Read reads up to count bytes, at most MaxIOBytes.
func (c *Client) Read(ctx context.Context, fh []byte, offset uint64, count uint32) (
	data []byte, eof bool, err error) {
	var res ReadRes
	if err := c.Call(ctx, nfs.NFSProcedureRead, &ReadArgs{fh, offset, count}, &res); err != nil {
		return nil, false, err
	}
	return res.Data, res.EOF, status(nfs.NFSProcedureRead, res.Status)
}

// Commit makes durable what was written to a file before, and returns the write verifier.
func (c *Client) Commit(ctx context.Context, fh []byte) (verifier uint64, err error) {
	var res CommitRes
	if err := c.Call(ctx, nfs.NFSProcedureCommit, &ReadArgs{FH: fh}, &res); err != nil {
		return 0, err
	}
	return res.Verifier, status(nfs.NFSProcedureCommit, res.Status)
}
