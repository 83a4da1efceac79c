package lab

import (
	"context"

	"github.com/willscott/go-nfs"

	"trinas/agent/drill"
	"trinas/nfsgw/nfs3"
)

// MakeFolder makes a folder in the one that in names. One that is there is no error.
func MakeFolder(ctx context.Context, in *drill.File, name string) error {
	err := in.Patiently(ctx, "mkdir", func(ctx context.Context, c *nfs3.Client, handle []byte) error {
		_, err := c.MkDir(ctx, handle, name, 0o755)
		return err
	})
	if drill.IsStatus(err, nfs.NFSStatusExist) {
		return nil
	}
	return err
}
