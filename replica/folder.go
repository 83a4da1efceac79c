package replica

import (
	"context"
	"fmt"

	"trinas/replica/volume"
)

// Bounds of MakeFolders.
const (
	maxFolders     = 64
	maxFolderDepth = 16
)

// MakeFolders makes directories in a volume, with those above them, for root, mode 0755; ones that are
// there stay as they are. Returns once a majority has synced them. Errors: ErrNoVolume, ctx's.
func (n *Node) MakeFolders(ctx context.Context, volumeName string, paths []string) error {
	fail := func(path, why string, a ...any) error {
		return fmt.Errorf("folder %s of volume %q: "+why, append([]any{path, volumeName}, a...)...)
	}
	v, err := n.findVolume(ctx, volumeName)
	if err != nil {
		return err
	}
	if len(paths) > maxFolders {
		return fmt.Errorf("volume %q: more than %d folders at once", volumeName, maxFolders)
	}
	for _, path := range paths {
		at, depth := volume.Attr{File: volume.RootID, Gen: 1}, 0
		for name := range names(path) {
			if depth++; name == "." || name == ".." || depth > maxFolderDepth {
				return fail(path, "give its path from the volume's root, without . and .., at most %d deep", maxFolderDepth)
			}
			next, errno, err := n.makeFolder(ctx, v.ID, at, name)
			switch {
			case err != nil:
				return fail(path, "%w", err)
			case errno != volume.OK:
				return fail(path, "%q cannot be made (errno %d)", name, errno)
			case next.Type != volume.Directory:
				return fail(path, "%q is there and is no folder", name)
			}
			at = next
		}
	}
	return nil
}

// makeFolder makes one directory, or gives the file of that name that is there.
func (n *Node) makeFolder(ctx context.Context, id volume.ID, in volume.Attr, name string) (volume.Attr, volume.Errno, error) {
	mode := uint32(0o755)
	lookup := volume.Op{Kind: volume.Lookup, File: in.File, Gen: in.Gen, Name: name}
	for { // ends: somebody else who makes the same one is done then
		op, res := lookup, volume.Result{}
		if err := n.Do(ctx, id, &op, &res); err != nil || res.Err != volume.ENOENT {
			return res.Obj.After, res.Err, err
		}
		op = volume.Op{Kind: volume.MkDir, File: in.File, Gen: in.Gen, Name: name, Set: volume.SetAttrs{Mode: &mode}}
		res = volume.Result{}
		if err := n.Do(ctx, id, &op, &res); err != nil || res.Err != volume.EEXIST {
			return res.Obj.After, res.Err, err
		}
	}
}
