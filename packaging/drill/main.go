// Command drill runs the drills of trinas (trinas drill) on three agents of a lab, one after the
// other, and shows their reports: the time to move, the pauses, what was lost. Then it times what a guest's restart on
// another node needs of trinas.
//
// It must never leave a process or namespace behind, and never hide a report.
//
// Floor 6: imports agent/drill and packaging/lab.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/willscott/go-nfs"

	"trinas/agent/drill"
	"trinas/packaging/lab"
)

const volume = "drill"

// rounds are the rounds of each kind; 0 leaves it out.
type rounds map[drill.Kind]*int

func main() { os.Exit(run()) }

func run() int {
	binary := flag.String("binary", "build/trinas", "the trinas program")
	dir := flag.String("dir", "", "where the agents' data go: a folder on a disk (default /var/tmp)")
	keep := flag.Bool("keep", false, "keep the agents' data and logs")
	asJSON := flag.Bool("json", false, "print the reports as JSON")
	limit := flag.Duration("limit", 30*time.Minute, "the longest that all may take")
	// 34 rounds strike three nodes 102 times.
	n := rounds{}
	for kind, usual := range map[drill.Kind]int{drill.Handover: 3, drill.Kill: 34, drill.Silence: 3, drill.SlowDisk: 1} {
		n[kind] = flag.Int(string(kind), usual, "rounds of this drill, each of which strikes three nodes; 0: leave it out")
	}
	restartRounds := flag.Int("restart", 12, "how often a node is cut off and a guest's image activated on another; 0: leave it out")
	flag.Parse()

	if status, done, err := lab.Private(); done || err != nil {
		if err != nil {
			return fail(err)
		}
		return status
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, *limit, fmt.Errorf("not done within %v", *limit))
	defer cancel()
	if err := lab.Need("ip"); err != nil {
		return fail(err)
	}
	l, err := lab.Open(ctx, lab.Options{Binary: *binary, Dir: *dir, Nodes: 3})
	if err != nil {
		return fail(err)
	}
	err = errors.Join(drills(ctx, l, n, *restartRounds, *asJSON), l.Close())
	if *keep || err != nil {
		fmt.Fprintf(os.Stderr, "the agents' data and logs are in %s\n", l.Dir)
	} else {
		err = l.Remove()
	}
	if err != nil {
		return fail(err)
	}
	return 0
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, "drill:", err)
	return 1
}

// drills forms a cluster and runs all kinds.
func drills(ctx context.Context, l *lab.Lab, n rounds, restartRounds int, asJSON bool) error {
	if err := l.Form(ctx); err != nil {
		return err
	}
	if err := l.CreateVolume(ctx, volume); err != nil {
		return err
	}
	ctx, fail := context.WithCancelCause(ctx)
	var beside sync.WaitGroup
	defer beside.Wait()
	defer fail(nil)
	for _, node := range l.Nodes {
		beside.Go(func() {
			if err := node.Supervise(ctx); err != nil {
				fail(err)
			}
		})
	}
	var errs []error
	for _, kind := range drill.Kinds() {
		if *n[kind] == 0 {
			continue
		}
		if err := one(ctx, l, kind, *n[kind], asJSON); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", kind, err))
		}
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
	}
	if restartRounds > 0 {
		if err := restarts(ctx, l, restartRounds); err != nil {
			errs = append(errs, fmt.Errorf("restart: %w", err))
		}
	}
	return errors.Join(errs...)
}

// one runs one drill as an admin would, through the first node, and checks that nothing stays behind.
func one(ctx context.Context, l *lab.Lab, kind drill.Kind, rounds int, asJSON bool) error {
	fmt.Fprintf(os.Stderr, "%s: %d strikes\n", kind, rounds*len(l.Nodes))
	out, err := l.Nodes[0].CLI(ctx, "drill", string(kind), volume, "--rounds", fmt.Sprint(rounds), "--yes", "--json")
	var report drill.Report
	if json.NewDecoder(bytes.NewReader(out)).Decode(&report) != nil {
		return errors.Join(err, errors.New("there is no report"))
	}
	if err != nil { // it ends with what has failed, after the report
		text := err.Error()
		err = errors.New(text[strings.LastIndex(text, "\n")+1:])
	}
	if asJSON {
		fmt.Print(string(out))
	} else {
		fmt.Println(report.Text())
	}
	return errors.Join(err, report.Verdict(), nothingLeft(ctx, l))
}

// nothingLeft looks for what a drill must not leave behind.
func nothingLeft(ctx context.Context, l *lab.Lab) error {
	for _, n := range l.Nodes {
		file := n.File(volume, ".trinas-drill-"+n.Name, false)
		_, err := file.Attr(ctx)
		file.Close()
		if !drill.IsStatus(err, nfs.NFSStatusNoEnt) {
			return fmt.Errorf("the probe's file of %s is still there (%w)", n.Name, err)
		}
		if _, err := os.Stat(n.DataDir() + "/drill"); !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("the drill's state of %s is still there", n.Name)
		}
	}
	return nil
}
