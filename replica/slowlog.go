package replica

import (
	"sync"
	"time"
)

// A node whose log's disk is slow must not lead: every write of its volumes would wait for it, while
// as a follower it holds up nobody. When slowSyncs writes of the log took slowSync each within
// slowWindow, the node hands over what it leads, to members whose log is not slow, and leaves it
// to the others to campaign; it is well again after slowQuiet without such a write. A write that
// hangs counts again for each slowSync that it takes, so that nobody waits for its end; where the log is idle and the write of an
// object hangs, a write of the log is made (probeApply). Time in which
// the whole process stood still (SIGSTOP, a suspended host) is not the disk's: it does not count.
const (
	slowSync   = 250 * time.Millisecond
	slowSyncs  = 3
	slowWindow = 10 * time.Second
	slowQuiet  = 30 * time.Second

	// slowYield is how long a slow node waits for others to campaign when a group has no leader: there
	// may be nobody else.
	slowYield = 5 * time.Second
)

// slowLog judges the speed of a node's log.
type slowLog struct {
	every time.Duration // how often look is called, about

	mu       sync.Mutex
	noticed  time.Duration   // when look or synced was called last; 0: never
	stood    time.Duration   // how long the process stood still during the write under way
	inflight int             // how often the write under way has counted already
	late     []time.Duration // when slow writes were noticed, the last slowSyncs of them
	slow     bool
}

// synced is told how long a write took, at its end.
func (s *slowLog) synced(took, now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wake(now)
	s.count(took, now)
	s.inflight, s.stood = 0, 0
}

// wake notes that the process runs, and for how long it has not. mu is held.
func (s *slowLog) wake(now time.Duration) {
	if still := now - s.noticed; s.noticed != 0 && still > 3*s.every {
		s.stood += still - s.every
	}
	s.noticed = now
}

// count notes what a write that has taken this long adds. mu is held.
func (s *slowLog) count(taken, now time.Duration) {
	for times := int((taken - s.stood) / slowSync); s.inflight < times; s.inflight++ {
		s.late = append(s.late, now)
	}
	if extra := len(s.late) - slowSyncs; extra > 0 {
		s.late = append(s.late[:0], s.late[extra:]...)
	}
}

// look judges, given how long the write under way has taken (0: there is none), and reports
// whether the judgement is another than before.
func (s *slowLog) look(taken, now time.Duration) (slow, changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wake(now)
	if taken == 0 {
		s.stood = 0
	}
	s.count(taken, now)
	was := s.slow
	switch {
	case len(s.late) == slowSyncs && now-s.late[0] < slowWindow:
		s.slow = true
	case len(s.late) == 0 || now-s.late[len(s.late)-1] >= slowQuiet:
		s.slow = false
	}
	return s.slow, s.slow != was
}

// isSlow is the last judgement.
func (s *slowLog) isSlow() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slow
}

// watchLog judges the log, and gives away what this node leads while it is slow.
func (n *Node) watchLog() {
	for _, g := range n.snapshotGroups() {
		g.probeApply(n.opt.Clock())
	}
	slow, changed := n.speed.look(n.wal.InFlight(), n.opt.Clock())
	switch {
	case changed && slow:
		n.log.Warn("the log's disk is slow: this node hands over what it is primary of and leaves that to others; "+
			"look after the disk below the data directory", "event", "log-slow",
			"path", n.opt.Disk.Path(logDir), "slower_than", slowSync)
	case changed:
		n.log.Info("the log's disk is fast again", "event", "log-fast", "path", n.opt.Disk.Path(logDir))
	}
	if !slow {
		return
	}
	for _, g := range n.snapshotGroups() {
		g.yield()
	}
}

// fast reports whether a member has told that its log is not slow. Baton holder only.
func (g *group) fast(id uint64) bool {
	slow, told := g.slow[id]
	return told && !slow
}

// yield hands the group over to the best member whose log is not slow; without one it goes on.
func (g *group) yield() {
	if g.view.Load().leader != g.self {
		return
	}
	g.post(event{call: func() {
		if !g.leads() || g.raft.Status().LeadTransferee != 0 {
			return
		}
		if to := g.furthest(g.fast); to != 0 {
			g.lease.giveUp(g.view.Load())
			g.raft.TransferLeader(to)
		}
	}})
}
