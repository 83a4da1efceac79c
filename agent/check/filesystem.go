package check

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"trinas/replica/disk"
)

// mount is one line of /proc/self/mountinfo or mounts (proc(5)).
type mount struct {
	dir, fsType, source string
	options             []string
}

// mountOf finds the mount that path lies on, without touching path.
func (h Host) mountOf(path string) (best mount, ok bool) {
	all, err := h.mounts()
	if err != nil {
		return mount{}, false
	}
	path = filepath.Clean(path)
	for _, m := range all {
		above := m.dir == "/" || path == m.dir || strings.HasPrefix(path, m.dir+"/")
		if above && len(m.dir) >= len(best.dir) { // a later mount on the same directory hides the earlier
			best, ok = m, true
		}
	}
	return best, ok
}

func (h Host) mounts() ([]mount, error) {
	raw, err := h.read("proc/self/mounts")
	if err != nil {
		return nil, err
	}
	var out []mount
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) >= 4 {
			out = append(out, mount{dir: unescape(f[1]), fsType: f[2], source: unescape(f[0]), options: strings.Split(f[3], ",")})
		}
	}
	return out, lines.Err()
}

// unescape undoes the kernel's octal escapes of blanks and backslashes.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// remote tells whether a file system's data is on another machine, or may hang for one.
func remote(fsType string) bool {
	return slices.Contains([]string{"nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "afs", "glusterfs", "fuse.glusterfs", "fuse.sshfs", "fuse.ceph"}, fsType)
}

// Free space below which writes are refused (replica's reserve), and below which it is time to act.
const (
	spaceError  = 256 << 20
	spaceRatio  = 20 // warn under a twentieth
	holeTestLen = 64 << 10
)

func checkFileSystem(_ context.Context, s Subject, h Host) []Finding {
	const use = "put data_dir on a local ext4, XFS or ZFS"
	path := s.Config.DataDir
	m, ok := h.mountOf(path)
	switch {
	case ok && remote(m.fsType):
		return []Finding{{"file system", Error, fmt.Sprintf("%s is on %s: a replica must be on a disk of this node", path, m.fsType), use}}
	case ok && (m.fsType == "tmpfs" || m.fsType == "ramfs"):
		return []Finding{{"file system", Error, fmt.Sprintf("%s is in memory (%s): a reboot loses it", path, m.fsType), use}}
	case ok && m.fsType == "overlay":
		return []Finding{{"file system", Error, fmt.Sprintf("%s is on an overlay, which keeps neither holes nor the log's speed", path), use}}
	}
	dir, err := existing(path)
	if err != nil {
		return []Finding{{"file system", Error, fmt.Sprintf("%s cannot be read: %v", dir, err), diskRemedy(err)}}
	}
	out := []Finding{checkHoles(dir, m.fsType), checkSpace(dir, uint64(s.Config.Log.Limit))}
	if slices.Contains(m.options, "ro") {
		out = append(out, Finding{"file system", Error, m.dir + " is mounted read-only",
			"see the kernel's log (dmesg) for why, then mount it for writing"})
	}
	return out
}

// checkHoles makes a hole, as volumes do for zeros.
func checkHoles(dir, fsType string) Finding {
	err := func() error {
		f, err := unnamed(dir)
		if err != nil {
			return err
		}
		defer f.Close()
		b := bytes.Repeat([]byte{0xa5}, holeTestLen)
		if _, err := f.WriteAt(b, 0); err != nil {
			return err
		}
		if err := f.PunchHole(0, holeTestLen); err != nil {
			return err
		}
		if _, err := f.ReadAt(b, 0); err != nil {
			return err
		}
		if len(bytes.Trim(b, "\x00")) != 0 {
			return errors.New("a hole does not read as zeros")
		}
		return nil
	}()
	switch {
	case errors.Is(err, syscall.EOPNOTSUPP):
		return Finding{"file system", Error, fmt.Sprintf("%s (%s) cannot make holes: deleted and zeroed data would take room for ever", dir, fsType),
			"put data_dir on a local ext4, XFS or ZFS"}
	case err != nil:
		return Finding{"file system", Error, fmt.Sprintf("%s cannot be written to: %v", dir, err), diskRemedy(err)}
	}
	return Finding{Check: "file system", Text: fmt.Sprintf("%s is on %s, which can make holes", dir, orUnknown(fsType))}
}

func checkSpace(dir string, logLimit uint64) Finding {
	s, err := disk.OS(dir).Space()
	if err != nil {
		return Finding{"file system", Error, "free space cannot be read: " + err.Error(), diskRemedy(err)}
	}
	return judgeSpace(dir, s, logLimit)
}

func judgeSpace(dir string, s disk.Space, logLimit uint64) Finding {
	gib := func(n uint64) string { return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30)) }
	f := Finding{Check: "file system", Text: fmt.Sprintf("%s of %s are free in %s", gib(s.FreeBytes), gib(s.TotalBytes), dir)}
	switch {
	case s.FreeBytes < spaceError:
		f.Level, f.Do = Error, "make room: guests' writes get \"no space left\" on every node"
	case s.FreeBytes < s.TotalBytes/spaceRatio, s.FreeBytes < logLimit:
		f.Level, f.Do = Warning, "make room: the log alone may take "+gib(logLimit)+" (log.limit), and a full disk refuses writes on every node"
	}
	return f
}

func orUnknown(text string) string {
	if text == "" {
		return "an unknown file system"
	}
	return text
}
