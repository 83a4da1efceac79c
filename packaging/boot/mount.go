package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"trinas/packaging/lab/guest"
)

const (
	mountLimit = 4 * time.Minute
	// mountChecks is how many checks mount/trial.sh makes: one that was not reached did not pass.
	mountChecks = 46
)

// mountPackages are what the plugin and an NFS mount need beside systemd.
const mountPackages = "systemd-sysv,perl,libjson-perl,nfs-common,netbase,kmod,e2fsprogs"

// makeImage makes an ext4 image of a small Debian system with an NFS client, unless an earlier run has.
func makeImage(ctx context.Context, build string) (string, error) {
	image := filepath.Join(build, "boot-mount.ext4")
	if _, err := os.Stat(image); err == nil {
		return image, nil
	}
	tree, err := makeTree(ctx, filepath.Join(build, "boot-mount-tree"), mountPackages)
	if err != nil {
		return "", err
	}
	making := image + ".making"
	for _, args := range [][]string{{"truncate", "-s", "2G", making}, {"mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, making}} {
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	return image, os.Rename(making, image)
}

// mount runs mount/trial.sh on a Debian system with a kernel of its own, which has the NFS client that this machine's may
// lack.
func (t *trial) mount(ctx context.Context) error {
	began := time.Now()
	dir := filepath.Join(t.machines.Dir, "mount")
	m := &guest.Machine{
		Dir: dir, Init: filepath.Join(dir, "init"), Memory: "512M", Disk: filepath.Join(dir, "disk.ext4"), Debian: true,
		Args: []string{"bash", "trial.sh"}, Limit: mountLimit,
	}
	if err := os.MkdirAll(m.Share(), 0o755); err != nil {
		return err
	}
	if err := guest.Build(ctx, "trinas/packaging/lab/guest/init", m.Init); err != nil {
		return err
	}
	if err := os.CopyFS(filepath.Join(m.Share(), "standin"), os.DirFS("plugin/t/standin")); err != nil {
		return err
	}
	for _, copied := range [][2]string{
		{t.image, m.Disk}, {t.repo.newer.path, m.Share() + "/trinas.deb"}, {"packaging/e2e/checks.sh", m.Share()},
		{"packaging/boot/mount/trial.sh", m.Share()}, {"packaging/boot/mount/storage.pl", m.Share()},
	} {
		if out, err := exec.CommandContext(ctx, "cp", "--sparse=always", copied[0], copied[1]).CombinedOutput(); err != nil {
			return fmt.Errorf("cp %s %s: %w: %s", copied[0], copied[1], err, out)
		}
	}
	passed, last := 0, "none"
	var errs []error
	m.Line = func(line string) {
		switch {
		case strings.HasPrefix(line, "ok "):
			passed, last = passed+1, strings.TrimPrefix(line, "ok ")
		case strings.HasPrefix(line, "not ok "):
			errs = append(errs, errors.New(line))
		default:
			fmt.Println(strings.TrimPrefix(line, "= "))
		}
	}
	status, err := m.Run(ctx)
	if errs = append(errs, err); err == nil && (status != 0 || passed != mountChecks) {
		errs = append(errs, fmt.Errorf("trial.sh ended with status %d after %d of %d checks", status, passed, mountChecks))
	} else if err != nil {
		errs = append(errs, fmt.Errorf("the last of %d checks that passed: %s", passed, last))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	report(fmt.Sprintf("the plugin's mount under systemd, a Linux NFS client: %d checks", passed), time.Since(began), 0)
	return nil
}
