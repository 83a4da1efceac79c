// Package browser shows a page in headless Chromium, for tests. It must never use anything of the user's
// own browser.
//
// Floor 0: imports nothing of trinas.
package browser

import (
	"os"
	"os/exec"
	"testing"
)

// Need skips the test where Chromium is not installed.
func Need(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("chromium"); err != nil {
		t.Skip("chromium is not installed: make deps")
	}
}

// DOM loads an address, lets its scripts go on for some seconds of the page's time, and returns the
// document as it is then. Certificates are not checked.
func DOM(t testing.TB, address string) string {
	t.Helper()
	return run(t, "--dump-dom", address)
}

// Picture is DOM's as a picture: a PNG file at path. options are Chromium's.
func Picture(t testing.TB, address, path string, options ...string) {
	t.Helper()
	run(t, append(options, "--screenshot="+path, address)...)
	// A page that is one colour compresses to a few KiB.
	if info, err := os.Stat(path); err != nil || info.Size() < 20<<10 {
		t.Errorf("picture %s: %v, %v", path, info, err)
	}
}

// Dark and sizes for Picture.
const (
	Dark    = "--blink-settings=preferredColorScheme=0"
	Desktop = "--window-size=1280,1500"
	Phone   = "--window-size=500,2600" // Chromium's windows are no narrower
)

func run(t testing.TB, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "chromium", append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars",
		"--ignore-certificate-errors", "--user-data-dir=" + t.TempDir(), "--virtual-time-budget=6000"}, args...)...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("chromium: %v", err)
	}
	return string(out)
}
