// Command bench measures what replication costs: three agents on this machine, and in the same run
// nfs-ganesha that exports a plain folder of the same disk, and another that exports a GlusterFS volume
// of three copies. All do real syncs. One part has QEMU's
// NFS client work on a disk image (qemu-img bench with cache none), another a Linux kernel's on a
// source tree and a file. The long one has several guests write for a minute and more.
//
// It must never compare runs of different conditions: all servers stay up, turns alternate, the
// median counts.
//
// Floor 6: imports packaging/lab and nfsgw/nfs3.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"syscall"
	"time"

	"trinas/packaging/lab"
)

const (
	volume    = "bench"
	imageName = "disk.img"
)

// Values of settings.client.
const (
	clientAll    = "all"
	clientQEMU   = "qemu"
	clientKernel = "kernel"
	clientLong   = "long"
)

// settings is what the flags say.
type settings struct {
	binary     string
	dir        string
	jsonFile   string
	guardFile  string
	imageBytes int64
	seconds    float64 // of each run
	rounds     int     // of which the median counts
	client     string  // clientAll, or the one whose part runs alone
	quick      bool
	gluster    bool
	pattern    *regexp.Regexp // the patterns and trials to run
	longBytes  int64          // of the long part's image
	longTime   time.Duration  // of its sustained writes
}

func main() { os.Exit(run()) }

func run() int {
	var s settings
	flag.StringVar(&s.binary, "binary", "build/trinas", "the trinas program")
	flag.StringVar(&s.dir, "dir", "", "where data go: a folder on the disk to measure (default /var/tmp)")
	flag.StringVar(&s.jsonFile, "json", "", "write the figures to this file, too")
	flag.StringVar(&s.guardFile, "guard", "", "compare QEMU's patterns with the run in this file, which is made by the first run; fail when one is worse")
	flag.Float64Var(&s.seconds, "seconds", 4, "length of each run")
	flag.IntVar(&s.rounds, "rounds", 3, "runs of each pattern and server, of which the median counts")
	flag.StringVar(&s.client, "client", clientAll, "run only one part: qemu or kernel, by its client, or long")
	flag.BoolVar(&s.gluster, "gluster", true, "have GlusterFS (replica 3, behind nfs-ganesha) run QEMU's patterns too")
	only := flag.String("pattern", "", "of QEMU's patterns and the long trials, run only those whose name matches this regular expression")
	mib := flag.Int64("image", 1024, "size of the image in MiB")
	longMiB := flag.Int64("long-image", 8192, "size of the long part's image in MiB: of which seven copies are made, without GlusterFS four")
	flag.DurationVar(&s.longTime, "long-time", time.Minute, "length of the sustained writes")
	flag.BoolVar(&s.quick, "quick", false, "one round of 1 s each on 256 MiB and 500 files: to see that it works")
	flag.Parse()
	if s.quick {
		s.seconds, s.rounds, *mib, *longMiB, s.longTime = 1, 1, 256, 512, 5*time.Second
	}
	s.imageBytes, s.longBytes = *mib<<20, *longMiB<<20
	var err error
	if s.pattern, err = regexp.Compile(*only); err != nil {
		return fail(fmt.Errorf("-pattern: %w", err))
	}
	if err := s.check(); err != nil {
		return fail(err)
	}
	// Ganesha opens files by handle, which no user namespace allows (open_by_handle_at(2)).
	if os.Geteuid() != 0 {
		return fail(errors.New("make bench needs root: nfs-ganesha's VFS does"))
	}
	if _, _, err := lab.Private(); err != nil {
		return fail(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	figures, err := measure(ctx, s)
	if err != nil {
		return fail(err)
	}
	figures.print(os.Stdout)
	if s.jsonFile != "" {
		if err := figures.save(s.jsonFile); err != nil {
			return fail(err)
		}
	}
	if s.guardFile != "" {
		if err := figures.guard(s.guardFile, os.Stdout); err != nil {
			return fail(err)
		}
	}
	return 0
}

func (s settings) check() error {
	switch {
	case s.imageBytes < 64<<20 || s.longBytes < 64<<20:
		return errors.New("-image, -long-image: at least 64 MiB")
	case s.seconds < 0.1 || s.seconds > 600:
		return errors.New("-seconds: between 0.1 and 600")
	case !slices.Contains([]string{clientAll, clientQEMU, clientKernel, clientLong}, s.client):
		return fmt.Errorf("-client is %q: must be all, qemu, kernel or long", s.client)
	case s.rounds < 1 || s.rounds > 100:
		return errors.New("-rounds: between 1 and 100")
	}
	if s.withGluster() {
		if err := lab.Need("glusterd", "gluster"); err != nil {
			return err
		}
	}
	return lab.Need("ip", "qemu-img", "ganesha.nfsd", "rpcbind", "mount", "linux.uml", "unshare", "bash", "fio", "mkfs.ext4")
}

// withGluster: the kernel's part has no use for it.
func (s settings) withGluster() bool { return s.gluster && s.client != clientKernel }

func fail(err error) int {
	fmt.Fprintln(os.Stderr, "bench:", err)
	return 1
}

// measure starts both servers, has both clients work on them and stops them. On failure the folder
// stays.
func measure(ctx context.Context, s settings) (figures *figures, err error) {
	// OpenNFS: the kernel that is a client is not on a node.
	l, err := lab.Open(ctx, lab.Options{Binary: s.binary, Dir: s.dir, Nodes: 3, OpenNFS: true})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err = errors.Join(err, l.Close()); err != nil {
			err = fmt.Errorf("%w\nlogs are in %s", err, l.Dir)
			return
		}
		err = l.Remove()
	}()
	ours, err := startCluster(ctx, l)
	if err != nil {
		return nil, err
	}
	peer, err := startGanesha(ctx, l, "ganesha", "")
	if err != nil {
		return nil, err
	}
	defer peer.close()

	b := &bench{settings: s, ours: ours, peer: peer, scratch: l.Dir, started: time.Now()}
	if s.withGluster() {
		if b.gluster, err = startGluster(ctx, l); err != nil {
			return nil, err
		}
		defer b.gluster.close()
	}
	if b.takes(clientKernel) {
		if b.synced, err = startGanesha(ctx, l, "synced", syncedPrepare); err != nil {
			return nil, err
		}
		defer b.synced.close()
	}
	return b.run(ctx, l)
}
