package rounds

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"trinas/packaging/lab"
	"trinas/replica/disk"
)

// Kind is one kind of outage. play returns when its causes are over: all agents run, all cables are in.
type Kind struct {
	Name string
	play func(ctx context.Context, t *trial) error
}

// Outages are what may happen to processes and cables.
func Outages() []Kind {
	return []Kind{
		{"one killed", killSome(1)},
		{"two killed", killSome(2)},
		{"all killed at once", killSome(3)},
		{"killed while it starts", killStarting},
		{"killed in a checkpoint", killInCheckpoint},
		{"killed in a resync", killInResync},
		{"stopped and continued", stopSome},
		{"cable pulled", pullCable},
		{"says nothing", mute},
		{"hears nothing", deaf},
		{"one way lost between two", oneWay},
		{"killed while another is cut off", killWhileCut},
	}
}

// PowerCuts are what may happen to nodes whose disks lose what they have not synced.
func PowerCuts() []Kind {
	return []Kind{
		{"power of all", killSome(3)},
		{"power of two", killSome(2)},
		{"power of one", killSome(1)},
		{"power of all under load", cutUnderLoad},
		{"power of all while they start", cutStarting},
		{"power of all in a checkpoint", cutInCheckpoint},
	}
}

// kill ends an agent at once. On a disk that loses power it does: what comes after is not written.
func (t *trial) kill(n *lab.Node) {
	if d := t.disks[n]; d != nil {
		sectors := []int{512, disk.BlockBytes}
		d.Cut(sectors[t.rng.IntN(len(sectors))])
	}
	n.Kill(syscall.SIGKILL)
}

// killAll kills all agents at one time. Half of the times the clients are gone too: a client that goes
// on writes again what was under way, and so hides how the loss of power has left it.
func (t *trial) killAll() {
	for _, n := range t.lab.Nodes {
		t.kill(n)
	}
	if t.rng.IntN(2) == 0 {
		t.busy.end()
	}
}

// start starts agents that were killed and waits until they answer.
func (t *trial) start(ctx context.Context, nodes []*lab.Node) error {
	return each(nodes, func(n *lab.Node) error {
		if err := t.launch(ctx, n); err != nil {
			return err
		}
		return n.AwaitStart(ctx)
	})
}

func (t *trial) launch(ctx context.Context, n *lab.Node) error {
	_ = n.Wait(ctx) // "signal: killed"
	if d := t.disks[n]; d != nil {
		d.On()
	}
	return n.Launch(ctx)
}

// killSome kills nodes, or cuts their power, at one time, and starts them again, all at once.
func killSome(count int) func(context.Context, *trial) error {
	return func(ctx context.Context, t *trial) error {
		if err := t.pause(ctx, 100*time.Millisecond, time.Second); err != nil {
			return err
		}
		victims := t.anyNodes(count)
		if count == len(t.lab.Nodes) {
			t.killAll()
		} else {
			for _, n := range victims {
				t.kill(n)
			}
		}
		if err := t.pause(ctx, 0, 2*time.Second); err != nil {
			return err
		}
		return t.start(ctx, victims)
	}
}

// killStarting kills an agent again and again before it has answered: while it replays its log.
func killStarting(ctx context.Context, t *trial) error {
	return t.interruptStart(ctx, t.anyNodes(1))
}

func cutStarting(ctx context.Context, t *trial) error { return t.interruptStart(ctx, t.lab.Nodes) }

func (t *trial) interruptStart(ctx context.Context, victims []*lab.Node) error {
	if err := t.pause(ctx, 100*time.Millisecond, time.Second); err != nil {
		return err
	}
	for range 4 {
		for _, n := range victims {
			t.kill(n)
		}
		for _, n := range victims {
			if err := t.launch(ctx, n); err != nil {
				return err
			}
		}
		if err := t.pause(ctx, 5*time.Millisecond, 400*time.Millisecond); err != nil {
			return err
		}
	}
	for _, n := range victims {
		t.kill(n)
	}
	return t.start(ctx, victims)
}

// killInCheckpoint kills an agent that is writing a checkpoint.
func killInCheckpoint(ctx context.Context, t *trial) error {
	victim := t.anyNodes(1)
	if err := t.awaitCheckpoint(ctx, victim[0]); err != nil {
		return err
	}
	t.kill(victim[0])
	return t.start(ctx, victim)
}

func cutInCheckpoint(ctx context.Context, t *trial) error {
	if err := t.awaitCheckpoint(ctx, t.anyNodes(1)[0]); err != nil {
		return err
	}
	t.killAll()
	return t.start(ctx, t.lab.Nodes)
}

// checkpointFile is what replica/volume writes a checkpoint to, before it renames it.
const checkpointFile = "checkpoint.new"

// checkpointLimit is how long a checkpoint of a volume that is written to may be away: the interval
// is a second.
const checkpointLimit = 20 * time.Second

// awaitCheckpoint waits until a node has the file that a checkpoint is written to.
func (t *trial) awaitCheckpoint(ctx context.Context, n *lab.Node) error {
	ctx, cancel := context.WithTimeout(ctx, checkpointLimit)
	defer cancel()
	for {
		for _, dir := range t.dataDirs(n) {
			if _, err := os.Stat(filepath.Join(dir, checkpointFile)); err == nil {
				return nil
			}
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%s makes no checkpoint: %w", n.Name, err)
		}
		time.Sleep(100 * time.Microsecond) // a directory on the host: nothing tells of it
	}
}

// cutUnderLoad cuts the power while large writes fill one segment of the log after the other.
func cutUnderLoad(ctx context.Context, t *trial) error {
	loaded, stop := context.WithCancel(ctx)
	flooded := make(chan error, 1)
	go func() { flooded <- t.flooder.Run(loaded) }()
	err := t.pause(ctx, 100*time.Millisecond, 4*time.Second)
	t.killAll()
	stop()
	if err = errors.Join(err, <-flooded); err != nil {
		return err
	}
	return t.start(ctx, t.lab.Nodes)
}

// floodWrites fill more of the log than is kept for a node that is away: half of log.limit.
const floodWrites = 160 << 20 / floodBytes

// killInResync keeps a node away for longer than the others' logs reach, and kills it while it copies
// what it has missed; then kills the one that it copies from.
func killInResync(ctx context.Context, t *trial) error {
	victim := t.others(t.lab.Nodes[0])[:1] // the flood goes through the first
	t.kill(victim[0])
	if err := t.flooder.Write(ctx, floodWrites); err != nil {
		return err
	}
	if err := t.start(ctx, victim); err != nil {
		return err
	}
	if err := t.awaitResync(ctx, victim[0]); err != nil {
		return err
	}
	t.kill(victim[0])
	if err := t.start(ctx, victim); err != nil {
		return err
	}
	if err := t.awaitResync(ctx, victim[0]); err != nil {
		return err
	}
	st, err := victim[0].Volume(ctx, volume)
	source := t.lab.Node(st.Primary)
	if err != nil || source == nil {
		return errors.Join(err, fmt.Errorf("a resync without a primary: %q", st.Primary))
	}
	t.kill(source)
	return t.start(ctx, []*lab.Node{source})
}

// awaitResync waits until a node says that it copies what it has missed.
func (t *trial) awaitResync(ctx context.Context, n *lab.Node) error {
	ctx, cancel := context.WithTimeout(ctx, backLimit)
	defer cancel()
	return n.Await(ctx, "its resync", func(ctx context.Context) (bool, error) {
		st, err := n.Volume(ctx, volume)
		for _, r := range st.Replicas {
			if r.Node == n.Name && r.Resync != nil && r.Resync.TotalBytes > 0 {
				return true, nil
			}
		}
		return false, err
	})
}

// stopSome lets one or two agents stand still, as hosts do that swap or whose disks hang.
func stopSome(ctx context.Context, t *trial) error {
	victims := t.anyNodes(1 + t.rng.IntN(2))
	for _, n := range victims {
		n.Kill(syscall.SIGSTOP)
	}
	err := t.pause(ctx, 100*time.Millisecond, 4*time.Second)
	for _, n := range victims {
		n.Kill(syscall.SIGCONT)
	}
	return err
}

func pullCable(ctx context.Context, t *trial) error {
	victim := t.anyNodes(1)[0]
	return t.during(ctx, t.lab.Cut(ctx, victim), func(ctx context.Context) error { return t.lab.Heal(ctx, victim) })
}

// mute loses all that a node sends.
func mute(ctx context.Context, t *trial) error {
	victim := t.anyNodes(1)[0]
	others := t.others(victim)
	return t.lose(ctx, [][2]*lab.Node{{victim, others[0]}, {victim, others[1]}})
}

// deaf loses all that is sent to a node.
func deaf(ctx context.Context, t *trial) error {
	victim := t.anyNodes(1)[0]
	others := t.others(victim)
	return t.lose(ctx, [][2]*lab.Node{{others[0], victim}, {others[1], victim}})
}

func oneWay(ctx context.Context, t *trial) error {
	two := t.anyNodes(2)
	return t.lose(ctx, [][2]*lab.Node{{two[0], two[1]}})
}

// lose loses what is sent on some ways for some seconds.
func (t *trial) lose(ctx context.Context, ways [][2]*lab.Node) error {
	var lost error
	for _, way := range ways {
		lost = errors.Join(lost, t.lab.Lose(ctx, way[0], way[1]))
	}
	return t.during(ctx, lost, func(ctx context.Context) error {
		var errs []error
		for _, way := range ways {
			errs = append(errs, t.lab.Deliver(ctx, way[0], way[1]))
		}
		return errors.Join(errs...)
	})
}

// during waits for some seconds of an outage that has begun with err, and ends it.
func (t *trial) during(ctx context.Context, err error, end func(context.Context) error) error {
	if err == nil {
		err = t.pause(ctx, 200*time.Millisecond, 5*time.Second)
	}
	return errors.Join(err, end(context.WithoutCancel(ctx)))
}

// killWhileCut kills a node while another is cut off, so that no majority is left, and lets either be
// back first.
func killWhileCut(ctx context.Context, t *trial) error {
	two := t.anyNodes(2)
	cut, killed := two[0], two[1:]
	startFirst := t.rng.IntN(2) == 0
	err := t.during(ctx, t.lab.Cut(ctx, cut), func(ctx context.Context) error {
		t.kill(killed[0])
		var err error
		if startFirst {
			err = t.start(ctx, killed)
		}
		return errors.Join(err, t.lab.Heal(ctx, cut))
	})
	if err == nil && !startFirst {
		err = t.start(ctx, killed)
	}
	return err
}
