package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A hundredth of what the disk of the first measurements does (10,900 synced writes of 4 KiB, 1.4 GB/s).
const (
	slowWrites = 109
	slowBytes  = 14 << 20
)

const cgroups = "/sys/fs/cgroup"

// diskLimit bounds what one process writes to a disk, by a control group of its own. Writes past the page
// cache count (the log's), and with version 2 of control groups the others too.
type diskLimit struct {
	group, device string
	unified       bool
	pid           int
}

// newDiskLimit puts a process into a group; set makes the limit. dir is on the disk.
func newDiskLimit(dir string, pid int) (*diskLimit, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return nil, fmt.Errorf("disk of %s: %w", dir, err)
	}
	number := fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	block, err := filepath.EvalSymlinks("/sys/dev/block/" + number)
	if err != nil {
		return nil, fmt.Errorf("disk of %s: %w", dir, err)
	}
	if _, err := os.Stat(block + "/partition"); err == nil { // only whole disks can be limited
		whole, err := os.ReadFile(filepath.Dir(block) + "/dev")
		if err != nil {
			return nil, fmt.Errorf("disk of %s: %w", dir, err)
		}
		number = strings.TrimSpace(string(whole))
	}
	l := &diskLimit{device: number, pid: pid}
	_, err = os.Stat(cgroups + "/cgroup.controllers")
	l.unified = err == nil
	l.group = filepath.Join(l.root(), fmt.Sprintf("trinas-bench-%d", os.Getpid()))
	if err := os.Mkdir(l.group, 0o755); err != nil {
		return nil, fmt.Errorf("control group: %w", err)
	}
	if l.unified {
		if err := os.WriteFile(cgroups+"/cgroup.subtree_control", []byte("+io"), 0); err != nil {
			return nil, errors.Join(fmt.Errorf("control group: %w", err), os.Remove(l.group))
		}
	}
	return l, l.enter(l.group)
}

func (l *diskLimit) root() string {
	if l.unified {
		return cgroups
	}
	return cgroups + "/blkio"
}

func (l *diskLimit) enter(group string) error {
	return os.WriteFile(group+"/cgroup.procs", []byte(strconv.Itoa(l.pid)), 0)
}

// set makes the limit, or lifts it.
func (l *diskLimit) set(on bool) error {
	if l.unified {
		line := l.device + " wbps=max wiops=max"
		if on {
			line = fmt.Sprintf("%s wbps=%d wiops=%d", l.device, slowBytes, slowWrites)
		}
		return os.WriteFile(l.group+"/io.max", []byte(line), 0)
	}
	writes, bytes := 0, 0 // no limit
	if on {
		writes, bytes = slowWrites, slowBytes
	}
	return errors.Join(
		os.WriteFile(l.group+"/blkio.throttle.write_iops_device", fmt.Appendf(nil, "%s %d", l.device, writes), 0),
		os.WriteFile(l.group+"/blkio.throttle.write_bps_device", fmt.Appendf(nil, "%s %d", l.device, bytes), 0))
}

// remove ends the limit.
func (l *diskLimit) remove() {
	_ = l.set(false) // whatever fails here, the process ends with the lab
	_ = l.enter(l.root())
	_ = os.Remove(l.group)
}
