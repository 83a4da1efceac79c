package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"trinas/packaging/lab"
	"trinas/packaging/lab/guest"
)

//go:embed kernel.sh
var kernelScript []byte

// What the guest works on.
const (
	treeFiles      = 5000
	quickTreeFiles = 500
	fioMiB         = 64
	guestMemory    = "512M"
)

// Time that a guest may take, its boot and the first mounts included.
const (
	guestLimit      = 2 * time.Minute
	guestRoundLimit = 3 * time.Minute
)

// kernelWork is one kind of work of a Linux NFS client. mark: what share of ganesha's speed is
// enough; 0: none is set.
type kernelWork struct {
	name, title string
	mark        float64
	requests    bool // counted as requests, else as a whole
}

// kernelWorks are in the script's order. Metadata may take twice as long as with one unsynced copy.
func kernelWorks(files int) []kernelWork {
	return []kernelWork{
		{"tar_x", fmt.Sprintf("tar x, %d files", files), 0.5, false},
		{"find_ls", "find -ls of it", 0.5, false},
		{"rm_r", "rm -r of it", 0.5, false},
		{"randwrite", "fio 4 KiB randwrite, O_DIRECT, depth 16", 0, true},
		{"randread", "fio 4 KiB randread, O_DIRECT, depth 16", 0, true},
	}
}

// kernelBench has a guest's kernel work on both servers in turns.
type kernelBench struct {
	*bench
	lab *lab.Lab

	share string // the guest's folder
	cpu   map[string]time.Duration
	rpcs  rpcCounts                 // of the work under way
	runs  map[string][]kernelResult // by work and server
	err   error                     // the first that a line met
}

func (k *kernelBench) servers() []*server { return []*server{k.ours, k.peer.server, k.synced.server} }

// run returns the medians of all rounds.
func (k *kernelBench) run(ctx context.Context) ([]kernelRow, error) {
	files := treeFiles
	if k.quick {
		files = quickTreeFiles
	}
	init := filepath.Join(k.scratch, "init")
	if err := guest.Build(ctx, "trinas/packaging/lab/guest/init", init); err != nil {
		return nil, err
	}
	k.runs = map[string][]kernelResult{}
	m := &guest.Machine{
		Init: init, Memory: guestMemory, Modules: []string{"nfsv3"}, Args: []string{"bash", "kernel.sh"},
		Limit: guestLimit + time.Duration(k.rounds)*guestRoundLimit,
		Line:  k.line,
	}
	k.say("boot a Linux kernel as client")
	status, err := k.lab.RunGuest(ctx, m, nil, func() error {
		k.share = m.Share()
		entries, err := k.prepare(files)
		m.Env = k.environment(entries)
		return err
	})
	if err := errors.Join(k.err, err); err != nil {
		return nil, err
	}
	if status != 0 {
		return nil, fmt.Errorf("the Linux client's work failed with status %d; what it said is above", status)
	}
	var rows []kernelRow
	for _, w := range kernelWorks(files) {
		row := kernelRow{Work: w.title, Requests: w.requests, Mark: w.mark}
		for i, to := range []*kernelResult{&row.Ours, &row.Ganesha, &row.Synced} {
			runs := k.runs[w.name+" "+k.servers()[i].name]
			if len(runs) != k.rounds {
				return nil, fmt.Errorf("%s: %d results of %s, not %d", w.title, len(runs), k.servers()[i].name, k.rounds)
			}
			*to = medianBy(runs, kernelResult.perSecond)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// prepare fills the guest's folder and returns the number of entries in the source tree.
func (k *kernelBench) prepare(files int) (entries int, err error) {
	if err := os.MkdirAll(k.share, 0o755); err != nil {
		return 0, err
	}
	if err := os.WriteFile(filepath.Join(k.share, "kernel.sh"), kernelScript, 0o644); err != nil {
		return 0, err
	}
	f, err := os.Create(filepath.Join(k.share, "tree.tar"))
	if err != nil {
		return 0, err
	}
	entries, err = writeTree(f, files)
	return entries, errors.Join(err, f.Close())
}

func (k *kernelBench) environment(entries int) []string {
	var servers []string
	for _, s := range k.servers() {
		servers = append(servers, fmt.Sprintf("%s,%s,%d,%s", s.name, s.addr, s.mountPort, s.export))
	}
	return []string{
		"SERVERS=" + strings.Join(servers, " "),
		fmt.Sprintf("ROUNDS=%d", k.rounds),
		fmt.Sprintf("RUNTIME=%d", max(1, int(k.seconds))),
		fmt.Sprintf("ENTRIES=%d", entries),
		fmt.Sprintf("FIOMIB=%d", fioMiB),
	}
}

// line takes one line of the script.
func (k *kernelBench) line(line string) {
	words := strings.Fields(line)
	if len(words) < 2 || k.err != nil {
		k.say("guest: %s", line)
		return
	}
	switch words[0] {
	case "begin":
		k.err = k.begin(words[1])
	case "rpcs":
		k.rpcs, k.err = parseRPCs(words[3:])
	case "result":
		k.err = k.result(words[1:])
	default:
		k.say("guest: %s", line)
	}
}

// begin lets the next piece of work begin, once everything that earlier ones have left unwritten is on
// the disk: the other server must not pay for it.
func (k *kernelBench) begin(number string) error {
	unix.Sync()
	k.cpu = map[string]time.Duration{}
	for _, s := range k.servers() {
		cpu, err := s.processorTime()
		if err != nil {
			return err
		}
		k.cpu[s.name] = cpu
	}
	return os.WriteFile(filepath.Join(k.share, "go-"+number), nil, 0o644)
}

// result notes WORK SERVER SECONDS COUNT.
func (k *kernelBench) result(words []string) error {
	if len(words) != 4 {
		return fmt.Errorf("the guest's result %q has not four words", words)
	}
	seconds, err := strconv.ParseFloat(words[2], 64)
	count, err2 := strconv.ParseFloat(words[3], 64)
	if err := errors.Join(err, err2); err != nil || seconds <= 0 || count <= 0 {
		return fmt.Errorf("the guest's result %q holds no time and count: %w", words, err)
	}
	r := kernelResult{Seconds: seconds, Count: count, RPCs: k.rpcs}
	for _, s := range k.servers() {
		if s.name != words[1] {
			continue
		}
		cpu, err := s.processorTime()
		if err != nil {
			return err
		}
		r.CPUSeconds = (cpu - k.cpu[s.name]).Seconds()
	}
	key := words[0] + " " + words[1]
	k.runs[key] = append(k.runs[key], r)
	k.say("%-10s %-8s %7.2f s %8.0f/s %7d calls  %s", words[0], words[1], seconds, r.perSecond(), r.RPCs.sum(), r.RPCs)
	return nil
}
