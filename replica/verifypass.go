package replica

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"trinas/replica/transport"
	"trinas/replica/volume"
)

const (
	verifyEvery   = time.Second      // how often a node looks for what is to be verified, and a pause is looked at again
	digestTimeout = 20 * time.Second // for one replica to reach an entry and to digest 1 MiB
	notePeriod    = 10 * time.Second // how much work a change of primary may repeat
	repairTries   = 10               // of an extent that is being written to all the time
	leastPaced    = 64 << 10         // bytes that the pace counts for an entry at least
)

// verifyLoop begins verifications of the volumes whose primary this node is, and goes on with those of
// their last primary. Scheduled ones take turns.
func (n *Node) verifyLoop() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	n.running.Go(func() {
		<-n.closing
		cancel()
	})
	t := time.NewTicker(verifyEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-n.closing:
			return
		}
		groups := n.snapshotGroups()
		busy := slices.ContainsFunc(groups, func(g *group) bool {
			g.verify.mu.Lock()
			defer g.verify.mu.Unlock()
			return g.verify.running
		})
		for _, g := range groups {
			if g.vol == nil {
				continue
			}
			if p := n.nextPass(ctx, g, busy); p != nil {
				busy = true
				n.running.Go(func() { n.runPass(ctx, g, p) })
			}
		}
	}
}

// nextPass gives the verification that is to go on or to begin, and marks it as running; nil for none.
func (n *Node) nextPass(ctx context.Context, g *group, busy bool) *passRun {
	v, s := g.view.Load(), &g.verify
	if v.leader != n.id || g.applied.get() < v.readyAt {
		return nil
	}
	s.mu.Lock()
	running, learned := s.running, s.learned == v
	s.mu.Unlock()
	if running {
		return nil
	}
	if !learned {
		newest := n.newestNote(ctx, g)
		s.mu.Lock()
		s.pass, s.learned = newest, v
		s.mu.Unlock()
	}
	state := n.cluster.view()
	info := state.volumeByID(volume.ID(g.id))
	if info == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now().UnixNano()
	p := &verifyPass{ID: now, State: VerifyRunning, Table: true, File: volume.RootID, Total: g.vol.Stat().UsedBytes}
	due := g.verifyDue(info.Created, s.pass)
	switch {
	case s.pass != nil && s.pass.State == VerifyRunning:
		p = s.pass.clone()
	case s.asked != nil:
		p.Repair = s.asked.Repair
	case due != 0 && now >= due && !busy:
		p.Scheduled, p.Repair = true, g.opt.VerifyRepair
	default:
		return nil
	}
	if s.pass != nil && s.pass.ID >= p.ID && s.pass.State != VerifyRunning {
		p.ID = s.pass.ID + 1 // a clock that went back
	}
	s.pass, s.asked, s.running = p.clone(), nil, true
	s.began, s.beganDone = time.Now(), p.Done
	return &passRun{n: n, g: g, view: v, verifyPass: p, noted: time.Now(), knows: map[uint64]uint64{}}
}

func (p *verifyPass) clone() *verifyPass {
	c := *p
	c.Findings = slices.Clone(p.Findings)
	return &c
}

// newestNote asks all replicas for what they know of verifications.
func (n *Node) newestNote(ctx context.Context, g *group) (newest *verifyPass) {
	take := func(raw []byte) {
		var p verifyPass
		if len(raw) > 0 && json.Unmarshal(raw, &p) == nil && p.newer(newest) {
			newest = &p
		}
	}
	take(g.vol.Note())
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	members, _ := g.voters()
	for _, id := range members {
		if id != n.id && n.net.Connected(id) {
			if raw, err := n.net.Call(ctx, id, verifyCall(g.id, verifyHello)); err == nil {
				take(raw)
			}
		}
	}
	return newest
}

// voters are the nodes whose replicas count; moving: others are about to.
func (g *group) voters() (ids []uint64, moving bool) {
	st, _ := g.raftStatus()
	return slices.Sorted(maps.Keys(st.Config.Voters.IDs())), len(st.Config.Voters[1])+len(st.Config.Learners) > 0
}

// passRun is a verification under way at this primary.
type passRun struct {
	*verifyPass
	n     *Node
	g     *group
	view  *view
	noted time.Time
	knows map[uint64]uint64 // nodes that know these entries, and the connection (sessions.connection) by which they said so
	pace  pace
}

var (
	errPassOver    = errors.New("the leadership has ended") // whoever leads goes on
	errPassStopped = errors.New("an admin has stopped it")
	// errReplicaAway: a replica cannot tell what it has at an entry. It is asked again, at another one.
	errReplicaAway = errors.New("a replica cannot tell")
)

func (n *Node) runPass(ctx context.Context, g *group, p *passRun) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.view.ctx, cancel)()
	if p.Seq == 0 {
		g.log.Info("verification begins", "event", "verify-begin", "bytes", p.Total, "repair", p.Repair, "scheduled", p.Scheduled)
	}
	err := p.run(ctx)
	s := &g.verify
	s.mu.Lock()
	s.running, s.waiting = false, ""
	s.mu.Unlock()
	if err != nil {
		g.log.Debug("verification stops here; the next primary goes on", "err", err)
		return
	}
	damaged := 0
	for _, f := range p.Findings {
		if !f.Repaired {
			damaged++
		}
	}
	g.log.Info("verification has ended", "event", "verify-end", "state", string(p.State), "bytes", p.Done,
		"took", time.Since(time.Unix(0, p.ID)).Round(time.Second), "found", len(p.Findings)+p.More, "damaged", damaged+p.More)
}

// run goes on until the end: the inodes, the replies, then every extent.
func (p *passRun) run(ctx context.Context) error {
	for p.State == VerifyRunning {
		more, err := p.turn(ctx)
		switch {
		case errors.Is(err, errReplicaAway):
			err = p.wait(ctx, err.Error())
		case err == nil && !more:
			p.State = VerifyDone
		}
		if errors.Is(err, errPassStopped) {
			p.State, err = VerifyStopped, nil
		}
		if err != nil {
			return err
		}
	}
	p.Ended = time.Now().UnixNano()
	p.publish()
	if ids, _ := p.g.voters(); !p.known(ids) {
		return nil // stopped before all replicas knew these entries
	}
	return p.note()
}

// turn is one step, when all replicas can take part.
func (p *passRun) turn(ctx context.Context) (more bool, err error) {
	members, err := p.members(ctx)
	if err != nil {
		return false, err
	}
	if p.Seq == 0 || time.Since(p.noted) >= notePeriod {
		if err := p.note(); err != nil {
			return false, err
		}
	}
	more, err = p.step(ctx, members)
	if err == nil {
		p.publish()
	}
	return more, err
}

// stopped reports, once, that an admin wants it to end.
func (p *passRun) stopped() bool {
	s := &p.g.verify
	s.mu.Lock()
	defer s.mu.Unlock()
	stop := s.stop
	s.stop = false
	return stop
}

// publish shows how far it is.
func (p *passRun) publish() {
	s := &p.g.verify
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pass, s.waiting = p.clone(), ""
}

// note puts how far it is into the log.
func (p *passRun) note() error {
	p.Seq++
	raw, err := json.Marshal(p.verifyPass)
	if err != nil {
		return err
	}
	p.noted = time.Now()
	_, _, err = p.propose(&volume.Op{Kind: volume.VerifyNote, Data: raw})
	p.publish()
	return err
}

func (p *passRun) propose(op *volume.Op) (index uint64, e volume.Errno, err error) {
	enc, err := op.Encode(nil)
	if err != nil {
		return 0, 0, err
	}
	volume.StampTime(enc, time.Now().UnixNano())
	prop := newProposal(enc)
	if err := p.g.await(prop); err != nil {
		return 0, 0, errPassOver
	}
	return prop.index, prop.result.Err, nil
}

// members waits until every replica is in touch and knows these entries, and gives their nodes. A replica
// of a version that does not know them would fail at the first.
func (p *passRun) members(ctx context.Context) ([]uint64, error) {
	for {
		if p.stopped() {
			return nil, errPassStopped
		}
		ids, moving := p.g.voters()
		why := ""
		switch {
		case len(ids) == 0:
			return nil, errPassOver
		case moving:
			why = "a replica moves"
		}
		for _, id := range ids {
			if why == "" {
				why = p.greet(ctx, id)
			}
		}
		if why == "" {
			return ids, nil
		}
		if err := p.wait(ctx, why); err != nil {
			return nil, err
		}
	}
}

// known reports that all these nodes know these entries.
func (p *passRun) known(ids []uint64) bool {
	return !slices.ContainsFunc(ids, func(id uint64) bool {
		_, knows := p.knows[id]
		return id != p.n.id && !knows
	})
}

// greet gives the reason why a node cannot take part; "" when it can.
func (p *passRun) greet(ctx context.Context, id uint64) string {
	if id == p.n.id {
		return ""
	}
	name := p.n.nameOf(id)
	if !p.n.net.Connected(id) {
		return fmt.Sprintf("node %s is out of touch", name)
	}
	connection := p.n.sessions.connection(id)
	if by, knows := p.knows[id]; knows && by == connection {
		return "" // else it may have come back as an older version
	}
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	_, err := p.n.net.Call(ctx, id, verifyCall(p.g.id, verifyHello))
	switch {
	case err == nil:
		p.knows[id] = connection
		return ""
	case isRemote(err) && strings.Contains(err.Error(), "unknown call"):
		return fmt.Sprintf("node %s runs a version of trinas that cannot verify: upgrade it", name)
	case isRemote(err):
		return fmt.Sprintf("the replica on node %s is not in service: %v", name, err)
	}
	return fmt.Sprintf("node %s does not answer", name)
}

func isRemote(err error) bool {
	var remote *transport.RemoteError
	return errors.As(err, &remote)
}

// wait says what it waits for, and waits a little.
func (p *passRun) wait(ctx context.Context, why string) error {
	s := &p.g.verify
	s.mu.Lock()
	before := s.waiting
	s.waiting = why
	s.mu.Unlock()
	if before == "" {
		p.g.log.Warn("verification waits", "event", "verify-paused", "reason", why)
	}
	select {
	case <-time.After(verifyEvery):
		return nil
	case <-ctx.Done():
		return errPassOver
	}
}

// step compares what one entry names, and repairs it if that is wanted. more: that was not all.
func (p *passRun) step(ctx context.Context, members []uint64) (more bool, err error) {
	if p.Table {
		return true, p.stepTable(ctx, members)
	}
	c, err := p.compare(ctx, members, &volume.Op{Kind: volume.VerifyRange, File: p.File, Offset: p.Offset, Count: volume.MaxVerifyBytes})
	if err != nil {
		return false, err
	}
	right := c.layout()
	bytes := uint64(0)
	for i, part := range right.Parts {
		if bad := c.judge(i); bad != nil && (i == 0 || bad.what != FoundTable) {
			if err := p.found(ctx, members, bad); err != nil {
				return false, err
			}
		}
		bytes += part.Bytes
	}
	p.Done = min(p.Done+bytes, p.Total)
	p.File, p.Offset = right.Next, right.NextOffset
	if right.Next == 0 {
		p.Done = p.Total
		return false, nil
	}
	return true, p.pace.wait(ctx, int(max(bytes, leastPaced)), p.g.opt.VerifyBytesPerSecond)
}

// stepTable compares inodes; after the last ones the replies (File 0).
func (p *passRun) stepTable(ctx context.Context, members []uint64) error {
	c, err := p.compare(ctx, members, &volume.Op{Kind: volume.VerifyTable, File: p.File, Count: volume.MaxVerifyInodes})
	if err != nil {
		return err
	}
	if bad := c.judge(0); bad != nil {
		bad.what = FoundTable
		if err := p.found(ctx, members, bad); err != nil {
			return err
		}
	}
	if p.File == 0 {
		p.Table, p.File = false, volume.RootID
		return nil
	}
	p.File = c.layout().Next
	return nil
}
