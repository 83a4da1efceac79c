package replica

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"go.etcd.io/raft/v3/tracker"
)

// leaderGone is told that leader's process is probably gone. When the promise to it is over the
// member forgets it and campaigns, long before the election time-out. The promise is never cut
// short: a firewall that rejects looks the same.
func (g *group) leaderGone(leader uint64) {
	g.post(event{call: func() {
		if v := g.view.Load(); v.leader != leader || leader == g.self {
			return
		}
		g.gone = leader
		wait := g.lease.left(g.opt.Clock())
		time.AfterFunc(wait, func() { g.post(event{call: func() { g.forget(leader) }}) })
	}})
}

func (g *group) forget(leader uint64) {
	if g.gone != leader {
		return // another leader meanwhile
	}
	g.gone = 0
	if g.lease.promised(g.opt.Clock()) {
		return // it has been heard from again
	}
	if err := g.raft.ForgetLeader(); err != nil {
		return
	}
	for from, m := range g.held {
		delete(g.held, from)
		_ = g.raft.Step(m)
	}
	if g.owner.slowLog() {
		return
	}
	campaign := func() {
		g.eager = true
		_ = g.raft.Campaign()
	}
	rank := g.rankWithout(leader)
	if rank == 0 {
		campaign()
		return
	}
	// Those before it may lack entries that this one has, and then nobody votes for them.
	term := g.term
	time.AfterFunc(time.Duration(rank)*g.opt.Heartbeat, func() {
		g.post(event{call: func() {
			if g.term == term && g.view.Load().leader == 0 && !g.owner.slowLog() {
				campaign()
			}
		}})
	})
}

// rankWithout is the number of voters without leader whose id is lower than this node's: they campaign
// one after the other, so that they do not split the vote.
func (g *group) rankWithout(leader uint64) (rank int) {
	for id := range g.raft.Status().Config.Voters.IDs() {
		if id != leader && id < g.self {
			rank++
		}
	}
	return rank
}

// found makes this member campaign for a group that has just been made, rather than wait for an
// election time-out.
func (g *group) found() { g.post(event{call: func() { g.eager = true }}) }

// handOver gives leadership to another member and returns once somebody else leads, or ctx ends.
// The lease is given up first, for the rest of the term: from then on the receiver may win at any
// moment. to 0 chooses the member (furthest).
func (g *group) handOver(ctx context.Context, to uint64) error {
	for {
		v := g.view.Load()
		if v.leader != g.self || g.alone() {
			return nil
		}
		if err := g.startHandOver(ctx, v, to); err != nil {
			return err
		}
		// The message that tells the receiver to campaign may be lost. Raft then forgets the hand-over
		// after an election time-out, and so it is asked for again.
		again := time.NewTimer(g.election)
		select {
		case <-v.ended():
		case <-again.C:
		case <-ctx.Done():
		}
		again.Stop()
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("hand over %s to node %d: %w", g.name, to, err)
		}
	}
}

// startHandOver asks Raft for a hand-over, unless one is under way. It returns at once when v ends.
func (g *group) startHandOver(ctx context.Context, v *view, to uint64) error {
	started := make(chan error, 1)
	g.post(event{call: func() {
		if !g.leads() || g.raft.Status().LeadTransferee != 0 {
			started <- nil
			return
		}
		target := to
		if target == 0 {
			target = g.furthest(g.fast)
		}
		if target == 0 {
			target = g.furthest(func(uint64) bool { return true })
		}
		if target == 0 {
			started <- fmt.Errorf("hand over %s: no other replica is in sync; wait until one is UpToDate", g.name)
			return
		}
		g.lease.giveUp(g.view.Load())
		g.raft.TransferLeader(target)
		started <- nil
	}})
	select {
	case err := <-started:
		return err
	case <-v.ended():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// alone reports whether this member has nobody to hand over to, and nobody who would wait for it.
func (g *group) alone() bool {
	st, ok := g.raftStatus()
	return ok && len(st.Config.Voters.IDs()) == 1
}

// closeEntries is how many entries a member may lack against the one that is furthest along, and still be
// handed the leadership in its place: they arrive while it takes over.
const closeEntries = 64

// furthest is the other voter to hand over to, of those that are fit: one that has been heard from lately
// and has synced as good as everything that any of them has; of these the one with the least
// burden, then the one that has synced the most. 0 when there is none. Baton holder only.
func (g *group) furthest(fit func(id uint64) bool) (best uint64) {
	st := g.raft.Status()
	var able []uint64
	most := uint64(0)
	for id, pr := range st.Progress {
		if id != g.self && !pr.IsLearner && pr.State == tracker.StateReplicate && g.net.Connected(id) && fit(id) {
			able = append(able, id)
			most = max(most, pr.Match)
		}
	}
	slices.Sort(able)
	least := math.MaxInt
	for _, id := range able {
		match := st.Progress[id].Match
		if match+closeEntries < most {
			continue
		}
		burden := g.owner.burden(id)
		if burden < least || burden == least && match > st.Progress[best].Match {
			best, least = id, burden
		}
	}
	return best
}
