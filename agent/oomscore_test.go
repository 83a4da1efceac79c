package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Goal: an agent that nobody gave an OOM score gives itself one; one that was given a score keeps
// it. Method: this test's program again, in a process of its own, since a score once raised cannot
// be taken back without privilege.
func TestProtectFromOOM(t *testing.T) {
	const child = "TRINAS_TEST_OOM_SCORE"
	if before := os.Getenv(child); before != "" {
		if err := os.WriteFile(oomScoreFile, []byte(before), 0); err != nil {
			t.Fatal(err)
		}
		if err := protectFromOOM(); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(oomScoreFile)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("score=%s.", strings.TrimSpace(string(b)))
		return
	}
	if !hasCapability(t, unix.CAP_SYS_RESOURCE) {
		t.Skip("a lower OOM score needs CAP_SYS_RESOURCE")
	}
	for before, want := range map[string]string{"0": "-900", "-500": "-500", "300": "300"} {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestProtectFromOOM$", "-test.v")
		cmd.Env = append(os.Environ(), child+"="+before)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "score="+want+".") {
			t.Errorf("from %s, want %s: %v: %s", before, want, err, out)
		}
	}
}

// hasCapability reports whether this process has a capability.
func hasCapability(t *testing.T, capability int) bool {
	t.Helper()
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		t.Fatal(err)
	}
	return data[capability/32].Effective&(1<<(capability%32)) != 0
}
