// Command demo shows what trinas is for: three agents keep a real disk image alive through the
// loss of the primary. Every agent is a process of its own, in a network namespace of its own; the
// image goes in and out by QEMU's NFS client; everything that was acknowledged is checked.
//
// It must never say PASS without having checked, and never leave a process or namespace behind.
//
// Floor 6: imports packaging/lab.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"trinas/packaging/lab"
)

// limit is the longest that the demo takes before it fails; it needs a third of it.
const limit = 150 * time.Second

func main() { os.Exit(run()) }

func run() int {
	binary := flag.String("binary", "build/trinas", "the trinas program")
	dir := flag.String("dir", "", "where the agents' data go: a folder on a disk (default /var/tmp)")
	keep := flag.Bool("keep", false, "keep the agents' data and logs also when all is well")
	flag.Parse()

	if status, done, err := lab.Private(); done || err != nil {
		if err != nil {
			return fail(err)
		}
		return status
	}
	signalled, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(signalled, limit, fmt.Errorf("not done within %v", limit))
	defer cancel()

	if err := lab.Need("ip", "qemu-img", "mke2fs", "e2fsck"); err != nil {
		return fail(err)
	}
	l, err := lab.Open(ctx, lab.Options{Binary: *binary, Dir: *dir, Nodes: 3})
	if err != nil {
		return fail(err)
	}
	p := newPlay(l, os.Stdout)
	err = errors.Join(p.perform(ctx), l.Close())
	if ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), err)
	}
	p.report.print(os.Stdout)
	if err == nil {
		err = p.report.verdict()
	}
	// After a failure data and logs are evidence; after a ^C they are only in the way.
	if *keep || err != nil && signalled.Err() == nil {
		fmt.Printf("\nthe agents' data and logs are in %s\n", l.Dir)
	} else {
		err = errors.Join(err, l.Remove())
	}
	if err != nil {
		return fail(err)
	}
	fmt.Println("demo: PASS")
	return 0
}

func fail(err error) int {
	fmt.Println(err)
	fmt.Println("demo: FAIL")
	return 1
}
