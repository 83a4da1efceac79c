package rescue

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"trinas/replica"
	"trinas/replica/volume"
)

// Goal: a file that cannot be read whole does not hinder the others, is told by each of its names, and what can be read of it
// never has the file's own name. Method: the object of a file with two names is cut, or is gone.
func TestCopy_Damaged(t *testing.T) {
	for name, cut := range map[string]int64{"cut": 100 << 10, "gone": -1} {
		t.Run(name, func(t *testing.T) {
			dir := makeDataDir(t, len(committedOps()))
			object := filepath.Join(dir, replica.VolumeDir(testVolume), fmt.Sprintf("objects/%02x/%016x", diskFile, diskFile))
			want := content()
			lost := len(want)
			if cut < 0 {
				if err := os.Remove(object); err != nil {
					t.Fatal(err)
				}
				want = make([]byte, len(want))
			} else {
				if err := os.Truncate(object, cut); err != nil {
					t.Fatal(err)
				}
				clear(want[cut:])
				lost = 4096 // the one block behind the cut that was written
			}
			told := map[string]string{}
			dest := filepath.Join(t.TempDir(), "out")
			v := vm(t, openStore(t, dir, Options{}))
			c := &Copier{Volume: v, Damaged: func(name, reason string) { told[name] = reason }}
			if err := c.Copy(t.Context(), "", dest); err != nil {
				t.Fatal(err)
			}
			if c.DamagedFiles != 2 || len(told) != 2 || told["images/disk.img"] == "" || told["images/disk2.img"] == "" {
				t.Errorf("%d damaged files: %q", c.DamagedFiles, told)
			}
			if say := fmt.Sprintf("%d of %d bytes cannot be read", lost, len(want)); !strings.Contains(told["images/disk.img"]+told["images/disk2.img"], say) {
				t.Errorf("told %q, not %q", told, say)
			}
			if target, err := os.Readlink(filepath.Join(dest, "latest")); err != nil || target != "images/disk.img" { // copied after it
				t.Errorf("the symbolic link: %q, %v", target, err)
			}
			for _, name := range []string{"images/disk.img", "images/disk2.img"} {
				if _, err := os.Lstat(filepath.Join(dest, name)); !os.IsNotExist(err) {
					t.Errorf("%s is there: %v", name, err)
				}
				if got, err := os.ReadFile(filepath.Join(dest, name+DamagedSuffix)); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: %v, %d bytes, not what can be read", name+DamagedSuffix, err, len(got))
				}
			}
			if _, err := v.readAt(volume.Attr{File: diskFile, Gen: testTerm}, "images/disk.img", make([]byte, 10), 290<<10); err == nil {
				t.Error("a damaged range was read")
			}
			again := &Copier{Volume: v}
			if err := os.WriteFile(filepath.Join(dest, "disk.img"+DamagedSuffix), []byte("mine"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := again.Copy(t.Context(), "images/disk.img", filepath.Join(dest, "disk.img")); err == nil {
				t.Error("a file that was there was overwritten")
			}
			if got, err := os.ReadFile(filepath.Join(dest, "disk.img"+DamagedSuffix)); err != nil || string(got) != "mine" {
				t.Errorf("a file that was there: %q, %v", got, err)
			}
		})
	}
}
