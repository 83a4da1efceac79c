package volume

import (
	"reflect"
	"testing"

	"trinas/replica/disk"
)

// from gives op as it comes through a node's gateway.
func from(node uint16, op Op) Op {
	op.Node = node
	return op
}

func activateOp(a Attr, node uint16, inTouch ...uint16) Op {
	op := from(node, on(a, Activate))
	op.Nodes = inTouch
	return op
}

func write(a Attr, node uint16, text string) Op {
	op := from(node, on(a, Write))
	op.Data = []byte(text)
	return op
}

// Goal: who may change an image follows activations, node by node, and everybody may change a file
// that was never activated. Method: after each step every node tries each kind of change.
func TestFence(t *testing.T) {
	r := newRig(t, disk.NewMem(1).FS())
	image := r.must(in(rootDir, Create, "image"))
	other := r.must(in(rootDir, Create, "other"))
	steps := []struct {
		name string
		op   *Op
		may  [4]bool // nodes 1 to 3
	}{
		{"never activated", nil, [4]bool{1: true, 2: true, 3: true}},
		{"node 1", p(activateOp(image, 1, 1, 2, 3)), [4]bool{1: true}},
		{"node 1 again", p(activateOp(image, 1, 1, 2, 3)), [4]bool{1: true}},
		{"live migration to node 2", p(activateOp(image, 2, 1, 2, 3)), [4]bool{1: true, 2: true}},
		{"the old side stops", p(from(1, on(image, Deactivate))), [4]bool{2: true}},
		{"node 2 is lost, 3 takes over", p(activateOp(image, 3, 1, 3)), [4]bool{3: true}},
		{"node 3 stops; 2 may not come in between", p(from(3, on(image, Deactivate))), [4]bool{1: true, 3: true}},
		{"a deactivation opens nothing", p(from(2, on(image, Deactivate))), [4]bool{1: true, 3: true}},
		{"node 2 activates anew", p(activateOp(image, 2, 1, 2, 3)), [4]bool{2: true}},
		{"and stops", p(from(2, on(image, Deactivate))), [4]bool{1: true, 2: true, 3: true}},
	}
	for _, step := range steps {
		if step.op != nil {
			if res := r.do(*step.op); res.Err != OK {
				t.Fatalf("%s: errno %d", step.name, res.Err)
			}
		}
		for node := uint16(1); node <= 3; node++ {
			want := EFENCED
			if step.may[node] {
				want = OK
			}
			if res := r.do(write(image, node, "data")); res.Err != want {
				t.Errorf("%s: write from node %d: errno %d, want %d", step.name, node, res.Err, want)
			}
			size := on(image, SetAttr).set(SetAttrs{Size: p(uint64(4))})
			if res := r.do(from(node, size)); res.Err != want {
				t.Errorf("%s: setattr from node %d: errno %d, want %d", step.name, node, res.Err, want)
			}
			empty := in(rootDir, Create, "image").set(SetAttrs{Size: p(uint64(4))})
			if res := r.do(from(node, empty)); res.Err != want {
				t.Errorf("%s: create over it from node %d: errno %d, want %d", step.name, node, res.Err, want)
			}
			if res := r.do(write(other, node, "data")); res.Err != OK {
				t.Errorf("%s: write of another file from node %d: errno %d", step.name, node, res.Err)
			}
		}
	}
}

// Goal: a node that is shut out can neither remove an image, nor put something in its place, nor
// move it away; the answer names the image.
func TestFence_Names(t *testing.T) {
	r := newRig(t, disk.NewMem(1).FS())
	image := r.must(in(rootDir, Create, "image"))
	r.must(in(rootDir, Create, "x"))
	r.must(activateOp(image, 1))
	ops := map[string]Op{
		"remove":      in(rootDir, Remove, "image"),
		"rename over": in(rootDir, Rename, "x").to(Attr{File: RootID, Gen: 1}, "image"),
		"rename away": in(rootDir, Rename, "image").to(Attr{File: RootID, Gen: 1}, "y"),
	}
	for name, op := range ops {
		if res := r.do(from(2, op)); res.Err != EFENCED || res.Obj.After.File != image.File {
			t.Errorf("%s: errno %d for file %d, want %d for the image", name, res.Err, res.Obj.After.File, EFENCED)
		}
	}
	if res := r.do(from(1, ops["remove"])); res.Err != OK {
		t.Errorf("remove from the node where it is active: errno %d", res.Err)
	}
}

// Goal: the fence is the same after a checkpoint, after a replay, and is part of the digest.
func TestFence_Durable(t *testing.T) {
	mem := disk.NewMem(1)
	r := newRig(t, mem.FS())
	dir := r.must(in(rootDir, MkDir, "images"))
	image := r.must(in(dir, Create, "vm-100"))
	before, err := r.v.Digest(false)
	if err != nil {
		t.Fatal(err)
	}
	r.must(activateOp(image, 1))
	r.must(activateOp(image, 3))
	want := []Image{{File: image.File, Gen: image.Gen, Path: "images/vm-100", Writers: []uint16{3}, Barred: []uint16{1}}}
	if got := r.v.Images(); !reflect.DeepEqual(got, want) {
		t.Fatalf("images %+v, want %+v", got, want)
	}
	after, err := r.v.Digest(false)
	if err != nil || after == before {
		t.Errorf("the digest does not cover the fence (%v)", err)
	}
	if _, err := r.v.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.must(from(3, on(image, Deactivate)))
	want[0].Writers = nil
	if err := r.v.Close(); err != nil {
		t.Fatal(err)
	}
	r.open(mem.FS(), Options{})
	if got := r.v.Images(); !reflect.DeepEqual(got, want) {
		t.Errorf("after a restart: images %+v, want %+v", got, want)
	}
	if path := r.v.Path(image.File); path != "images/vm-100" {
		t.Errorf("path %q", path)
	}
}

// Goal: only regular files can be activated.
func TestFence_Types(t *testing.T) {
	r := newRig(t, disk.NewMem(1).FS())
	if res := r.do(activateOp(Attr{File: RootID, Gen: 1}, 1)); res.Err != EISDIR {
		t.Errorf("directory: errno %d", res.Err)
	}
	if res := r.do(activateOp(Attr{File: 99, Gen: 1}, 1)); res.Err != ESTALE {
		t.Errorf("no file: errno %d", res.Err)
	}
}
