package sim

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"trinas/replica/volume"
)

// Goal: folders are made with those above them, through any node and by several at the same time; again
// is no error; a file in the way, and a way out of the volume, are.
func TestCluster_MakeFolders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(t, 35, 3)
		vol := c.Volume("v")
		c.create(vol, "file")
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		done := make(chan error, 3)
		for node := uint64(1); node <= 3; node++ {
			go func() {
				done <- c.Node(node).MakeFolders(ctx, "v", []string{"images", "template/iso", "/template//cache/"})
			}()
		}
		for range 3 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		look := func(in volume.Attr, name string) volume.Attr {
			op := volume.Op{Kind: volume.Lookup, File: in.File, Gen: in.Gen, Name: name}
			res, err := c.Do(2, vol, op, time.Second)
			if err != nil || res.Err != volume.OK || res.Obj.After.Mode != 0o755 || res.Obj.After.Type != volume.Directory {
				t.Errorf("%s: %+v, %v", name, res, err)
			}
			return res.Obj.After
		}
		root := volume.Attr{File: volume.RootID, Gen: 1}
		look(root, "images")
		look(look(root, "template"), "iso")
		look(look(root, "template"), "cache")
		for path, why := range map[string]string{
			"file":                           "is no folder",
			"file/x":                         "is no folder",
			"images/..":                      "without . and ..",
			strings.Repeat("x/", maxDepth+1): "at most",
			strings.Repeat("x", 300):         "cannot be made",
		} {
			if err := c.Node(1).MakeFolders(ctx, "v", []string{path}); err == nil || !strings.Contains(err.Error(), why) {
				t.Errorf("%.40s: %v", path, err)
			}
		}
		if err := c.Node(1).MakeFolders(ctx, "none", nil); err == nil {
			t.Error("no such volume: no error")
		}
	})
}

const maxDepth = 16
