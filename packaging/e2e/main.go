// Command e2e runs scenarios: a cluster of three agents and guests, whose Linux kernels mount a
// volume from 127.0.0.1 as Proxmox nodes would, run the scenario's script on it and say what came
// out. The README says how a scenario is laid out.
//
// It must never say PASS for checks that did not run, and never leave a process or namespace behind.
//
// Floor 6: imports packaging/e2e/ask and packaging/lab.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"trinas/packaging/lab"
)

// formTimeout is how long the agents may take to become a cluster.
const formTimeout = 60 * time.Second

func main() { os.Exit(run()) }

func run() int {
	binary := flag.String("binary", "build/trinas", "the trinas program")
	kernel := flag.String("kernel", "build/kernel", "the folder with the kernel of QEMU's guests (packaging/kernel.sh)")
	folder := flag.String("scenarios", "packaging/e2e", "the folder whose folders are the scenarios")
	dir := flag.String("dir", "", "where the agents' data go: a folder on a disk (default /var/tmp)")
	keep := flag.Bool("keep", false, "keep data and logs also when all is well")
	quick := flag.Bool("quick", false, "only the scenarios that are quick, and those in short")
	verbose := flag.Bool("v", false, "print all that the guests say")
	update := flag.Bool("update", false, "write the files named expect from what passed")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: e2e [flags] [scenario ...]; no scenario: all")
		flag.PrintDefaults()
	}
	flag.Parse()

	if status, done, err := lab.Private(); done || err != nil {
		if err != nil {
			return fail(err)
		}
		return status
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	for _, path := range []*string{binary, kernel} { // programs on the host run in a folder of their own
		abs, err := filepath.Abs(*path)
		if err != nil {
			return fail(err)
		}
		*path = abs
	}
	scenarios, err := loadScenarios(*folder, flag.Args(), *quick)
	if err != nil {
		return fail(err)
	}
	if err := need(scenarios); err != nil {
		return fail(err)
	}
	l, err := lab.Open(ctx, lab.Options{Binary: *binary, Dir: *dir, Nodes: 3, OpenNFS: true})
	if err != nil {
		return fail(err)
	}
	r := &runner{lab: l, binary: *binary, kernel: *kernel, folder: *folder, quick: *quick, verbose: *verbose, update: *update}
	err = errors.Join(r.runAll(ctx, scenarios), l.Close())
	// After a failure data and logs are evidence; after a ^C they are only in the way.
	if *keep || err != nil && ctx.Err() == nil {
		fmt.Printf("data and logs are in %s\n", l.Dir)
	} else {
		err = errors.Join(err, l.Remove())
	}
	if err != nil {
		return fail(err)
	}
	fmt.Println("e2e: PASS")
	return 0
}

func fail(err error) int {
	fmt.Println(err)
	fmt.Println("e2e: FAIL")
	return 1
}

// need reports the first program that a scenario wants and the host has not.
func need(scenarios []*scenario) error {
	programs := []string{"ip", "sysctl", "unshare", "bash", "linux.uml"}
	for _, s := range scenarios {
		programs = append(programs, s.Programs...)
	}
	slices.Sort(programs)
	return lab.Need(slices.Compact(programs)...)
}
