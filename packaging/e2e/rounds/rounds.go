// Package rounds puts three real agents through rounds of outages, by a seeded random schedule, while
// clients write, replace and read files through every node; and checks them by what was acknowledged,
// which is all that it knows. Scenarios outages and powerloss are made of it.
//
// It must never count a round whose outage did not happen as one that was survived.
//
// Floor 6: imports packaging/lab.
package rounds

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"trinas/packaging/lab"
	"trinas/packaging/lab/powerdisk"
)

const (
	volume     = "rounds"
	diskBytes  = 8 << 30          // of a disk that loses power: in memory, and never filled
	backLimit  = 60 * time.Second // from an outage's end until all is well
	moveLimit  = 30 * time.Second // a client must get on within this, once all is well
	formLimit  = 60 * time.Second
	checkLimit = 60 * time.Second
)

// settings make everything happen often that otherwise takes minutes: checkpoints, new segments of the
// log, resyncs that last long enough to be interrupted.
const settings = `
[log]
limit = "256MiB"
segment = "16MiB"
[checkpoint]
interval = "1s"
[resync]
rate = "8MiB"
`

// trial is a cluster, its clients and what is happening to it.
type trial struct {
	lab   *lab.Lab
	disks map[*lab.Node]*powerdisk.Disk // none: the nodes' data are on the host's disk
	rng   *rand.Rand
	busy  *work // of this round
	*clients
}

// Main plays rounds of outages of these kinds and returns the program's exit status. power: on disks
// that lose power. The environment gives SEED and ROUNDS; the latter's default is given, in short runs
// one of each kind.
func Main(kinds []Kind, rounds int, power bool) int {
	if os.Getenv("QUICK") != "" {
		rounds = len(kinds)
	}
	rounds = envInt("ROUNDS", rounds)
	seed := uint64(envInt("SEED", int(time.Now().UnixNano()%1e6)))
	fmt.Printf("%d rounds; to play the same schedule: SEED=%d ROUNDS=%d\n", rounds, seed, rounds)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := play(ctx, kinds, rounds, seed, power); err != nil {
		fmt.Printf("not ok rounds: %s\n", strings.ReplaceAll(err.Error(), "\n", "; "))
		return 1
	}
	return 0
}

func envInt(name string, def int) int {
	if v, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return v
	}
	return def
}

func play(ctx context.Context, kinds []Kind, rounds int, seed uint64, power bool) (err error) {
	t := &trial{rng: rand.New(rand.NewPCG(seed, 0)), disks: map[*lab.Node]*powerdisk.Disk{}}
	dir, err := os.Getwd() // the scenario's copy of its kit, in the runner's folder
	if err != nil {
		return err
	}
	if t.lab, err = lab.Open(ctx, lab.Options{Binary: os.Getenv("BINARY"), Dir: dir, Nodes: 3, Config: settings}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	for i, n := range t.lab.Nodes {
		if !power {
			break
		}
		if err := os.Mkdir(n.DataDir(), 0o700); err != nil {
			return err
		}
		if t.disks[n], err = powerdisk.Mount(n.DataDir(), seed<<2+uint64(i), diskBytes); err != nil {
			return err
		}
	}
	if err := t.form(ctx); err != nil {
		return err
	}
	played := map[string]int{}
	var order []Kind
	begun := time.Now()
	for round := range rounds {
		if len(order) == 0 { // each kind as often as any other, in a new order each time
			order = append(order, kinds...)
			t.rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		}
		kind := order[0]
		order = order[1:]
		if err := t.round(ctx, kind); err != nil {
			return fmt.Errorf("SEED=%d, round %d of %d, %s: %w", seed, round+1, rounds, kind.Name, err)
		}
		played[kind.Name]++
		fmt.Printf("%3d %-28s %5.1f s; %s\n", round+1, kind.Name, time.Since(begun).Seconds(), t.tally())
	}
	for _, kind := range kinds {
		if played[kind.Name] > 0 {
			fmt.Printf("ok %s\n", kind.Name)
		}
	}
	return nil
}

// form makes the cluster and the volume, and starts the clients.
func (t *trial) form(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, formLimit)
	defer cancel()
	if err := t.lab.Form(ctx); err != nil {
		return err
	}
	if err := t.lab.CreateVolume(ctx, volume); err != nil {
		return err
	}
	t.clients = newClients(t.lab.Nodes)
	return nil
}

// round lets an outage happen while the clients are at work, waits until all is well, and checks.
func (t *trial) round(ctx context.Context, kind Kind) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	t.busy = t.begin(ctx, fail)
	err := kind.play(ctx, t)
	if err == nil {
		err = t.awaitWell(ctx)
	}
	if err == nil && t.busy.ended() { // what was under way is looked at before anybody repeats it
		err = t.check(ctx)
		t.busy = t.begin(ctx, fail)
	}
	if err == nil {
		err = t.awaitProgress(ctx)
	}
	t.busy.end()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err != nil {
		return err
	}
	return t.check(ctx)
}

// awaitWell waits until every agent sees every replica UpToDate.
func (t *trial) awaitWell(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, backLimit)
	defer cancel()
	for _, watcher := range t.lab.Nodes {
		for _, n := range t.lab.Nodes {
			if err := watcher.AwaitUpToDate(ctx, volume, n.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// check reads all files through every node, each time with another replica as the primary.
func (t *trial) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	for i, n := range t.lab.Nodes {
		if err := t.lab.SetPrimary(ctx, volume, n); err != nil {
			return err
		}
		if err := t.clients.check(ctx, t.lab.Nodes[(i+t.rng.IntN(3))%3]); err != nil {
			return fmt.Errorf("primary %s: %w", n.Name, err)
		}
	}
	return nil
}

// dataDirs are the folders of the volume's replica below a node's data directory.
func (t *trial) dataDirs(n *lab.Node) []string {
	dirs, _ := filepath.Glob(filepath.Join(n.DataDir(), "volumes", "*"))
	return dirs
}

// others are the nodes but n, in random order.
func (t *trial) others(n *lab.Node) []*lab.Node {
	var out []*lab.Node
	for _, i := range t.rng.Perm(len(t.lab.Nodes)) {
		if t.lab.Nodes[i] != n {
			out = append(out, t.lab.Nodes[i])
		}
	}
	return out
}

// anyNodes are so many nodes, by chance.
func (t *trial) anyNodes(count int) []*lab.Node {
	var out []*lab.Node
	for _, i := range t.rng.Perm(len(t.lab.Nodes))[:count] {
		out = append(out, t.lab.Nodes[i])
	}
	return out
}

// pause lets time pass, by chance between two bounds.
func (t *trial) pause(ctx context.Context, least, most time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(least + time.Duration(t.rng.Int64N(int64(most-least)+1))):
		return nil
	}
}

// each does something to several nodes at once.
func each(nodes []*lab.Node, do func(n *lab.Node) error) error {
	errs := make([]error, len(nodes))
	var all sync.WaitGroup
	for i, n := range nodes {
		all.Go(func() { errs[i] = do(n) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// close ends everything. Agents first: a disk is unmounted when nobody has it open.
func (t *trial) close() error {
	err := t.lab.Close()
	for _, d := range t.disks {
		err = errors.Join(err, d.Close())
	}
	return err
}
