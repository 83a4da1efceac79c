// Command boot tries the package as an admin meets it: three Debian systems with systemd, apt install
// from a signed repository, the commands of README's set-up section, upgrade, removal and purge, the
// journal, a disk that hangs, what the agent may do to Proxmox HA, the mount that the storage plugin makes, and a shutdown under it. The
// README of this folder says what is shown.
//
// It must never say PASS for what did not run, and never leave a process, mount or namespace behind.
//
// Floor 6: imports packaging/lab, packaging/lab/guest.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"trinas/packaging/lab"
)

// runTimeout bounds the whole run, the making of the tree aside.
const runTimeout = 15 * time.Minute

func main() {
	dir := flag.String("dir", "", "where the machines' files go: a folder on a disk (default /var/tmp)")
	older := flag.String("older", "", "the package that is installed first")
	newer := flag.String("newer", "", "the package that it is upgraded to")
	keep := flag.Bool("keep", false, "keep the machines' files and journals also when all is well")
	parts := flag.String("parts", "", `only these parts of the trial, such as "set-up,HA" (default all)`)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *dir, *older, *newer, *parts, *keep); err != nil {
		fmt.Println(err)
		fmt.Println("boot: FAIL")
		os.Exit(1)
	}
	fmt.Println("boot: PASS")
}

func run(ctx context.Context, dir, older, newer, parts string, keep bool) error {
	if os.Geteuid() != 0 {
		return errors.New("this needs root: it boots containers")
	}
	if err := lab.Need("ip", "unshare", "nsenter", "setsid", "systemd-nspawn", "mmdebstrap", "fsfreeze", "mke2fs", "chattr", "linux.uml",
		"apt-ftparchive", "gpg"); err != nil {
		return err
	}
	build, err := filepath.Abs("build")
	if err != nil {
		return err
	}
	tree, err := makeTree(ctx, filepath.Join(build, "boot-tree"), "systemd-sysv")
	if err != nil {
		return err
	}
	image, err := makeImage(ctx, build)
	if err != nil {
		return err
	}
	repo, err := makeRepository(ctx, filepath.Join(build, "boot-apt"), older, newer)
	if err != nil {
		return err
	}
	defer repo.close()

	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	began := time.Now()
	machines, err := lab.OpenMachines(ctx, dir, tree, repo.dir, []string{"n1", "n2", "n3", "n4"})
	if err != nil {
		return err
	}
	report("four Debian systems are up", time.Since(began), 0)
	t := &trial{repo: repo, machines: machines, nodes: machines.List[:3], spare: machines.List[3], image: image, parts: parts}
	err = t.run(ctx)
	if err != nil || keep {
		t.saveJournals()
	}
	err = errors.Join(err, machines.Close())
	if keep || err != nil && ctx.Err() == nil {
		fmt.Printf("files and journals are in %s\n", machines.Dir)
		return err
	}
	return errors.Join(err, machines.Remove())
}

// report prints a line: what was done, how long it took, and what it may take (0: no bound). The
// times do not decide: they depend on the machine.
func report(what string, took, goal time.Duration) {
	text := ""
	if goal > 0 {
		text = fmt.Sprintf("goal %v", goal)
		if took > goal {
			text += ": MISSED"
		}
	}
	fmt.Printf("%-66s %8.2f s  %s\n", what, took.Seconds(), text)
}

// makeTree makes the file tree of a small Debian system with these packages (commas between), unless an earlier run
// has.
func makeTree(ctx context.Context, tree, packages string) (string, error) {
	if _, err := os.Stat(tree); err == nil {
		return tree, nil
	}
	fmt.Println("making the tree of a Debian system (once, half a minute)")
	making := tree + ".making"
	if err := os.RemoveAll(making); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "mmdebstrap", "--quiet", "--variant=minbase", "--include="+packages,
		"--customize-hook=rm -f $1/etc/apt/sources.list", "bookworm", making)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("mmdebstrap: %w: %s", err, out)
	}
	return tree, os.Rename(making, tree)
}

// repository is an apt repository, and the packages that it may have.
type repository struct {
	dir, keys    string
	older, newer debFile
}

// debFile is a package and its version.
type debFile struct{ path, version string }

func readDeb(ctx context.Context, path string) (debFile, error) {
	out, err := exec.CommandContext(ctx, "dpkg-deb", "--field", path, "Version").Output()
	if err != nil {
		return debFile{}, fmt.Errorf("package %s: %w: run make boot", path, err)
	}
	return debFile{path: path, version: strings.TrimSpace(string(out))}, nil
}

// makeRepository makes a repository that has the older package.
func makeRepository(ctx context.Context, dir, older, newer string) (*repository, error) {
	r := &repository{dir: dir}
	var errs [2]error
	r.older, errs[0] = readDeb(ctx, older)
	r.newer, errs[1] = readDeb(ctx, newer)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	var err error
	if r.keys, err = os.MkdirTemp("", "trinas-keys-"); err != nil {
		return nil, fmt.Errorf("folder for the key: %w", err)
	}
	if err := r.publish(ctx, r.older); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// publish makes these packages the repository's.
func (r *repository) publish(ctx context.Context, debs ...debFile) error {
	cmd := exec.CommandContext(ctx, "packaging/aptrepo.sh", r.dir)
	for _, d := range debs {
		cmd.Args = append(cmd.Args, d.path)
	}
	cmd.Env = append(os.Environ(), "GNUPGHOME="+r.keys)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("aptrepo.sh: %w: %s", err, out)
	}
	return nil
}

// close removes the keys. Errors only leave a folder in /tmp.
func (r *repository) close() {
	cmd := exec.Command("gpgconf", "--kill", "all")
	cmd.Env = append(os.Environ(), "GNUPGHOME="+r.keys)
	_ = cmd.Run()
	_ = os.RemoveAll(r.keys)
}
