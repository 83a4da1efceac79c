package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// become changes the rights of this thread alone, which the functions of package unix do not.
func become(who identity) error {
	var groups unsafe.Pointer
	if len(who.groups) > 0 {
		groups = unsafe.Pointer(&who.groups[0])
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(who.groups)), uintptr(groups), 0); e != 0 {
		return fmt.Errorf("setgroups: %w", e)
	}
	gid, uid := uintptr(who.gid), uintptr(who.uid)
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, gid, gid, gid); e != 0 {
		return fmt.Errorf("setresgid: %w", e)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); e != 0 {
		return fmt.Errorf("setresuid: %w", e)
	}
	return nil
}

// call makes one call. Paths are relative to the check's folder. An errno comes back as it is.
func (w *world) call(name string, args []string) (string, error) {
	arg := func(i int) string {
		if i < len(args) {
			return strings.TrimSuffix(strings.TrimPrefix(args[i], `"`), `"`)
		}
		return ""
	}
	mode := func(i int, otherwise uint32) uint32 {
		if n, err := strconv.ParseUint(arg(i), 8, 32); err == nil {
			return uint32(n)
		}
		return otherwise
	}
	number := func(i int) int64 {
		n, err := strconv.ParseInt(arg(i), 10, 64)
		if err != nil {
			panic(fmt.Sprintf("%s %v: argument %d is no number", name, args, i+1))
		}
		return n
	}
	path := arg(0)
	switch name {
	// Calls that take paths.
	case "open": // PATH FLAGS [MODE], and closes it
		fd, err := unix.Open(path, flags(arg(1)), mode(2, 0o644))
		if err != nil {
			return "", err
		}
		return "", unix.Close(fd)
	case "create": // PATH [MODE]
		fd, err := unix.Open(path, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, mode(1, 0o644))
		if err != nil {
			return "", err
		}
		return "", unix.Close(fd)
	case "write", "append": // PATH TEXT
		flag := unix.O_WRONLY
		if name == "append" {
			flag |= unix.O_APPEND
		}
		return "", withFile(path, flag, func(fd int) error {
			_, err := unix.Write(fd, []byte(arg(1)))
			return err
		})
	case "read": // PATH
		b, err := os.ReadFile(path)
		return string(b), err
	case "mkdir": // PATH [MODE]
		return "", unix.Mkdir(path, mode(1, 0o755))
	case "rmdir":
		return "", unix.Rmdir(path)
	case "unlink":
		return "", unix.Unlink(path)
	case "rename":
		return "", unix.Rename(path, arg(1))
	case "rename-noreplace":
		return "", unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, arg(1), unix.RENAME_NOREPLACE)
	case "link":
		return "", unix.Link(path, arg(1))
	case "symlink": // TARGET PATH
		return "", unix.Symlink(path, arg(1))
	case "readlink":
		b := make([]byte, 8192)
		n, err := unix.Readlink(path, b)
		return string(b[:max(0, n)]), err
	case "chmod": // PATH MODE
		return "", unix.Chmod(path, mode(1, 0))
	case "chown": // PATH UID GID
		return "", unix.Chown(path, int(number(1)), int(number(2)))
	case "lchown":
		return "", unix.Lchown(path, int(number(1)), int(number(2)))
	case "truncate": // PATH BYTES
		return "", unix.Truncate(path, number(1))
	case "utimens": // PATH ATIME MTIME
		return "", unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{timespec(arg(1)), timespec(arg(2))}, 0)
	case "mknod": // PATH TYPE [MODE [MAJOR MINOR]]
		kinds := map[string]uint32{"fifo": unix.S_IFIFO, "sock": unix.S_IFSOCK, "char": unix.S_IFCHR, "block": unix.S_IFBLK, "file": unix.S_IFREG}
		dev := 0
		if len(args) > 3 {
			dev = int(unix.Mkdev(uint32(number(3)), uint32(number(4))))
		}
		return "", unix.Mknod(path, kinds[arg(1)]|mode(2, 0o644), dev)
	case "access": // PATH r|w|x...
		var want uint32
		for _, c := range arg(1) {
			want |= map[rune]uint32{'r': unix.R_OK, 'w': unix.W_OK, 'x': unix.X_OK}[c]
		}
		return "", unix.Access(path, want)
	case "stat", "lstat":
		var st unix.Stat_t
		get := unix.Stat
		if name == "lstat" {
			get = unix.Lstat
		}
		if err := get(path, &st); err != nil {
			return "", err
		}
		return attributes(&st), nil
	case "list": // DIRECTORY: names in order
		names, err := list(path)
		return strings.Join(names, " "), err
	case "settle": // DIRECTORY: waits until no name there is one that NFS gave to a removed open file
		return "", settle(path)
	case "setxattr":
		return "", unix.Setxattr(path, "user.trinas", []byte("x"), 0)
	case "umask":
		unix.Umask(int(mode(0, 0)))
		return "", nil

	// Calls on an open file.
	case "hold": // NAME PATH FLAGS [MODE]: opens it until the check's end
		fd, err := unix.Open(arg(1), flags(arg(2)), mode(3, 0o644))
		if err == nil {
			w.held[path] = fd
		}
		return "", err
	case "close":
		err := unix.Close(w.fd(path))
		delete(w.held, path)
		return "", err
	case "fread": // NAME OFFSET BYTES
		b := make([]byte, number(2))
		n, err := unix.Pread(w.fd(path), b, number(1))
		return string(b[:max(0, n)]), err
	case "fwrite": // NAME TEXT: where the file's position is
		_, err := unix.Write(w.fd(path), []byte(arg(1)))
		return "", err
	case "ftruncate":
		return "", unix.Ftruncate(w.fd(path), number(1))
	case "fchmod":
		return "", unix.Fchmod(w.fd(path), mode(1, 0))
	case "fchown":
		return "", unix.Fchown(w.fd(path), int(number(1)), int(number(2)))
	case "fsync":
		return "", unix.Fsync(w.fd(path))
	case "fallocate": // NAME OFFSET BYTES
		return "", unix.Fallocate(w.fd(path), 0, number(1), number(2))
	case "punch": // NAME OFFSET BYTES
		return "", unix.Fallocate(w.fd(path), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, number(1), number(2))
	case "fstat":
		var st unix.Stat_t
		if err := unix.Fstat(w.fd(path), &st); err != nil {
			return "", err
		}
		return attributes(&st), nil

	// Comparisons.
	case "same": // PATH PATH: one file
		var a, b unix.Stat_t
		if err := errors.Join(unix.Lstat(path, &a), unix.Lstat(arg(1), &b)); err != nil {
			return "", err
		}
		return strconv.FormatBool(a.Ino == b.Ino && a.Dev == b.Dev), nil
	case "mark": // PATH...: what "changed" compares with
		for _, p := range args {
			var st unix.Stat_t
			if err := unix.Lstat(p, &st); err != nil {
				return "", err
			}
			w.marks[p] = st
		}
		awaitTick()
		return "", nil
	case "changed": // PATH [WAS]: which times are later than at the mark of WAS (else PATH): "mtime ctime", "none"
		was, ok := w.marks[args[len(args)-1]]
		if !ok {
			return "", fmt.Errorf("no mark of %s", args[len(args)-1])
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return "", err
		}
		return later(&st, &was), nil
	}
	return "", fmt.Errorf("unknown call %q", name)
}

// fd is a held descriptor; -1, which gives EBADF, when there is none.
func (w *world) fd(name string) int {
	if fd, ok := w.held[name]; ok {
		return fd
	}
	return -1
}

func withFile(path string, flag int, f func(fd int) error) error {
	fd, err := unix.Open(path, flag, 0)
	if err != nil {
		return err
	}
	if err := f(fd); err != nil {
		_ = unix.Close(fd)
		return err
	}
	return unix.Close(fd) // NFS tells here of writes that failed
}

// flags reads O_RDWR|O_CREAT.
func flags(s string) int {
	known := map[string]int{
		"O_RDONLY": unix.O_RDONLY, "O_WRONLY": unix.O_WRONLY, "O_RDWR": unix.O_RDWR, "O_CREAT": unix.O_CREAT,
		"O_EXCL": unix.O_EXCL, "O_TRUNC": unix.O_TRUNC, "O_APPEND": unix.O_APPEND, "O_DIRECTORY": unix.O_DIRECTORY,
		"O_NOFOLLOW": unix.O_NOFOLLOW, "O_NONBLOCK": unix.O_NONBLOCK, "O_SYNC": unix.O_SYNC, "O_PATH": unix.O_PATH,
		"O_TMPFILE": unix.O_TMPFILE, "O_DIRECT": unix.O_DIRECT,
	}
	sum := unix.O_CLOEXEC
	for word := range strings.SplitSeq(s, "|") {
		flag, ok := known[word]
		if !ok {
			panic(fmt.Sprintf("open flag %q is not known", word))
		}
		sum |= flag
	}
	return sum
}

// timespec reads now, omit or SECONDS[.NANOSECONDS], all nine digits.
func timespec(s string) unix.Timespec {
	switch s {
	case "now":
		return unix.Timespec{Nsec: unix.UTIME_NOW}
	case "omit":
		return unix.Timespec{Nsec: unix.UTIME_OMIT}
	}
	sec, nsec, _ := strings.Cut(s, ".")
	var t unix.Timespec
	t.Sec, _ = strconv.ParseInt(sec, 10, 64) // a bad number gives a time that nobody expects
	t.Nsec, _ = strconv.ParseInt(nsec, 10, 64)
	return t
}

// attributes are KEY=VALUE words.
func attributes(st *unix.Stat_t) string {
	types := map[uint32]string{
		unix.S_IFREG: "file", unix.S_IFDIR: "dir", unix.S_IFLNK: "link", unix.S_IFIFO: "fifo",
		unix.S_IFSOCK: "sock", unix.S_IFCHR: "char", unix.S_IFBLK: "block",
	}
	return fmt.Sprintf("type=%s mode=%o uid=%d gid=%d size=%d nlink=%d rdev=%d:%d blocks0=%t atime=%d.%09d mtime=%d.%09d",
		types[st.Mode&unix.S_IFMT], st.Mode&0o7777, st.Uid, st.Gid, st.Size, st.Nlink,
		unix.Major(st.Rdev), unix.Minor(st.Rdev), st.Blocks == 0,
		st.Atim.Sec, st.Atim.Nsec, st.Mtim.Sec, st.Mtim.Nsec)
}

func later(now, was *unix.Stat_t) string {
	var names []string
	for name, pair := range map[string][2]unix.Timespec{"mtime": {now.Mtim, was.Mtim}, "ctime": {now.Ctim, was.Ctim}} {
		if pair[0].Nano() > pair[1].Nano() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if names == nil {
		return "none"
	}
	return strings.Join(names, " ")
}

// awaitTick waits until a time that the kernel stamps now differs from one of just before: it
// stamps whole ticks, 10 ms apart in the guest.
func awaitTick() {
	const tick = 10 * time.Millisecond
	time.Sleep(2 * tick)
}

func list(path string) ([]string, error) {
	d, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// settleTimeout is how long the kernel may take to remove a file that was removed while it was open:
// it does so after the close, and does not wait for the answer.
const settleTimeout = 5 * time.Second

func settle(path string) error {
	for deadline := time.Now().Add(settleTimeout); ; awaitTick() {
		names, err := list(path)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, ".nfs") }) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%v after the close there are still %v", settleTimeout, names)
		}
	}
}
