package sim

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"trinas/replica"
	"trinas/replica/volume"
)

// fault is one kind of thing that goes wrong, or that an admin does meanwhile.
type fault struct {
	name string
	do   func(s *simulation)
}

// faults are all kinds. Those with few nodes to spare do nothing when there are not enough.
func faults() []fault {
	return []fault{
		{"crash", func(s *simulation) { s.crash(s.any()) }},
		{"kill", func(s *simulation) {
			if id := s.any(); s.c.Node(id) != nil {
				s.tell("kill node %d", id)
				s.c.Kill(id)
			}
		}},
		{"checkpoint damaged", damageOne},
		{"power", func(s *simulation) {
			for _, id := range s.members() {
				s.crash(id)
			}
		}},
		{"restart", func(s *simulation) {
			id := s.any()
			s.tell("restart node %d", id)
			s.c.Restart(id)
		}},
		{"older version", func(s *simulation) {
			id := s.any()
			s.tell("node %d gets an older version", id)
			s.c.Net.SetOlder(id, true)
			s.c.Restart(id)
			s.states.setOlder(id, true)
		}},
		{"isolate", func(s *simulation) {
			id := s.any()
			s.tell("isolate node %d", id)
			s.c.Net.Isolate(id)
		}},
		{"one-way", func(s *simulation) {
			from, to := s.any(), s.any()
			s.tell("cut %d to %d", from, to)
			s.c.Net.Cut(from, to)
		}},
		{"refused", func(s *simulation) {
			id := s.any()
			s.tell("node %d looks gone", id)
			s.c.Net.Isolate(id)
			s.c.Net.Refuse(id)
		}},
		{"weather", func(s *simulation) {
			w := Weather{Lose: s.rng.Float64() / 10, Duplicate: s.rng.Float64() / 5, Delay: s.rng.Float64() / 5,
				MaxDelay: time.Millisecond * time.Duration(1+s.rng.IntN(400))}
			s.tell("weather %+v", w)
			s.c.Net.SetWeather(w)
		}},
		{"pause", func(s *simulation) {
			id := s.any()
			s.tell("pause node %d", id)
			s.c.Pause(id)
		}},
		{"slow log", func(s *simulation) {
			id, d := s.any(), time.Millisecond*time.Duration(10+s.rng.IntN(600))
			s.tell("node %d: each sync takes %s", id, d)
			s.c.nodes[id-1].trouble.set(func(t *trouble) { t.sync = d })
		}},
		{"log fails", func(s *simulation) {
			id := s.any()
			s.tell("node %d: the log fails", id)
			s.c.nodes[id-1].trouble.set(func(t *trouble) { t.log = true })
		}},
		{"objects fail", func(s *simulation) {
			id := s.any()
			s.tell("node %d: objects fail", id)
			s.c.nodes[id-1].trouble.set(func(t *trouble) { t.objects = []error{syscall.EIO, syscall.ENOSPC}[s.rng.IntN(2)] })
		}},
		{"log unread", func(s *simulation) {
			id := s.any()
			s.tell("node %d: the log cannot be read", id)
			s.c.nodes[id-1].trouble.set(func(t *trouble) { t.read = "log/" })
		}},
		{"full", func(s *simulation) {
			id := s.any()
			s.tell("node %d: the disk is full", id)
			s.c.nodes[id-1].disk.SetSpace(128 << 20) // less than the reserve is free
		}},
		{"one out", oneOut},
		{"transfer", func(s *simulation) {
			to := s.any()
			s.admin("transfer to", to, func(ctx context.Context, n adminNode) error { return n.Transfer(ctx, "v", fmt.Sprintf("node%d", to)) })
		}},
		{"move", func(s *simulation) {
			from, to := s.any(), s.any()
			s.admin(fmt.Sprintf("move from %d to", from), to, func(ctx context.Context, n adminNode) error {
				return n.MoveVolume(ctx, "v", fmt.Sprintf("node%d", from), fmt.Sprintf("node%d", to))
			})
		}},
		{"join", join},
		{"remove", remove},
	}
}

// chooseFaults are the kinds of this seed: few, so that each seed is of another sort, and crashes.
func (s *simulation) chooseFaults(size int) (chosen []fault) {
	all := faults()
	s.rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, f := range all[:2+s.rng.IntN(6)] {
		chosen = append(chosen, f)
		s.story = append(s.story, "kind: "+f.name)
	}
	return append(chosen, faults()[0])
}

// any is one of the members.
func (s *simulation) any() uint64 { return s.anyMember(s.rng) }

func (s *simulation) crash(id uint64) {
	if s.c.Node(id) != nil {
		s.tell("crash node %d", id)
		s.c.Crash(id)
	}
}

// mendNode makes all well with one node.
func (s *simulation) mendNode(id uint64) {
	m := s.c.nodes[id-1]
	again := m.trouble.fails() // its log has failed, or a replica is out of service
	m.trouble.clear()
	m.disk.SetSpace(0)
	s.c.Resume(id)
	s.c.Net.Rejoin(id)
	if s.c.Net.isOlder(id) {
		s.tell("node %d is upgraded", id)
		s.states.setOlder(id, false)
		s.c.Net.SetOlder(id, false)
		s.c.Restart(id)
	}
	if again {
		s.crash(id)
	}
	if s.c.Node(id) == nil {
		s.tell("start node %d", id)
		s.c.Start(id)
	}
}

// damageOne damages a replica's checkpoint, while all others are as they should be: two at a time may be the last two.
func damageOne(s *simulation) {
	id := s.any()
	if s.damaged != 0 || !s.c.hasData(id, s.vol) {
		return
	}
	s.mendNode(id)
	s.crash(id)
	if err := s.c.flipCheckpoint(id, s.vol); err == nil {
		s.tell("node %d: the checkpoint is damaged", id)
		s.damaged = id
	}
	s.c.Start(id)
}

// tryRebuild has the damaged replica made anew, if that can be now.
func (s *simulation) tryRebuild() {
	if n := s.c.Node(s.damaged); n != nil {
		err := s.c.tryRebuild(s.damaged, "v", s.rng.IntN(2) == 0)
		s.tell("rebuild on node %d: %v", s.damaged, err)
	}
}

// heal waits until no replica is damaged any more. All else is well.
func (s *simulation) heal() {
	id := s.damaged
	if id == 0 {
		return
	}
	s.c.wait(fmt.Sprintf("the rebuild on node %d", id), func() bool {
		state, _ := s.c.replicaState(s.vol, id)
		if state == string(replica.Failed) && !s.c.rebuilding(id) {
			s.tryRebuild()
		}
		return state == string(replica.UpToDate) && !s.c.rebuilding(id) || state == "none" && !s.c.rebuilding(id)
	})
	s.damaged = 0
}

// mendSome makes all well with some nodes. What cuts a way between two is over when either is mended.
func (s *simulation) mendSome() {
	if s.rng.IntN(2) == 0 {
		s.c.Net.SetWeather(Weather{})
	}
	for _, id := range s.members() {
		if s.rng.IntN(3) > 0 {
			s.mendNode(id)
		}
	}
	if s.damaged != 0 && s.rng.IntN(2) == 0 {
		s.tryRebuild()
	}
}

// mend makes all well, also with the nodes that leave.
func (s *simulation) mend() {
	s.tell("mend all")
	s.c.Net.SetWeather(Weather{})
	for id := range uint64(len(s.c.nodes)) {
		s.mendNode(id + 1)
	}
	s.heal()
}

// oneOut: with one node out in some way, and all others well, requests are answered within a bound.
func oneOut(s *simulation) {
	s.mend()
	out := s.any()
	s.tell("only node %d is out", out)
	switch s.rng.IntN(3) {
	case 0:
		s.crash(out)
	case 1:
		s.c.Net.Isolate(out)
	case 2:
		s.c.Pause(out)
	}
	for _, id := range s.members() {
		if id == out {
			continue
		}
		if res, err := s.c.Do(id, s.vol, volume.Op{Kind: volume.GetAttr, File: volume.RootID, Gen: 1}, progressBound); err != nil || res.Err != volume.OK {
			s.t.Errorf("with only node %d out, node %d has no answer within %s: %v, errno %d", out, id, progressBound, err, res.Err)
		}
	}
}

// adminNode is what an admin does through a node.
type adminNode interface {
	Transfer(ctx context.Context, volume, node string) error
	MoveVolume(ctx context.Context, volume, from, to string) error
}

// admin does something through any node that is up, and takes what comes.
func (s *simulation) admin(what string, id uint64, do func(ctx context.Context, n adminNode) error) {
	through := s.any()
	if n := s.c.Node(through); n != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		err := do(ctx, n)
		s.tell("%s node %d, through %d: %v", what, id, through, err)
	}
}

// maxMachines bounds how many nodes a simulation ever has.
const maxMachines = 8

// join lets one more node join, when all is well; what comes next may fall upon it while it is new.
func join(s *simulation) {
	if len(s.c.nodes) >= maxMachines {
		return
	}
	s.mend()
	through := s.c.Node(s.members()[0])
	ctx, cancel := context.WithTimeout(context.Background(), progressBound)
	defer cancel()
	token, err := through.NewToken(ctx, "")
	if err != nil {
		s.t.Errorf("all is mended, and there is no token: %v", err)
		return
	}
	name := fmt.Sprintf("node%d", len(s.c.nodes)+1)
	s.tell("%s joins", name)
	s.c.JoinThrough(s.members()[0], name, token)
}

// remove makes a node leave while there are four or more. All is well when that is decided, and what
// comes next may fall upon the moves that it takes.
func remove(s *simulation) {
	if len(s.members()) < 4 {
		return
	}
	s.mend()
	id, through := s.any(), s.any()
	ctx, cancel := context.WithTimeout(context.Background(), progressBound)
	defer cancel()
	err := s.c.Node(through).RemoveNode(ctx, fmt.Sprintf("node%d", id))
	s.tell("remove node %d, through %d: %v", id, through, err)
	switch {
	case err == nil:
		s.mu.Lock()
		s.left = append(s.left, id)
		s.mu.Unlock()
	case ctx.Err() != nil:
		s.t.Errorf("all is mended, and node %d cannot be removed: %v", id, err)
	}
}
