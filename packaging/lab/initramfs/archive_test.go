package initramfs

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Goal: what the archive holds comes out of another program's reader as it went in.
func TestArchive(t *testing.T) {
	cpio, err := exec.LookPath("cpio")
	if err != nil {
		t.Skip(err)
	}
	var a Archive
	a.Dir("folder")
	content := bytes.Repeat([]byte("12345"), 1001) // not a multiple of four
	a.File("folder/file", content)
	a.File("empty", nil)
	a.Link("link", "folder/file")
	dir := t.TempDir()
	cmd := exec.Command(cpio, "-i", "-d", "--quiet")
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(a.Finish())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cpio: %v: %s", err, out)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "link")); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes came out, %v", len(got), err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "empty")); err != nil || len(got) != 0 {
		t.Errorf("empty file: %q, %v", got, err)
	}
}
