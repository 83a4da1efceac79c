// Package vm runs small virtual machines by QEMU (in software: no KVM is needed), each on a host of the
// lab, with one disk: Debian's kernel for virtual machines and one static program, which is its first
// process. They can be frozen and moved live. It must never leave a machine behind that its context has
// outlived, and never write outside of the folder it is given.
//
// Floor 6: imports packaging/lab and packaging/lab/initramfs.
package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"trinas/packaging/lab/initramfs"
)

// ModulesDir is where the machine's program finds the kernel modules that it has to load, named so that
// the order of their names is the order to load them.
const ModulesDir = "/modules"

// Image is what machines boot: several may boot the same.
type Image struct {
	kernel, initrd string
}

// Make puts an initramfs into dir: init, a program built without cgo, and the named modules. kernel is the
// folder that packaging/kernel.sh makes.
func Make(kernel, init, dir string, modules ...string) (*Image, error) {
	program, err := os.ReadFile(init)
	if err != nil {
		return nil, fmt.Errorf("the machine's program: %w", err)
	}
	files, err := initramfs.Modules(filepath.Join(kernel, "lib/modules"), modules)
	if err != nil {
		return nil, fmt.Errorf("the machine's kernel: %w: run packaging/kernel.sh", err)
	}
	var a initramfs.Archive
	for _, folder := range []string{"dev", "proc", strings.TrimPrefix(ModulesDir, "/")} {
		a.Dir(folder)
	}
	a.Device("dev/console", 5, 1)
	for i, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("kernel module: %w", err)
		}
		a.File(fmt.Sprintf("%s/%02d-%s", strings.TrimPrefix(ModulesDir, "/"), i, filepath.Base(file)), b)
	}
	a.File("init", program)
	i := &Image{kernel: filepath.Join(kernel, "vmlinuz"), initrd: filepath.Join(dir, "initrd.img")}
	return i, os.WriteFile(i.initrd, a.Finish(), 0o644)
}

// clockKHz is the rate of the processor's time stamp counter, which QEMU gives to the machine as it is.
// A kernel that is not told measures it against an emulated timer, which on a busy host fails now and
// then, and the boot hangs. /proc/cpuinfo's bogomips are twice the rate in MHz.
func clockKHz() (int, error) {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		if strings.TrimSpace(key) == "bogomips" {
			mips, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			return int(mips * 500), err
		}
	}
	return 0, fmt.Errorf("no bogomips in /proc/cpuinfo")
}
