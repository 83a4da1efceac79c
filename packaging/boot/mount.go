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
	// shutdownChecks is how many mount/shutdown.sh and mount/last.sh make.
	shutdownChecks = 12
	// powerOffLimit is for a shutdown that hangs: 225 s were measured when a mount in use lost its agent.
	powerOffLimit = time.Minute
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

// debian lays out a machine with a kernel of its own, which has the NFS client that this machine's may lack. It boots Debian and
// runs a script of folder mount there.
func (t *trial) debian(ctx context.Context, name string, script ...string) (*guest.Machine, error) {
	dir := filepath.Join(t.machines.Dir, name)
	m := &guest.Machine{
		Dir: dir, Init: filepath.Join(dir, "init"), Memory: "512M", Disk: filepath.Join(dir, "disk.ext4"), Debian: true,
		Args: append([]string{"bash"}, script...), Limit: mountLimit,
	}
	if err := os.MkdirAll(m.Share(), 0o755); err != nil {
		return nil, err
	}
	if err := guest.Build(ctx, "trinas/packaging/lab/guest/init", m.Init); err != nil {
		return nil, err
	}
	for from, to := range map[string]string{"plugin/t/standin": "standin", "packaging/boot/mount": ""} {
		if err := os.CopyFS(filepath.Join(m.Share(), to), os.DirFS(from)); err != nil {
			return nil, err
		}
	}
	for _, copied := range [][2]string{
		{t.image, m.Disk}, {t.repo.newer.path, m.Share() + "/trinas.deb"}, {"packaging/e2e/checks.sh", m.Share()},
	} {
		if out, err := exec.CommandContext(ctx, "cp", "--sparse=always", copied[0], copied[1]).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("cp %s %s: %w: %s", copied[0], copied[1], err, out)
		}
	}
	return m, nil
}

// runChecks boots a machine whose script makes so many checks. It is an error unless all of them pass.
func runChecks(ctx context.Context, m *guest.Machine, checks int) error {
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
	if errs = append(errs, err); err == nil && (status != 0 || passed != checks) {
		errs = append(errs, fmt.Errorf("%s ended with status %d after %d of %d checks", m.Args[1], status, passed, checks))
	} else if err != nil {
		errs = append(errs, fmt.Errorf("the last of %d checks that passed: %s", passed, last))
	}
	return errors.Join(errs...)
}

// mount runs mount/trial.sh.
func (t *trial) mount(ctx context.Context) error {
	began := time.Now()
	m, err := t.debian(ctx, "mount", "trial.sh")
	if err != nil {
		return err
	}
	if err := runChecks(ctx, m, mountChecks); err != nil {
		return err
	}
	report(fmt.Sprintf("the plugin's mount under systemd, a Linux NFS client: %d checks", mountChecks), time.Since(began), 0)
	return nil
}

// shutdown powers machines off while the plugin's mount is in use, in each case of mount/shutdown.sh.
func (t *trial) shutdown(ctx context.Context) error {
	for _, user := range []string{"guest", "stray"} {
		m, err := t.debian(ctx, "shutdown-"+user, "shutdown.sh", user)
		if err != nil {
			return err
		}
		m.PowerOff = true
		if err := runChecks(ctx, m, shutdownChecks); err != nil {
			return fmt.Errorf("the mount's user is a %s: %w", user, err)
		}
		if m.PoweredOff > powerOffLimit {
			return fmt.Errorf("the mount's user is a %s: power off took %v, longer than %v", user, m.PoweredOff, powerOffLimit)
		}
		report("power off while a "+user+" writes to the plugin's mount", m.PoweredOff, 0)
	}
	return nil
}
