package image

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"trinas/replica/disk"
	"trinas/replica/volume"
)

// single is a volume by itself, without a cluster.
type single struct {
	t     *testing.T
	v     *volume.Volume
	index uint64
}

func newSingle(t *testing.T) *single {
	fsys := disk.NewMem(1).FS()
	if err := volume.Make(fsys, volume.Info{ID: 7, Name: "vms"}, nil); err != nil {
		t.Fatal(err)
	}
	v, err := volume.Open(fsys, volume.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	return &single{t: t, v: v, index: 1}
}

func (s *single) Do(_ context.Context, _ volume.ID, op *volume.Op, res *volume.Result) (err error) {
	if !op.Kind.Mutates() {
		*res, err = s.v.Query(op)
		return err
	}
	b, err := op.Encode(nil)
	if err != nil {
		return err
	}
	s.index++
	*res, err = s.v.Apply(s.index, 1, b)
	return err
}

func (s *single) must(op volume.Op) volume.Attr {
	s.t.Helper()
	var res volume.Result
	if err := s.Do(s.t.Context(), 7, &op, &res); err != nil || res.Err != volume.OK {
		s.t.Fatalf("operation %d %q: %v, errno %d", op.Kind, op.Name, err, res.Err)
	}
	return res.Obj.After
}

func (s *single) dir(parent volume.Attr, name string) volume.Attr {
	return s.must(volume.Op{Kind: volume.MkDir, File: parent.File, Gen: parent.Gen, Name: name})
}

func (s *single) file(parent volume.Attr, name string, data []byte) {
	f := s.must(volume.Op{Kind: volume.Create, File: parent.File, Gen: parent.Gen, Name: name})
	s.must(volume.Op{Kind: volume.Write, File: f.File, Gen: f.Gen, Data: data})
}

var rootDir = volume.Attr{File: volume.RootID, Gen: 1}

// qcow2File is what qemu-img makes, or the test is skipped.
func qcow2File(t *testing.T, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath("qemu-img"); err != nil {
		t.Skip("no qemu-img here (make deps)")
	}
	name := filepath.Join(t.TempDir(), "x.qcow2")
	args = append([]string{"create", "-q", "-f", "qcow2", "-u"}, append(args, name, "5G")...)
	if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img: %v: %s", err, out)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Goal: images are listed with what qemu-img would say of them, and only images; one guest's, or all.
func TestList(t *testing.T) {
	s := newSingle(t)
	if got, err := List(t.Context(), s, 7, Folder, ""); err != nil || got == nil || len(got) != 0 {
		t.Fatalf("no folder images: %v, %v", got, err)
	}
	images := s.dir(rootDir, "images")
	guest, other := s.dir(images, "100"), s.dir(images, "101")
	s.file(guest, "vm-100-disk-0.raw", []byte("0123456789"))
	s.file(guest, "vm-100-disk-1.qcow2", qcow2File(t))
	s.file(guest, "notes.txt", []byte("x"))
	s.dir(guest, "a.raw")
	s.file(other, "vm-101-disk-0.qcow2", qcow2File(t, "-b", "../100/base-100-disk-0.raw", "-F", "raw"))
	s.file(other, "broken.qcow2", []byte("not at all, but longer than the header is"))
	s.file(images, "stray.raw", []byte("x"))

	got, err := List(t.Context(), s, 7, Folder, "")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, i := range got {
		lines = append(lines, fmt.Sprintf("%s %s %d %q %q", i.Path, i.Format, i.SizeBytes, i.Parent, i.Damage))
	}
	want := []string{
		`images/100/vm-100-disk-0.raw raw 10 "" ""`,
		`images/100/vm-100-disk-1.qcow2 qcow2 5368709120 "" ""`,
		`images/101/vm-101-disk-0.qcow2 qcow2 5368709120 "../100/base-100-disk-0.raw" ""`,
		`images/101/broken.qcow2 qcow2 41 "" "it does not begin as a qcow2 file does"`,
	}
	if !reflect.DeepEqual(lines, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
	if got, err = List(t.Context(), s, 7, Folder, "100"); err != nil || len(got) != 2 {
		t.Errorf("guest 100: %v, %v", got, err)
	}
}

// Goal: one file is described as in a list, wherever it is; what is no regular file is not found; an
// image's chain is itself and its own snapshots.
func TestStat(t *testing.T) {
	s := newSingle(t)
	guest := s.dir(s.dir(s.dir(rootDir, "my"), "images"), "100")
	for _, name := range []string{"vm-100-disk-1.qcow2", "snap-a-vm-100-disk-1.qcow2", "snap-b-c-vm-100-disk-1.qcow2"} {
		s.file(guest, name, qcow2File(t))
	}
	s.file(guest, "snap-a-vm-100-disk-11.qcow2", []byte("another's"))
	s.file(guest, "snap-a-vm-100-disk-1.raw", []byte("another's"))
	s.file(rootDir, "debian.iso", []byte("0123456789"))
	ctx := t.Context()
	if got, found, err := Stat(ctx, s, 7, "my/images/100/vm-100-disk-1.qcow2"); err != nil || !found || got.SizeBytes != 5<<30 ||
		got.Path != "my/images/100/vm-100-disk-1.qcow2" || got.FileBytes >= 5<<30 {
		t.Errorf("qcow2: %+v, %v, %v", got, found, err)
	}
	if got, found, err := Stat(ctx, s, 7, "/debian.iso"); err != nil || !found || got.Format != "" || got.SizeBytes != 10 {
		t.Errorf("iso: %+v, %v, %v", got, found, err)
	}
	for _, none := range []string{"my", "none", "my/none/x.raw", "debian.iso/x", "my/../debian.iso", "./debian.iso", ""} {
		if got, found, err := Stat(ctx, s, 7, none); err != nil || found {
			t.Errorf("%q: %+v, %v, %v", none, got, found, err)
		}
	}
	chain, err := Chain(ctx, s, 7, "my/images/100/vm-100-disk-1.qcow2")
	if want := []string{"my/images/100/vm-100-disk-1.qcow2", "my/images/100/snap-a-vm-100-disk-1.qcow2",
		"my/images/100/snap-b-c-vm-100-disk-1.qcow2"}; err != nil || !reflect.DeepEqual(chain, want) {
		t.Errorf("chain %q, %v", chain, err)
	}
	if got, err := List(ctx, s, 7, "my/images", "100"); err != nil || len(got) != 5 {
		t.Errorf("list: %+v, %v", got, err)
	}
}

// Goal: more entries than one answer holds are all listed.
func TestList_Many(t *testing.T) {
	s := newSingle(t)
	images := s.dir(rootDir, "images")
	for i := range 2500 {
		s.file(s.dir(images, fmt.Sprint(1000+i)), "d.raw", []byte("x"))
	}
	got, err := List(t.Context(), s, 7, Folder, "")
	if err != nil || len(got) != 2500 {
		t.Errorf("%d images, %v", len(got), err)
	}
}

// Goal: no head of a qcow2 file, however wrong, does harm.
func FuzzQcow2(f *testing.F) {
	head := make([]byte, qcow2HeadBytes)
	binary.BigEndian.PutUint32(head, qcow2Magic)
	f.Add(head)
	far := append([]byte(nil), head...)
	binary.BigEndian.PutUint64(far[8:], 1<<63)
	f.Add(far)
	near := append([]byte(nil), head...)
	binary.BigEndian.PutUint64(near[8:], 30)
	binary.BigEndian.PutUint32(near[16:], 100)
	f.Add(near)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		s := newSingle(t)
		s.file(s.dir(s.dir(rootDir, "images"), "1"), "d.qcow2", data)
		got, err := List(t.Context(), s, 7, Folder, "1")
		if err != nil || len(got) != 1 || len(got[0].Parent) > maxBackingName {
			t.Errorf("%+v, %v", got, err)
		}
	})
}
