package replica

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// Raft has no way to hear that its log cannot be read: it panics, or takes what it gets for the log. But
// one unreadable or damaged block of the log is no reason to end the agent, which serves other volumes. So
// storage panics itself, with a value of its own; whoever has the baton meets that (endUnread) and
// ends this group, before anything that Raft has made since the last round leaves it. Every other panic
// goes on.

// unread is the value that storage panics with.
type unread struct{ err error }

// Entries is for Raft only, with the baton: an error of the disk, or damage, ends the group.
func (s *storage) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	es, err := s.Group.Entries(lo, hi, maxSize)
	if err != nil && !errors.Is(err, raft.ErrCompacted) && !errors.Is(err, raft.ErrUnavailable) {
		panic(unread{err})
	}
	return es, err
}

// endUnread, deferred by who has the baton, ends the group when Raft could not read its log.
func (g *group) endUnread() {
	switch p := recover().(type) {
	case nil:
	case unread:
		err := fmt.Errorf("read the log of %s: %w", g.name, p.err)
		if g.vol != nil {
			err = fmt.Errorf("%w; if this stays so with a good disk: trinas volume rebuild %s, on this node", err, g.name)
		}
		g.fail(err)
		g.shut()
		g.rouse()
		for _, e := range g.round {
			e.refuse() // also the one that was worked on: it has not come to its end
		}
		g.round = nil
		g.mu.Lock()
		late := g.inbox
		g.inbox, g.running = nil, false
		g.mu.Unlock()
		for _, e := range late {
			e.refuse()
		}
	default:
		panic(p)
	}
}

// shut ends what others wait for, and takes no more events. Baton holder only, once.
func (g *group) shut() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	old := g.view.Swap(newView(0, 0))
	for _, p := range g.batch {
		p.fail(errNotPrimary)
	}
	g.batch = nil
	g.failAccepted()
	g.table.abandon()
	g.reads.abandon()
	clear(g.outbox)
	old.end()
	g.view.Load().end()
	g.end()
}
