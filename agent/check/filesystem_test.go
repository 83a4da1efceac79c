package check

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"trinas/replica/disk"
)

// Goal: a data directory that cannot hold a replica is refused by the name of its file system,
// without being touched: the directories named here do not exist.
func TestFileSystem_Kinds(t *testing.T) {
	h := fakeHost(t, map[string]string{"proc/self/mounts": "/dev/sda1 / ext4 rw 0 0\ntmpfs /mem tmpfs rw 0 0\n" +
		"nas:/x /nas nfs4 rw 0 0\noverlay /box overlay rw 0 0\n/dev/sdb1 /nas/local xfs rw 0 0\n"})
	for path, want := range map[string]string{
		"/mem/trinas": "error|in memory (tmpfs)|ext4", "/nas": "error|is on nfs4|local", "/box/x": "error|overlay|ext4",
	} {
		s := subject()
		s.Config.DataDir = path
		expect(t, checkFileSystem(t.Context(), s, h), want)
	}
	if m, ok := h.mountOf("/nas/local/trinas"); !ok || m.fsType != "xfs" {
		t.Errorf("mount: %+v", m)
	}
	if m, ok := h.mountOf("/nasty"); !ok || m.fsType != "ext4" {
		t.Errorf("mount: %+v", m)
	}
	s := subject()
	s.Config.DataDir = "/nas/trinas"
	expect(t, checkDisk(t.Context(), s, h)) // never written to
}

// Goal: a real directory is tested and left as it was; one that is not there yet is looked at
// through the one above it; a file in its place is named.
func TestFileSystem_Real(t *testing.T) {
	dir := t.TempDir()
	h := fakeHost(t, map[string]string{"proc/self/mounts": "/dev/sda1 / ext4 rw 0 0\n/dev/sdb1 " + dir + "/ro ext4 ro 0 0\n"})
	s := subject()
	s.Config.DataDir, s.Config.Log.Limit = filepath.Join(dir, "not", "yet"), 1
	got := checkFileSystem(t.Context(), s, h)
	if len(got) != 2 {
		t.Fatalf("%+v", got)
	}
	expect(t, got[:1], "ok|"+dir+" is on ext4, which can make holes")
	s.Config.DataDir = dir + "/ro"
	expect(t, checkFileSystem(t.Context(), s, h)[2:], "error|read-only|dmesg")
	disked := checkDisk(t.Context(), s, h)
	if len(disked) != 1 || disked[0].Level == Error {
		t.Errorf("disk: %+v", disked)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.Config.DataDir = file + "/x"
	if got := checkFileSystem(t.Context(), s, h); got[0].Level != Error {
		t.Errorf("below a file: %+v", got)
	}
}

func TestDisk_Judge(t *testing.T) {
	times := make([]time.Duration, 100)
	for i := range times {
		times[i] = time.Duration(i+1) * 50 * time.Microsecond
	}
	expect(t, []Finding{judgeSync("/d", times)}, "ok|takes 2.55ms (median of 100; 1 of 100 over 5ms)")
	for i := range times {
		times[i] *= 10
	}
	expect(t, []Finding{judgeSync("/d", times)}, "warning|25.5ms|data centre")
}

func TestSpace_Judge(t *testing.T) {
	const gib = 1 << 30
	for free, want := range map[uint64]string{50 * gib: "ok|50.0 GiB of 100.0 GiB", 4 * gib: "warning|4.0 GiB|make room", gib / 8: "error|0.1 GiB|no space left"} {
		expect(t, []Finding{judgeSpace("/d", disk.Space{TotalBytes: 100 * gib, FreeBytes: free}, 2*gib)}, want)
	}
	expect(t, []Finding{judgeSpace("/d", disk.Space{TotalBytes: 4 * gib, FreeBytes: gib}, 2*gib)}, "warning|1.0 GiB|log.limit")
}
