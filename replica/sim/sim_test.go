package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"trinas/replica"
	"trinas/replica/volume"
)

func envInt(name string, def int) int {
	if v, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return v
	}
	return def
}

// Goal: whatever goes wrong, every answer is one that a single copy on a disk that never fails could
// have given, each operation takes effect once, and it goes on where a majority is well. Method: each
// seed chooses a cluster of three or five nodes, some kinds of faults (faults_test.go) and when they
// happen, in virtual time, while clients on the nodes write and read the blocks of one file and
// change the names of one directory (client_test.go). Then all is mended. Checked are
//
//   - linearizability of each block, and of the directory (history_test.go): so no acknowledged write
//     is lost, no read is stale, nothing is carried out twice;
//   - no term and no applied index goes back, all the while;
//   - replicas that have applied the same entries hold the same, all the while (equal_test.go);
//   - a node that runs an older version for a while gets no entries that it does not know;
//   - with one node out and the others well, a request is answered within progressBound;
//   - in the end every request is answered within progressBound, all replicas come to be UpToDate, and
//     are equal, bytes of files included.
//
// make sim SEEDS=n FIRST=x
func TestSim(t *testing.T) {
	seeds, first := envInt("SEEDS", 100), envInt("FIRST", 1)
	if testing.Short() {
		seeds = min(seeds, 10)
	}
	for seed := first; seed < first+seeds; seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			var s *simulation
			defer func() { // also when the bubble has failed, which ends this goroutine
				if s != nil {
					s.history.check(t)
				}
				if t.Failed() {
					t.Logf("%s\nseed %d at commit %s; repeat: make sim FIRST=%d SEEDS=1", s.told(), seed, commit(), seed)
				}
			}()
			synctest.Test(t, func(t *testing.T) {
				s = newSimulation(t, uint64(seed))
				s.run(uint64(seed))
			})
		})
	}
}

// commit names the tree that is tested.
func commit() string {
	out, err := exec.Command("git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

const (
	simTime       = 12 * time.Second
	simClients    = 6
	progressBound = 20 * time.Second // an election, a log that was slow, a primary that must notice that it is alone
	sampleEvery   = 20 * time.Millisecond
)

// simulation is one cluster and what happens to it.
type simulation struct {
	t    *testing.T
	c    *Cluster
	rng  *rand.Rand // of the schedule
	vol  volume.ID
	file volume.Attr

	history *history
	states  *states
	value   atomic.Uint64 // the last value that was written, or number that was given away
	over    atomic.Bool   // clients begin nothing more
	given   atomic.Bool   // clients give up
	damaged uint64        // the node whose checkpoint is damaged, or was and is not known to be well; 0: none

	mu    sync.Mutex
	left  []uint64 // nodes that have left the cluster, or are about to
	story []string // what was done, for people
}

func newSimulation(t *testing.T, seed uint64) *simulation {
	h := &history{start: time.Now()}
	return &simulation{t: t, rng: rand.New(rand.NewPCG(seed, 99)), history: h, states: newStates(h)}
}

// told is the story for people.
func (s *simulation) told() string {
	if s == nil {
		return ""
	}
	return strings.Join(s.story, "\n")
}

func (s *simulation) run(seed uint64) {
	t := s.t
	size := 3 + 2*s.rng.IntN(2)
	adjust := []func(*replica.Options){s.states.watch()}
	if s.rng.IntN(2) == 0 { // a log so short that whoever was away needs a resync
		adjust = append(adjust, shortLog)
	}
	if s.rng.IntN(2) == 0 {
		adjust = append(adjust, driftingClock(s.rng))
	}
	if s.rng.IntN(3) == 0 { // most of the log is read from the disk
		adjust = append(adjust, func(o *replica.Options) { o.LogCacheBytes = 16 << 10 })
	}
	if s.rng.IntN(3) == 0 { // verified all the time; nothing is damaged
		adjust = append(adjust, func(o *replica.Options) { o.VerifyInterval, o.VerifyRepair = 2*time.Second, true })
	}
	s.story = append(s.story, fmt.Sprintf("%d nodes", size))
	faults := s.chooseFaults(size)
	s.c = New(t, seed, size, adjust...)
	s.vol = s.c.Volume("v")
	s.file = s.c.create(s.vol, "f")
	s.history.start = time.Now()
	var clients, sampler sync.WaitGroup
	for i := range simClients {
		k := &client{s: s, number: i, node: uint64(i%size + 1), rng: rand.New(rand.NewPCG(seed, uint64(i)))}
		clients.Go(k.run)
	}
	stop := make(chan struct{})
	sampler.Go(func() { s.sample(stop) })
	for end := time.Now().Add(simTime); time.Now().Before(end) && !t.Failed(); {
		fault := faults[s.rng.IntN(len(faults))]
		fault.do(s)
		time.Sleep(time.Duration(s.rng.IntN(1500)) * time.Millisecond)
		s.mendSome()
	}
	s.mend()
	s.over.Store(true)
	finished := make(chan struct{})
	go func() { clients.Wait(); close(finished) }()
	select {
	case <-finished:
	case <-time.After(progressBound):
		t.Errorf("all is mended, and after %s there are requests without an answer", progressBound)
		s.given.Store(true)
		<-finished
	}
	if !t.Failed() {
		s.awaitRemovals()
		s.c.waitUpToDate(s.vol)
		s.readAll()
		s.c.equalDigests(s.vol)
		for _, f := range s.c.verifyStatus(s.vol).Findings {
			t.Errorf("a verification has found what nobody has damaged: %+v", f)
		}
	}
	close(stop)
	sampler.Wait()
}

// driftingClock gives every node a clock that is up to 1 % too fast or too slow.
func driftingClock(rng *rand.Rand) func(*replica.Options) {
	start := time.Now()
	return func(o *replica.Options) {
		rate := 1 + (rng.Float64()-0.5)/50
		o.Clock = func() time.Duration { return time.Duration(float64(time.Since(start))*rate) + time.Hour }
	}
}

// tell notes something for the story.
func (s *simulation) tell(format string, args ...any) {
	s.story = append(s.story, fmt.Sprintf("%9.3f s ", time.Since(s.history.start).Seconds())+fmt.Sprintf(format, args...))
}

// gone are the nodes that have left the cluster.
func (s *simulation) gone() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.left)
}

// members are the nodes that are in the cluster and stay there.
func (s *simulation) members() (ids []uint64) {
	gone := s.gone()
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	for i := range s.c.nodes {
		if id := uint64(i + 1); !slices.Contains(gone, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

func (s *simulation) anyMember(rng *rand.Rand) uint64 {
	ids := s.members()
	return ids[rng.IntN(len(ids))]
}

// readAll reads every block through every member.
func (s *simulation) readAll() {
	h := s.history
	for _, node := range s.members() {
		for block := range simBlocks {
			called := h.now()
			res, err := s.c.Do(node, s.vol, readOp(s.file, uint64(block)*blockBytes, blockBytes), progressBound)
			value, whole := decodeValue(res.Data)
			if err != nil || res.Err != volume.OK || !whole {
				s.t.Errorf("read block %d at the end through node %d: %v, errno %d, one value: %t", block, node, err, res.Err, whole)
				return
			}
			h.add(&h.blocks, simClients, blockOp{block: block}, value, called, true)
		}
	}
}

// sample looks at every node again and again: nothing may go back.
func (s *simulation) sample(stop chan struct{}) {
	type seen struct {
		node *replica.Node
		replica.Position
	}
	last := map[uint64]seen{}
	for {
		for _, id := range s.members() {
			n := s.c.Node(id)
			if n == nil {
				continue
			}
			p, ok := n.Position(s.vol)
			if !ok {
				continue
			}
			before := last[id]
			if p.Applied == 0 { // it was moved away, and back: it has nothing yet
				before = seen{}
			}
			if before.node == n && p.Term < before.Term {
				s.history.fault("node %d: term %d after %d", id, p.Term, before.Term)
			}
			if before.node == n && p.Applied < before.Applied {
				s.history.fault("node %d: applied %d after %d", id, p.Applied, before.Applied)
			}
			last[id] = seen{n, p}
		}
		select {
		case <-stop:
			return
		case <-time.After(sampleEvery):
		}
	}
}

// awaitRemovals waits until the nodes that were removed are out.
func (s *simulation) awaitRemovals() {
	for _, id := range s.gone() {
		name := fmt.Sprintf("node%d", id)
		s.c.wait("the removal of "+name, func() bool {
			n := s.c.Node(s.members()[0])
			return !slices.ContainsFunc(n.Status(context.Background()).Nodes, func(st replica.NodeStatus) bool { return st.Name == name })
		})
		s.c.Crash(id) // nobody knows it any more
	}
}
