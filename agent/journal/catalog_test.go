package journal

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Goal: systemd takes the catalog and finds every event in it. Method: journalctl builds its
// database from the file, below a root of its own, and shows each entry.
func TestCatalog_Systemd(t *testing.T) {
	journalctl, err := exec.LookPath("journalctl")
	if err != nil {
		t.Skip("systemd's journalctl is not here")
	}
	root := t.TempDir()
	for _, dir := range []string{"usr/lib/systemd/catalog", "var/lib/systemd/catalog", "etc"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "usr/lib/systemd/catalog/trinas.catalog"), Catalog(), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(journalctl, "--root="+root, "--update-catalog").CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("journalctl --update-catalog: %v\n%s", err, out)
	}
	for _, e := range Events() {
		out, err := exec.Command(journalctl, "--root="+root, "--dump-catalog", e.ID).CombinedOutput()
		text := string(out)
		if err != nil || !strings.Contains(text, "Subject: "+e.Text) || !strings.Contains(text, e.Meaning) ||
			!strings.Contains(text, e.Next) {
			t.Errorf("%s: %v\n%s", e.Name, err, text)
		}
	}
}
