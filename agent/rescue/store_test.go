package rescue

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"trinas/agent/datadir"
	"trinas/replica"
	"trinas/replica/disk"
	"trinas/replica/volume"
	"trinas/replica/wal"
)

const (
	testVolume = volume.ID(9)
	testTerm   = 3
)

// The files of a test directory have the indexes of the entries that make them.
const (
	dirFile  = 2 // images/
	diskFile = 3 // images/disk.img
	linkFile = 6 // latest -> images/disk.img
)

// content is what images/disk.img holds when everything committed is applied: data, a hole, data.
func content() []byte {
	b := make([]byte, 300<<10)
	for i := range 5000 {
		b[i] = byte(i * 7)
	}
	copy(b[290<<10:], "the end")
	return b
}

// committedOps is a small tree; its last entry has index 7.
func committedOps() []*volume.Op {
	c := content()
	return []*volume.Op{
		{Kind: volume.MkDir, File: volume.RootID, Gen: 1, Name: "images", Time: 1e9},
		{Kind: volume.Create, File: dirFile, Gen: testTerm, Name: "disk.img", How: volume.Guarded, Time: 2e9},
		{Kind: volume.Write, File: diskFile, Gen: testTerm, Data: c[:5000], Time: 3e9},
		{Kind: volume.Write, File: diskFile, Gen: testTerm, Offset: 290 << 10, Data: c[290<<10:], Time: 4e9},
		{Kind: volume.Symlink, File: volume.RootID, Gen: 1, Name: "latest", Target: "images/disk.img", Time: 5e9},
		{Kind: volume.Link, File: diskFile, Gen: testTerm, File2: dirFile, Gen2: testTerm, Name2: "disk2.img", Time: 6e9},
	}
}

// uncommittedOps follow; the node does not know of them to be committed.
func uncommittedOps() []*volume.Op {
	return []*volume.Op{
		{Kind: volume.Write, File: diskFile, Gen: testTerm, Data: []byte("CHANGED"), Time: 7e9},
		{Kind: volume.MkDir, File: volume.RootID, Gen: 1, Name: "late", Time: 8e9},
	}
}

// makeDataDir makes the data directory of a stopped node with one volume, vm. The first
// checkpointed entries of its log are in a checkpoint.
func makeDataDir(t *testing.T, checkpointed int) string {
	t.Helper()
	return makeDataDirKnowing(t, checkpointed, uint64(len(committedOps()))+1)
}

// makeDataDirKnowing makes one whose log has noted entries to be committed up to index commit.
func makeDataDirKnowing(t *testing.T, checkpointed int, commit uint64) string {
	t.Helper()
	dir := t.TempDir()
	base := disk.OS(dir)
	vfs := base.Sub(replica.VolumeDir(testVolume))
	if err := volume.Make(vfs, volume.Info{ID: testVolume, Name: "vm"}, nil); err != nil {
		t.Fatal(err)
	}
	log, err := wal.Open(base.Sub(replica.LogDir), wal.Options{SegmentBytes: 1 << 20}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	g := log.Group(uint64(testVolume))
	g.Reset(1, 1, nil)
	var entries []*raftpb.Entry
	for i, op := range append(committedOps(), uncommittedOps()...) {
		data, err := op.Encode(nil)
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, &raftpb.Entry{Index: proto.Uint64(uint64(i) + 2), Term: proto.Uint64(testTerm),
			Type: raftpb.EntryNormal.Enum(), Data: data})
	}
	done := make(chan error, 1)
	log.Append(wal.Append{Group: g, Entries: entries, Sync: true, Done: func(err error) { done <- err },
		HardState: &raftpb.HardState{Term: proto.Uint64(testTerm), Vote: proto.Uint64(1), Commit: proto.Uint64(commit)}})
	if err := errors.Join(<-done, log.Close()); err != nil {
		t.Fatal(err)
	}
	checkpoint(t, vfs, entries[:checkpointed])
	return dir
}

func checkpoint(t *testing.T, vfs disk.FS, entries []*raftpb.Entry) {
	t.Helper()
	v, err := volume.Open(vfs, volume.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if res, err := v.Apply(e.GetIndex(), e.GetTerm(), e.GetData()); err != nil || res.Err != volume.OK {
			t.Fatalf("apply %d: %v, %v", e.GetIndex(), err, res.Err)
		}
	}
	if _, err := v.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
}

func openStore(t *testing.T, dir string, opt Options) *Store {
	t.Helper()
	opt.Log = slog.New(slog.DiscardHandler)
	opt.Scratch = t.TempDir()
	s, err := Open(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func vm(t *testing.T, s *Store) *Volume {
	t.Helper()
	v, err := s.Volume("vm")
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func readAll(t *testing.T, v *Volume, name string) []byte {
	t.Helper()
	attr, err := v.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, attr.SizeBytes)
	if n, err := v.readAt(attr, name, b, 0); n != len(b) {
		t.Fatalf("read %d of %d bytes: %v", n, len(b), err)
	}
	return b
}

func listNames(t *testing.T, v *Volume, name string) string {
	t.Helper()
	entries, err := v.List(name)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name)
	}
	return strings.Join(names, " ")
}

// Goal: whatever the last checkpoint holds, exactly the committed entries are shown, and the
// directory stays as it was, byte for byte.
func TestStore_ShowsWhatIsCommitted(t *testing.T) {
	for _, checkpointed := range []int{0, 1, 3, len(committedOps())} {
		dir := makeDataDir(t, checkpointed)
		before := fingerprint(t, dir)
		s := openStore(t, dir, Options{})
		v := vm(t, s)
		if v.Checkpoint != uint64(checkpointed)+1 || v.Committed != 7 || v.Applied != 7 || v.Last != 9 || v.Uncommitted() != 2 {
			t.Errorf("checkpoint after %d entries: %+v", checkpointed, v)
		}
		if got := listNames(t, v, ""); got != "images latest" {
			t.Errorf("root holds %s", got)
		}
		if got := listNames(t, v, "images"); got != "disk.img disk2.img" {
			t.Errorf("images holds %s", got)
		}
		if !bytes.Equal(readAll(t, v, "images/disk2.img"), content()) {
			t.Error("the image's bytes are not what was committed")
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if fingerprint(t, dir) != before {
			t.Error("the data directory has changed")
		}
	}
}

// Goal: a log whose commit index lags behind the checkpoint neither hides nor repeats what the
// checkpoint holds.
func TestStore_CommitIndexLags(t *testing.T) {
	v := vm(t, openStore(t, makeDataDirKnowing(t, 5, 3), Options{}))
	if v.Checkpoint != 6 || v.Committed != 6 || v.Applied != 6 || v.Uncommitted() != 3 {
		t.Errorf("got %+v", v)
	}
}

func TestStore_Uncommitted(t *testing.T) {
	s := openStore(t, makeDataDir(t, 2), Options{Uncommitted: true})
	v := vm(t, s)
	if v.Applied != 9 || v.Committed != 7 {
		t.Errorf("got %+v", v)
	}
	if got := listNames(t, v, ""); got != "images late latest" {
		t.Errorf("root holds %s", got)
	}
	if got := readAll(t, v, "images/disk.img"); !bytes.HasPrefix(got, []byte("CHANGED")) {
		t.Errorf("image begins with %q", got[:7])
	}
}

// Goal: a damaged log stops the rescue with the way around it, which then works.
func TestStore_DamagedLog(t *testing.T) {
	dir := makeDataDir(t, 3)
	segments, err := filepath.Glob(filepath.Join(dir, replica.LogDir, "*"))
	if err != nil || len(segments) == 0 {
		t.Fatal(segments, err)
	}
	for _, s := range segments {
		b, err := os.ReadFile(s)
		if err != nil {
			t.Fatal(err)
		}
		for i := range min(len(b), 512) {
			b[i] ^= 0xff
		}
		if err := os.WriteFile(s, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err = Open(dir, Options{Log: slog.New(slog.DiscardHandler), Scratch: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "--without-log") {
		t.Fatalf("got %v", err)
	}
	v := vm(t, openStore(t, dir, Options{WithoutLog: true}))
	if got := listNames(t, v, "images"); got != "disk.img" || v.Applied != 4 {
		t.Errorf("got %s at %d", got, v.Applied)
	}
}

// Goal: one volume that cannot be read does not hide the others, and says why.
func TestStore_DamagedVolume(t *testing.T) {
	dir := makeDataDir(t, 0)
	base := disk.OS(dir)
	other := base.Sub(replica.VolumeDir(12))
	if err := volume.Make(other, volume.Info{ID: 12, Name: "other"}, nil); err != nil {
		t.Fatal(err)
	}
	path := other.Path("checkpoint")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "volumes", "stray"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, dir, Options{})
	if got := listNames(t, vm(t, s), ""); got != "images latest" {
		t.Errorf("root holds %s", got)
	}
	unread := 0
	for _, v := range s.Volumes() {
		if v.Err != nil {
			unread++
		}
	}
	if unread != 2 {
		t.Errorf("%d volumes cannot be read, want 2", unread)
	}
	if _, err := s.Volume("000000000000000c"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("damaged volume: %v", err)
	}
	if _, err := s.Volume("nothing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no volume: %v", err)
	}
}

func TestOpen_Refuses(t *testing.T) {
	if _, err := Open(t.TempDir(), Options{}); err == nil || !strings.Contains(err.Error(), "no data directory of trinas") {
		t.Errorf("empty directory: %v", err)
	}
	dir := makeDataDir(t, 0)
	lock, err := datadir.Exclusive(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); !errors.Is(err, datadir.ErrInUse) || !strings.Contains(err.Error(), "stop it first") {
		t.Errorf("agent running: %v", err)
	}
	lock.Release()
	openStore(t, dir, Options{})
	if _, err := datadir.Exclusive(dir); !errors.Is(err, datadir.ErrInUse) {
		t.Errorf("an agent could start beside the rescue: %v", err)
	}
}

// Goal: a copied tree has the volume's bytes, holes, modes, times and links, and nothing that is
// there is overwritten.
func TestCopier(t *testing.T) {
	v := vm(t, openStore(t, makeDataDir(t, 1), Options{}))
	dest := t.TempDir()
	told := uint64(0)
	c := &Copier{Volume: v, Progress: func(_ string, done, _ uint64) { told = done }}
	if err := c.Copy(t.Context(), "", dest); err != nil {
		t.Fatal(err)
	}
	if c.Files != 5 || told != uint64(len(content())) {
		t.Errorf("copied %d files, told of %d bytes", c.Files, told)
	}
	image := filepath.Join(dest, "vm", "images", "disk.img")
	if b, err := os.ReadFile(image); err != nil || !bytes.Equal(b, content()) {
		t.Errorf("copy differs: %v", err)
	}
	info, err := disk.OS(dest).Stat("vm/images/disk.img")
	if err != nil || info.AllocatedBytes >= info.SizeBytes/2 {
		t.Errorf("holes were filled: %+v, %v", info, err)
	}
	one, _ := os.Stat(image)
	two, err := os.Stat(filepath.Join(dest, "vm", "images", "disk2.img"))
	if err != nil || !os.SameFile(one, two) || one.ModTime().UnixNano() != 4e9 {
		t.Errorf("hard link: %v, modified %v", err, one.ModTime())
	}
	if target, err := os.Readlink(filepath.Join(dest, "vm", "latest")); err != nil || target != "images/disk.img" {
		t.Errorf("symbolic link to %q, %v", target, err)
	}
	err = (&Copier{Volume: v}).Copy(t.Context(), "images/disk.img", image)
	if !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "nothing is overwritten") {
		t.Errorf("existing destination: %v", err)
	}
	if err := (&Copier{Volume: v}).Copy(t.Context(), "images/none", dest); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing source: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (&Copier{Volume: v}).Copy(ended, "images", filepath.Join(dest, "x")); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}
