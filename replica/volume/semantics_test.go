package volume

import (
	"strings"
	"testing"

	"trinas/replica/disk"
)

// world is the tree that the semantics tests start from. Alice (1000, groups 1000 and 50) and
// bob (2000) are users.
type world struct {
	*rig
	pub, tmp, priv, setgid, full, dir, file, suid, exec, link, fifo Attr
}

var alice, bob = user(1000, 1000, 50), user(2000)

func newWorld(t *testing.T) *world {
	w := &world{rig: newRig(t, disk.NewMem(1).FS())}
	w.pub = w.must(in(rootDir, MkDir, "pub").set(mode(0o777)))
	w.tmp = w.must(in(rootDir, MkDir, "tmp").set(mode(0o1777)))
	w.priv = w.must(in(w.pub, MkDir, "priv").as(alice).set(mode(0o700)))
	w.setgid = w.must(in(rootDir, MkDir, "setgid"))
	w.setgid = w.must(on(w.setgid, SetAttr).set(SetAttrs{Mode: p(uint32(0o2777)), GID: p(uint32(77))}))
	w.full = w.must(in(w.pub, MkDir, "full").as(alice).set(mode(0o755)))
	w.must(in(w.full, Create, "x").as(alice))
	w.dir = w.must(in(w.pub, MkDir, "dir").as(alice).set(mode(0o755)))
	w.file = w.must(in(w.pub, Create, "file").as(alice).set(mode(0o640)))
	w.suid = w.must(in(w.pub, Create, "suid").as(alice).set(mode(0o6777)))
	w.exec = w.must(in(w.pub, Create, "exec").as(alice).set(mode(0o711)))
	w.link = w.must(Op{Kind: Symlink, File: w.pub.File, Gen: w.pub.Gen, Name: "link", Target: "a/b", Cred: alice})
	w.fifo = w.must(Op{Kind: MkNod, File: w.pub.File, Gen: w.pub.Gen, Name: "fifo", Type: FIFO, Cred: alice, Set: mode(0o666)})
	w.must(in(w.tmp, Create, "alices").as(alice).set(mode(0o666)))
	w.must(in(w.tmp, MkDir, "alicesdir").as(alice).set(mode(0o777)))
	w.must(in(w.tmp, Create, "bobs").as(bob).set(mode(0o666)))
	return w
}

// TestErrno has one row for each way in which an operation fails or just passes.
func TestErrno(t *testing.T) {
	long, slash, nul := strings.Repeat("n", 256), "a/b", "a\x00b"
	gone := Attr{File: 999, Gen: 1}
	rows := []struct {
		name string
		op   func(w *world) Op
		want Errno
	}{
		{"getattr of no file", func(w *world) Op { return on(gone, GetAttr) }, ESTALE},
		{"getattr, other generation", func(w *world) Op { return on(Attr{File: RootID, Gen: 2}, GetAttr) }, ESTALE},
		{"setattr, other generation", func(w *world) Op { return on(Attr{File: RootID, Gen: 2}, SetAttr) }, ESTALE},
		{"rename, other generation 2", func(w *world) Op {
			return in(w.pub, Rename, "file").to(Attr{File: RootID, Gen: 9}, "x")
		}, ESTALE},
		{"readlink of a file", func(w *world) Op { return on(w.file, ReadLink) }, EINVAL},

		{"lookup in a file", func(w *world) Op { return in(w.file, Lookup, "x") }, ENOTDIR},
		{"lookup of nothing", func(w *world) Op { return in(w.pub, Lookup, "none") }, ENOENT},
		{"lookup, no search", func(w *world) Op { return in(w.priv, Lookup, "x").as(bob) }, EACCES},
		{"lookup .., no search", func(w *world) Op { return in(w.priv, Lookup, "..").as(bob) }, EACCES},
		{"lookup of a long name", func(w *world) Op { return in(w.pub, Lookup, long) }, ENAMETOOLONG},
		{"lookup with slash", func(w *world) Op { return in(w.pub, Lookup, slash) }, EACCES},
		{"lookup with nul", func(w *world) Op { return in(w.pub, Lookup, nul) }, EACCES},
		{"lookup of empty", func(w *world) Op { return in(w.pub, Lookup, "") }, EACCES},

		{"read a directory", func(w *world) Op { return on(w.dir, Read).read(0, 1) }, EISDIR},
		{"read a link", func(w *world) Op { return on(w.link, Read).read(0, 1) }, EINVAL},
		{"read others' file", func(w *world) Op { return on(w.file, Read).read(0, 1).as(bob) }, EACCES},
		{"read what can be executed", func(w *world) Op { return on(w.exec, Read).read(0, 1).as(bob) }, OK},
		{"write what can be executed", func(w *world) Op { return on(w.exec, Write).data(0, []byte("x")).as(bob) }, EACCES},
		{"list without read", func(w *world) Op { return on(w.priv, ReadDir).as(bob) }, EACCES},
		{"list a file", func(w *world) Op { return on(w.file, ReadDir) }, ENOTDIR},
		{"commit a directory", func(w *world) Op { return on(w.dir, Commit) }, EISDIR},
		{"commit others' file", func(w *world) Op { return on(w.file, Commit).as(bob) }, EACCES},

		{"write a directory", func(w *world) Op { return on(w.dir, Write).data(0, []byte("x")) }, EISDIR},
		{"write a fifo", func(w *world) Op { return on(w.fifo, Write).data(0, []byte("x")) }, EINVAL},
		{"write others' file", func(w *world) Op { return on(w.file, Write).data(0, []byte("x")).as(bob) }, EACCES},
		{"write up to the end", func(w *world) Op { return on(w.file, Write).data(MaxFileBytes-1, []byte("x")) }, OK},
		{"write past the end", func(w *world) Op { return on(w.file, Write).data(MaxFileBytes, []byte("x")) }, EFBIG},
		{"write, offset wraps", func(w *world) Op { return on(w.file, Write).data(^uint64(0), []byte("xx")) }, EFBIG},
		{"write nothing", func(w *world) Op { return on(w.file, Write).data(5, nil) }, OK},

		{"grow too far", func(w *world) Op { return on(w.file, SetAttr).set(SetAttrs{Size: p(uint64(MaxFileBytes + 1))}) }, EFBIG},
		{"resize a directory", func(w *world) Op { return on(w.dir, SetAttr).set(SetAttrs{Size: p(uint64(0))}) }, EISDIR},
		{"resize a fifo", func(w *world) Op { return on(w.fifo, SetAttr).set(SetAttrs{Size: p(uint64(0))}) }, EINVAL},
		{"resize others' file", func(w *world) Op { return on(w.file, SetAttr).set(SetAttrs{Size: p(uint64(0))}).as(bob) }, EACCES},
		{"chmod others' file", func(w *world) Op { return on(w.suid, SetAttr).set(mode(0o777)).as(bob) }, EPERM},
		{"chown by the owner", func(w *world) Op { return on(w.file, SetAttr).set(SetAttrs{UID: p(uint32(2000))}).as(alice) }, EPERM},
		{"chown to himself", func(w *world) Op { return on(w.file, SetAttr).set(SetAttrs{UID: p(uint32(1000))}).as(alice) }, OK},
		{"chown to -1", func(w *world) Op { return on(w.file, SetAttr).set(SetAttrs{UID: p(noOwner)}) }, EINVAL},
		{"chgrp to own group", func(w *world) Op { return on(w.file, SetAttr).set(SetAttrs{GID: p(uint32(50))}).as(alice) }, OK},
		{"chgrp to another group", func(w *world) Op { return on(w.file, SetAttr).set(SetAttrs{GID: p(uint32(51))}).as(alice) }, EPERM},
		{"chgrp others' file", func(w *world) Op { return on(w.suid, SetAttr).set(SetAttrs{GID: p(uint32(2000))}).as(bob) }, EPERM},
		{"touch others' file", func(w *world) Op {
			return on(w.file, SetAttr).set(SetAttrs{MtimeHow: TimeServer}).as(bob)
		}, EACCES},
		{"touch a writable file", func(w *world) Op {
			return on(w.suid, SetAttr).set(SetAttrs{MtimeHow: TimeServer, AtimeHow: TimeServer}).as(bob)
		}, OK},
		{"set times of a writable file", func(w *world) Op {
			return on(w.suid, SetAttr).set(SetAttrs{MtimeHow: TimeClient}).as(bob)
		}, EPERM},
		{"guard that fits not", func(w *world) Op {
			op := on(w.file, SetAttr).set(mode(0o600))
			op.Guard = p(int64(1))
			return op
		}, ENOTSYNC},
		{"guard that fits", func(w *world) Op {
			op := on(w.file, SetAttr).set(mode(0o600))
			op.Guard = p(w.attr(w.file).Ctime)
			return op
		}, OK},

		{"create in a file", func(w *world) Op { return in(w.file, Create, "x") }, ENOTDIR},
		{"create in no directory", func(w *world) Op { return in(gone, Create, "x") }, ESTALE},
		{"create without write", func(w *world) Op { return in(w.dir, Create, "x").as(bob) }, EACCES},
		{"create without search", func(w *world) Op { return in(w.priv, Create, "x").as(bob) }, EACCES},
		{"create guarded", func(w *world) Op {
			op := in(w.pub, Create, "file")
			op.How = Guarded
			return op
		}, EEXIST},
		{"create exclusive", func(w *world) Op {
			op := in(w.pub, Create, "file")
			op.How = Exclusive
			return op
		}, EEXIST},
		{"create .", func(w *world) Op { return in(w.pub, Create, ".") }, EEXIST},
		{"create a long name", func(w *world) Op { return in(w.pub, Create, long) }, ENAMETOOLONG},
		{"create 255 bytes", func(w *world) Op { return in(w.pub, Create, long[1:]) }, OK},
		{"create a/b", func(w *world) Op { return in(w.pub, Create, slash) }, EACCES},
		{"create nothing", func(w *world) Op { return in(w.pub, Create, "") }, EACCES},
		{"create too large", func(w *world) Op {
			return in(w.pub, Create, "large").set(SetAttrs{Size: p(uint64(MaxFileBytes + 1))})
		}, EFBIG},
		{"empty others' file by create", func(w *world) Op {
			return in(w.pub, Create, "file").as(bob).set(SetAttrs{Size: p(uint64(0))})
		}, EACCES},
		{"create over a directory", func(w *world) Op { return in(w.pub, Create, "dir") }, OK},
		{"mkdir over a file", func(w *world) Op { return in(w.pub, MkDir, "file") }, EEXIST},
		{"mkdir ..", func(w *world) Op { return in(w.pub, MkDir, "..") }, EEXIST},
		{"mkdir without write", func(w *world) Op { return in(w.dir, MkDir, "x").as(bob) }, EACCES},
		{"mknod of a directory", func(w *world) Op {
			op := in(w.pub, MkNod, "x")
			op.Type = Directory
			return op
		}, EINVAL},
		{"mknod of a device", func(w *world) Op {
			op := in(w.pub, MkNod, "x").as(alice)
			op.Type = Block
			return op
		}, EPERM},
		{"symlink to nothing", func(w *world) Op { return in(w.pub, Symlink, "x") }, ENOENT},
		{"symlink too long", func(w *world) Op {
			op := in(w.pub, Symlink, "x")
			op.Target = strings.Repeat("t", 4096)
			return op
		}, ENAMETOOLONG},
		{"symlink with nul", func(w *world) Op {
			op := in(w.pub, Symlink, "x")
			op.Target = nul
			return op
		}, EINVAL},
		{"symlink exists", func(w *world) Op {
			op := in(w.pub, Symlink, "file")
			op.Target = "x"
			return op
		}, EEXIST},
		{"symlink exists, without write", func(w *world) Op {
			op := in(w.full, Symlink, "x").as(bob)
			op.Target = "x"
			return op
		}, EACCES},

		{"remove nothing", func(w *world) Op { return in(w.pub, Remove, "none") }, ENOENT},
		{"remove a directory", func(w *world) Op { return in(w.pub, Remove, "dir") }, EISDIR},
		{"remove without write", func(w *world) Op { return in(w.full, Remove, "x").as(bob) }, EACCES},
		{"remove from sticky", func(w *world) Op { return in(w.tmp, Remove, "alices").as(bob) }, EPERM},
		{"remove own from sticky", func(w *world) Op { return in(w.tmp, Remove, "alices").as(alice) }, OK},
		{"remove .", func(w *world) Op { return in(w.pub, Remove, ".") }, EACCES},
		{"remove a long name", func(w *world) Op { return in(w.pub, Remove, long) }, ENAMETOOLONG},
		{"rmdir of a file", func(w *world) Op { return in(w.pub, RmDir, "file") }, ENOTDIR},
		{"rmdir of a full one", func(w *world) Op { return in(w.pub, RmDir, "full") }, ENOTEMPTY},
		{"rmdir .", func(w *world) Op { return in(w.pub, RmDir, ".") }, EINVAL},
		{"rmdir ..", func(w *world) Op { return in(w.pub, RmDir, "..") }, EEXIST},
		{"rmdir from sticky", func(w *world) Op { return in(w.tmp, RmDir, "alicesdir").as(bob) }, EPERM},

		{"rename nothing", func(w *world) Op { return in(w.pub, Rename, "none").to(w.pub, "x") }, ENOENT},
		{"rename .", func(w *world) Op { return in(w.pub, Rename, ".").to(w.pub, "x") }, EPERM},
		{"rename to ..", func(w *world) Op { return in(w.pub, Rename, "file").to(w.pub, "..") }, EPERM},
		{"rename to a long name", func(w *world) Op { return in(w.pub, Rename, "file").to(w.pub, long) }, ENAMETOOLONG},
		{"rename into a file", func(w *world) Op { return in(w.pub, Rename, "dir").to(w.file, "x") }, ENOTDIR},
		{"rename onto itself", func(w *world) Op { return in(w.pub, Rename, "file").to(w.pub, "file") }, OK},
		{"rename into itself", func(w *world) Op { return in(rootDir, Rename, "pub").to(w.dir, "x") }, EINVAL},
		{"rename right into itself", func(w *world) Op { return in(w.pub, Rename, "dir").to(w.dir, "x") }, EINVAL},
		{"rename over its parent", func(w *world) Op { return in(w.full, Rename, "x").to(w.pub, "full") }, ENOTEMPTY},
		{"rename dir over full dir", func(w *world) Op { return in(w.pub, Rename, "dir").to(w.pub, "full") }, ENOTEMPTY},
		{"rename dir over empty dir", func(w *world) Op { return in(w.pub, Rename, "full").to(w.pub, "dir") }, OK},
		{"rename dir over file", func(w *world) Op { return in(w.pub, Rename, "dir").to(w.pub, "file") }, ENOTDIR},
		{"rename file over dir", func(w *world) Op { return in(w.pub, Rename, "file").to(w.pub, "dir") }, EISDIR},
		{"rename without write", func(w *world) Op { return in(w.full, Rename, "x").to(w.pub, "x").as(bob) }, EACCES},
		{"rename to without write", func(w *world) Op { return in(w.pub, Rename, "file").to(w.full, "y").as(bob) }, EACCES},
		{"rename from sticky", func(w *world) Op { return in(w.tmp, Rename, "alices").to(w.pub, "x").as(bob) }, EPERM},
		{"rename over sticky", func(w *world) Op { return in(w.tmp, Rename, "bobs").to(w.tmp, "alices").as(bob) }, EPERM},
		{"move others' directory", func(w *world) Op { return in(w.pub, Rename, "dir").to(rootDir, "x").as(bob) }, EACCES},
		{"rename others' directory", func(w *world) Op { return in(w.pub, Rename, "dir").to(w.pub, "x").as(bob) }, OK},
		{"move others' directory within reach", func(w *world) Op {
			return in(w.pub, Rename, "dir").to(w.setgid, "x").as(bob)
		}, EACCES},

		{"link to a directory", func(w *world) Op { return on(w.dir, Link).to(w.pub, "x") }, EPERM},
		{"link exists", func(w *world) Op { return on(w.file, Link).to(w.pub, "dir") }, EEXIST},
		{"link .", func(w *world) Op { return on(w.file, Link).to(w.pub, ".") }, EEXIST},
		{"link into a file", func(w *world) Op { return on(w.file, Link).to(w.suid, "x") }, ENOTDIR},
		{"link without write", func(w *world) Op { return on(w.file, Link).to(w.full, "y").as(bob) }, EACCES},
		{"link of no file", func(w *world) Op { return on(gone, Link).to(w.pub, "y") }, ESTALE},
		{"link a long name", func(w *world) Op { return on(w.file, Link).to(w.pub, long) }, ENAMETOOLONG},
	}
	w := newWorld(t)
	log := w.log
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			fresh := &world{}
			*fresh = *w
			fresh.rig = newRig(t, disk.NewMem(1).FS())
			for _, entry := range log {
				fresh.index++
				if _, err := fresh.v.Apply(fresh.index, 1, entry); err != nil {
					t.Fatal(err)
				}
			}
			before := fresh.digest(false)
			op := row.op(fresh)
			var r Result
			if op.Kind.Mutates() {
				r = fresh.do(op)
			} else {
				r = fresh.ask(op)
			}
			if r.Err != row.want {
				t.Fatalf("errno %d, want %d", r.Err, row.want)
			}
			// Nothing may change with a failure but the index.
			fresh.v.applied -= uint64(len(fresh.log))
			if r.Err != OK && fresh.digest(false) != before {
				t.Error("a failed operation changed the volume")
			}
		})
	}
}

// TestGroups: supplementary groups count, and the class that fits first decides.
func TestGroups(t *testing.T) {
	w := newWorld(t)
	f := w.must(in(w.pub, Create, "f").as(alice).set(mode(0o604)))
	w.must(on(f, SetAttr).set(SetAttrs{GID: p(uint32(50))}))
	for _, c := range []struct {
		cred Cred
		want Errno
	}{
		{user(3000, 3000, 50), EACCES}, // group: ---, though others may
		{user(3000, 3000, 51), OK},     // others: r--
		{alice, OK},
		{root, OK},
	} {
		if r := w.ask(on(f, Read).read(0, 1).as(c.cred)); r.Err != c.want {
			t.Errorf("%+v: errno %d, want %d", c.cred, r.Err, c.want)
		}
	}
	// The owner reads and writes whatever the mode; ACCESS says what the mode says.
	w.must(on(f, SetAttr).set(mode(0)).as(alice))
	w.must(on(f, Write).data(0, []byte("x")).as(alice))
	if r := w.ask(on(f, Read).read(0, 1).as(alice)); r.Err != OK || string(r.Data) != "x" {
		t.Errorf("the owner's read: %+v", r)
	}
	ask := on(f, Access).as(alice)
	ask.Count = 0x3f
	if r := w.ask(ask); r.Access != 0 {
		t.Errorf("access %#x of a file with mode 0", r.Access)
	}
}

// TestAccess: RFC 1813 §3.3.4, bit by bit.
func TestAccess(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		file Attr
		cred Cred
		want uint32
	}{
		{w.dir, alice, accessRead | accessLookup | accessModify | accessExtend | accessDelete},
		{w.dir, bob, accessRead | accessLookup},
		{w.priv, bob, 0},
		{w.file, alice, accessRead | accessModify | accessExtend},
		{w.file, root, accessRead | accessModify | accessExtend}, // nobody may execute it
		{w.exec, root, accessRead | accessModify | accessExtend | accessExecute},
		{w.exec, bob, accessExecute},
		{w.link, bob, accessRead | accessModify | accessExtend | accessExecute},
	} {
		op := on(c.file, Access).as(c.cred)
		op.Count = 0x3f
		if r := w.ask(op); r.Access != c.want {
			t.Errorf("file %d by %d: %#x, want %#x", c.file.File, c.cred.UID, r.Access, c.want)
		}
		op.Count = accessRead
		if r := w.ask(op); r.Access != c.want&accessRead {
			t.Errorf("file %d: bits that were not asked for: %#x", c.file.File, r.Access)
		}
	}
}

// TestSetID: who keeps and who loses set-user-id and set-group-id.
func TestSetID(t *testing.T) {
	for _, c := range []struct {
		name string
		op   func(w *world) Op
		want uint32
	}{
		{"write by another", func(w *world) Op { return on(w.suid, Write).data(0, []byte("x")).as(bob) }, 0o777},
		{"write by the owner", func(w *world) Op { return on(w.suid, Write).data(0, []byte("x")).as(alice) }, 0o777},
		{"write by root", func(w *world) Op { return on(w.suid, Write).data(0, []byte("x")) }, 0o6777},
		{"write by another, without group execute", func(w *world) Op {
			w.must(on(w.suid, SetAttr).set(mode(0o2666)))
			return on(w.suid, Write).data(0, []byte("x")).as(bob)
		}, 0o666},
		{"write by a member, without group execute", func(w *world) Op {
			w.must(on(w.suid, SetAttr).set(mode(0o2666)))
			return on(w.suid, Write).data(0, []byte("x")).as(alice)
		}, 0o2666},
		{"write of nothing", func(w *world) Op { return on(w.suid, Write).as(bob) }, 0o6777},
		{"truncate by another", func(w *world) Op { return on(w.suid, SetAttr).set(SetAttrs{Size: p(uint64(0))}).as(bob) }, 0o777},
		{"chgrp by the owner", func(w *world) Op { return on(w.suid, SetAttr).set(SetAttrs{GID: p(uint32(50))}).as(alice) }, 0o777},
		{"chown by root", func(w *world) Op { return on(w.suid, SetAttr).set(SetAttrs{UID: p(uint32(5))}) }, 0o777},
		{"chmod by a member", func(w *world) Op { return on(w.suid, SetAttr).set(mode(0o6755)).as(alice) }, 0o6755},
		{"chmod by one outside the group", func(w *world) Op {
			w.must(on(w.suid, SetAttr).set(SetAttrs{GID: p(uint32(99))}))
			return on(w.suid, SetAttr).set(mode(0o6755)).as(alice)
		}, 0o4755},
		{"chmod of a link", func(w *world) Op { return on(w.link, SetAttr).set(mode(0o600)).as(alice) }, 0o777},
	} {
		w := newWorld(t)
		if a := w.must(c.op(w)); a.Mode != c.want {
			t.Errorf("%s: mode %#o, want %#o", c.name, a.Mode, c.want)
		}
	}
}

// TestInherit: what is made in a set-group-id directory gets its group; directories the bit, too.
func TestInherit(t *testing.T) {
	w := newWorld(t)
	d := w.must(in(w.setgid, MkDir, "d").as(alice).set(mode(0o6755)))
	if d.GID != 77 || d.Mode != 0o2755 || d.UID != 1000 {
		t.Errorf("directory: group %d mode %#o", d.GID, d.Mode)
	}
	f := w.must(in(w.setgid, Create, "f").as(alice).set(mode(0o2755)))
	if f.GID != 77 || f.Mode != 0o755 {
		t.Errorf("file: group %d mode %#o; alice is not in group 77", f.GID, f.Mode)
	}
	if f := w.must(in(w.setgid, Create, "g").set(mode(0o2755))); f.Mode != 0o2755 {
		t.Errorf("root's file: mode %#o", f.Mode)
	}
	if d := w.must(in(w.pub, MkDir, "e").as(alice).set(mode(0o7755))); d.GID != 1000 || d.Mode != 0o1755 {
		t.Errorf("elsewhere: group %d mode %#o", d.GID, d.Mode)
	}
	// Only root gives a new file to others; others' wish is left aside.
	set := SetAttrs{UID: p(uint32(5)), GID: p(uint32(6)), Mode: p(uint32(0o644))}
	if f := w.must(in(w.pub, Create, "h").set(set)); f.UID != 5 || f.GID != 6 {
		t.Errorf("root: %d:%d", f.UID, f.GID)
	}
	if f := w.must(in(w.pub, Create, "i").as(alice).set(set)); f.UID != 1000 || f.GID != 1000 {
		t.Errorf("alice: %d:%d", f.UID, f.GID)
	}
}

// TestLinks: counts, ".." and what becomes of handles.
func TestLinks(t *testing.T) {
	w := newWorld(t)
	links := func(a Attr, want uint32) {
		t.Helper()
		if got := w.attr(a).Nlink; got != want {
			t.Errorf("file %d has %d links, want %d", a.File, got, want)
		}
	}
	links(w.pub, 5) // ., its name, priv, full, dir
	w.must(in(w.pub, Rename, "dir").to(w.tmp, "dir"))
	links(w.pub, 4)
	links(w.tmp, 4)
	links(w.dir, 2)
	if r := w.ask(in(w.dir, Lookup, "..")); r.Obj.After.File != w.tmp.File {
		t.Errorf(".. is %d", r.Obj.After.File)
	}
	w.must(in(w.tmp, Rename, "dir").to(w.tmp, "alicesdir")) // over an empty one
	links(w.tmp, 3)
	w.do(in(w.tmp, RmDir, "alicesdir"))
	links(w.tmp, 2)
	if r := w.ask(on(w.dir, GetAttr)); r.Err != ESTALE {
		t.Errorf("removed directory: errno %d", r.Err)
	}
	if r := w.do(in(w.dir, Create, "x")); r.Err != ESTALE {
		t.Errorf("create in a removed directory: errno %d", r.Err)
	}

	w.must(on(w.file, Write).data(0, []byte("hello")))
	w.must(on(w.file, Link).to(w.tmp, "second"))
	links(w.file, 2)
	if r := w.do(in(w.pub, Rename, "file").to(w.tmp, "second")); r.Err != OK {
		t.Errorf("rename between two names of a file: errno %d", r.Err)
	}
	links(w.file, 2) // nothing happened
	w.do(in(w.pub, Remove, "file"))
	links(w.file, 1)
	if r := w.ask(on(w.file, Read).read(0, 10)); string(r.Data) != "hello" {
		t.Errorf("read %q", r.Data)
	}
	w.do(in(w.tmp, Rename, "bobs").to(w.tmp, "second"))
	if r := w.ask(on(w.file, Read).read(0, 10)); r.Err != ESTALE {
		t.Errorf("read of a replaced file: errno %d", r.Err)
	}
	if err := w.v.Tidy(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.v.fs.Stat(objectPath(w.file.File)); err == nil {
		t.Error("the object of a removed file is still there")
	}

	w.v.table.inodes[w.exec.File].nlink = MaxLinks
	if r := w.do(on(w.exec, Link).to(w.tmp, "many")); r.Err != EMLINK {
		t.Errorf("links without end: errno %d", r.Err)
	}
}

// TestExclusive: a retry with the same verifier finds its file.
func TestExclusive(t *testing.T) {
	w := newWorld(t)
	op := in(w.pub, Create, "excl").as(alice)
	op.How, op.Verifier = Exclusive, 42
	a := w.must(op)
	w.must(on(a, SetAttr).set(mode(0o600)).as(alice))
	if again := w.must(op); again.File != a.File || again.Mode != 0o600 {
		t.Errorf("the retry made file %d, not %d", again.File, a.File)
	}
	op.Verifier = 43
	if r := w.do(op); r.Err != EEXIST {
		t.Errorf("another verifier: errno %d", r.Err)
	}
	w.do(in(w.pub, Remove, "excl"))
	if b := w.must(op); b.File == a.File {
		t.Error("a file id was used again")
	}
}

// TestUnchecked: an existing file is kept, and only a size is applied to it.
func TestUnchecked(t *testing.T) {
	w := newWorld(t)
	w.must(on(w.file, Write).data(0, []byte("hello")))
	set := SetAttrs{Mode: p(uint32(0o777)), UID: p(uint32(9))}
	if a := w.must(in(w.pub, Create, "file").set(set)); a.File != w.file.File || a.Mode != 0o640 || a.UID != 1000 || a.SizeBytes != 5 {
		t.Errorf("kept: %+v", a)
	}
	set.Size = p(uint64(2))
	if a := w.must(in(w.pub, Create, "file").set(set)); a.Mode != 0o640 || a.SizeBytes != 2 {
		t.Errorf("cut: %+v", a)
	}
	if r := w.ask(on(w.file, Read).read(0, 9)); string(r.Data) != "he" || !r.EOF {
		t.Errorf("read %q", r.Data)
	}
}

// TestTimes: which of the three times an operation moves, and weak cache consistency data.
func TestTimes(t *testing.T) {
	w := newWorld(t)
	const atime, mtime, ctime = 1, 2, 4
	moved := func(before, after Attr) (got int) {
		if before.Atime != after.Atime {
			got |= atime
		}
		if before.Mtime != after.Mtime {
			got |= mtime
		}
		if before.Ctime != after.Ctime {
			got |= ctime
		}
		return got
	}
	for _, c := range []struct {
		name      string
		op        Op
		obj, pub  int
		obj2, tmp int // w.exec and w.tmp
	}{
		{"write", on(w.file, Write).data(0, []byte("x")), mtime | ctime, 0, 0, 0},
		{"write nothing", on(w.file, Write), 0, 0, 0, 0},
		{"chmod", on(w.file, SetAttr).set(mode(0o600)), ctime, 0, 0, 0},
		{"nothing set", on(w.file, SetAttr), 0, 0, 0, 0},
		{"touch", on(w.file, SetAttr).set(SetAttrs{AtimeHow: TimeServer, MtimeHow: TimeServer}), atime | mtime | ctime, 0, 0, 0},
		{"atime", on(w.file, SetAttr).set(SetAttrs{AtimeHow: TimeClient, Atime: 5}), atime | ctime, 0, 0, 0},
		{"truncate to the same", on(w.file, SetAttr).set(SetAttrs{Size: p(uint64(1))}), mtime | ctime, 0, 0, 0},
		{"create", in(w.pub, Create, "new"), 0, mtime | ctime, 0, 0},
		{"create again", in(w.pub, Create, "new"), 0, 0, 0, 0},
		{"link", on(w.exec, Link).to(w.tmp, "exec"), 0, 0, ctime, mtime | ctime},
		{"rename", in(w.pub, Rename, "file").to(w.tmp, "file"), ctime, mtime | ctime, 0, mtime | ctime},
		{"remove", in(w.pub, Remove, "exec"), 0, mtime | ctime, ctime, 0},
		{"clock that went back", func() Op {
			op := on(w.file, Write).data(0, []byte("y"))
			op.Time = 1
			return op
		}(), mtime | ctime, 0, 0, 0},
	} {
		was := []Attr{w.attr(w.file), w.attr(w.pub), w.attr(w.exec), w.attr(w.tmp)}
		r := w.do(c.op)
		if r.Err != OK {
			t.Fatalf("%s: errno %d", c.name, r.Err)
		}
		for i, want := range []int{c.obj, c.pub, c.obj2, c.tmp} {
			is := w.attr(was[i])
			if got := moved(was[i], is); got != want {
				t.Errorf("%s: file %d moved times %b, want %b", c.name, i, got, want)
			}
			if is.Ctime < was[i].Ctime {
				t.Errorf("%s: the ctime of file %d went back", c.name, i)
			}
			for _, change := range []Change{r.Obj, r.Dir, r.Dir2} {
				if change.After.File == is.File && (change.After != is ||
					change.HasBefore && change.BeforeCtime != was[i].Ctime) {
					t.Errorf("%s: wcc %+v, file %+v", c.name, change, is)
				}
			}
		}
	}
	before := w.attr(w.pub)
	w.ask(on(w.pub, ReadDir))
	w.ask(in(w.pub, Lookup, "new"))
	if moved(before, w.attr(w.pub)) != 0 {
		t.Error("a query moved a time")
	}
}

// TestFSStat: the disk's space, and how many files there are.
func TestFSStat(t *testing.T) {
	w := newWorld(t)
	r := w.ask(on(rootDir, FSStat))
	if r.Err != OK || r.Space.Files != uint64(w.v.Stat().Files) || r.Space.Files < 10 {
		t.Errorf("%+v", r)
	}
}
