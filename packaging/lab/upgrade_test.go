package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"trinas/replica"
)

// formatFile says how operations are written, in the log and between nodes; a new kind of them or a new flag
// is a line that formatChange matches (git log -G).
const (
	formatFile   = "replica/volume/opcodec.go"
	formatChange = "^\t+case |^\tflag[A-Z]"
)

// buildOld builds trinas as it was before the format changed last, or at TRINAS_OLD, a commit.
func buildOld(t *testing.T) string {
	t.Helper()
	git := func(args ...string) string {
		out, err := exec.Command("git", append([]string{"-C", "../.."}, args...)...).Output()
		if err != nil {
			t.Skipf("no older version to be had: git %s: %v", strings.Join(args, " "), err)
		}
		return strings.TrimSpace(string(out))
	}
	old := os.Getenv("TRINAS_OLD")
	if old == "" {
		old = git("log", "-1", "--format=%H", "-G", formatChange, "--", formatFile) + "^"
	}
	dir := t.TempDir()
	archive := filepath.Join(dir, "old.tar")
	git("archive", "-o", archive, git("rev-parse", old))
	tree := filepath.Join(dir, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("tar", "-C", tree, "-xf", archive).CombinedOutput(); err != nil {
		t.Fatalf("unpack %s: %v: %s", old, err, out)
	}
	t.Logf("the older version is %s", git("log", "-1", "--format=%h %s", old))
	return build(t, tree, filepath.Join(dir, "trinas-old"))
}

func build(t *testing.T, tree, binary string) string {
	t.Helper()
	cmd := exec.Command("go", "build", "-o", binary, "./agent")
	cmd.Dir = tree
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v: %s", tree, err, out)
	}
	return binary
}

// Goal: a cluster is upgraded node by node while it is used. The version before the last change of
// the formats and today's speak to each other in every mixture and with either as primary; what must wait until
// all are upgraded says so; nothing that was written is lost. Method: real agents.
func TestUpgrade_Rolling(t *testing.T) {
	if testing.Short() {
		t.Skip("builds two versions and runs three agents")
	}
	ctx, cancel := context.WithTimeout(needNamespaces(t), 3*time.Minute)
	defer cancel()
	old := buildOld(t)
	help, err := exec.Command(old, "help").Output()
	if err != nil {
		t.Fatal(err)
	}
	verifies := bytes.Contains(help, []byte("\n  verify "))
	now := build(t, "../..", filepath.Join(t.TempDir(), "trinas"))
	l, err := Open(ctx, Options{Binary: old, Nodes: 3, Name: "upgrade-"})
	if err != nil {
		t.Skip(err)
	}
	defer l.Remove()
	defer l.Close()
	u := &upgrade{t: t, ctx: ctx, lab: l}
	u.must(l.Form(ctx))
	u.must(l.CreateVolume(ctx, "v"))
	u.writeThroughAll()
	for i, n := range slices.Backward(l.Nodes) {
		n.Kill(syscall.SIGTERM)
		u.must(n.Wait(ctx))
		n.binary = now
		u.must(n.Start(ctx))
		u.allUpToDate()
		for _, primary := range l.Nodes {
			u.must(l.SetPrimary(ctx, "v", primary))
			u.writeThroughAll()
		}
		if i > 0 && !verifies {
			u.verifyWaits(n)
		}
	}
	if out, err := l.Nodes[0].CLI(ctx, "verify", "v"); err != nil || !strings.Contains(string(out), "All replicas are the same") {
		t.Errorf("verify after the upgrade: %v: %s", err, out)
	}
	u.readThroughAll()
}

type upgrade struct {
	t     *testing.T
	ctx   context.Context
	lab   *Lab
	files int
}

func (u *upgrade) must(err error) {
	u.t.Helper()
	if err != nil {
		for _, n := range u.lab.Nodes {
			if b, err := os.ReadFile(n.LogFile()); err == nil {
				u.t.Logf("%s: %s", n.Name, b[max(0, len(b)-2000):])
			}
		}
		u.t.Fatal(err)
	}
}

func (u *upgrade) content(number int) []byte {
	return bytes.Repeat([]byte(fmt.Sprintf("%015d\n", number)), 4096)
}

// writeThroughAll makes a file through each node and reads it through the next.
func (u *upgrade) writeThroughAll() {
	u.t.Helper()
	for i, n := range u.lab.Nodes {
		name := fmt.Sprintf("file%d", u.files)
		f := n.File("v", name, true)
		u.must(f.Write(u.ctx, u.content(u.files), 0))
		f.Close()
		u.read(u.lab.Nodes[(i+1)%len(u.lab.Nodes)], u.files)
		u.files++
	}
}

func (u *upgrade) read(n *Node, number int) {
	u.t.Helper()
	f := n.File("v", fmt.Sprintf("file%d", number), false)
	defer f.Close()
	got, err := f.Read(u.ctx, 65536, 0)
	u.must(err)
	if !bytes.Equal(got, u.content(number)) {
		u.t.Errorf("file %d through %s is not what was written", number, n.Name)
	}
}

func (u *upgrade) readThroughAll() {
	u.t.Helper()
	for _, n := range u.lab.Nodes {
		for number := range u.files {
			u.read(n, number)
		}
	}
}

func (u *upgrade) allUpToDate() {
	u.t.Helper()
	for _, watcher := range u.lab.Nodes {
		for _, n := range u.lab.Nodes {
			u.must(watcher.AwaitUpToDate(u.ctx, "v", n.Name))
		}
	}
}

// verifyWaits: while a node is not upgraded, a verification at an upgraded primary waits for it and puts
// nothing into the log that the node could not read.
func (u *upgrade) verifyWaits(n *Node) {
	u.t.Helper()
	u.must(u.lab.SetPrimary(u.ctx, "v", n))
	_, err := n.CLI(u.ctx, "verify", "v", "--wait=false")
	u.must(err)
	u.must(n.Await(u.ctx, "a verification that waits for an older node", func(ctx context.Context) (bool, error) {
		st, err := n.Volume(ctx, "v")
		return err == nil && st.Verify != nil && st.Verify.State == replica.VerifyPaused &&
			strings.Contains(st.Verify.Waiting, "upgrade it"), err
	}))
	_, err = n.CLI(u.ctx, "verify", "v", "--stop")
	u.must(err)
	u.must(n.Await(u.ctx, "its end", func(ctx context.Context) (bool, error) {
		st, err := n.Volume(ctx, "v")
		return err == nil && st.Verify != nil && st.Verify.State == replica.VerifyStopped, err
	}))
	u.writeThroughAll()
	u.allUpToDate()
}
