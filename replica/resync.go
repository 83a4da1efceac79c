package replica

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"google.golang.org/protobuf/proto"

	"trinas/replica/volume"
	"trinas/replica/wal"
)

// A member whose next entry has left the leader's log gets a snapshot. The message carries the
// cluster's state whole, but of a volume only the index: the member fetches the table and the
// extents that changed since what it has (volume.Restore), from whoever leads at that moment, and
// then follows the log. Raft hands out no entries meanwhile; what it wants written to the log waits
// (group.deferred), since the log begins anew behind the snapshot.

const (
	imageChunkBytes = 4 << 20
	mostImageBytes  = 1 << 30
	imageKeep       = time.Minute // a source keeps an image for its next chunk
)

// install hands a snapshot to the applier, behind the entries that were committed before it.
func (g *group) install(m *raftpb.Message) {
	g.installing = true
	g.queue.put(applyJob{msg: m})
}

// appendVote has the log keep the term and the vote that are in m, and answers who asked for the vote, while
// a snapshot is being installed: the primary may be lost meanwhile, and without this vote there might be
// no other to fetch from. What is left of m it returns.
func (g *group) appendVote(m *raftpb.Message) (rest *raftpb.Message) {
	rest = &raftpb.Message{Type: m.Type, To: m.To, From: m.From, Entries: m.GetEntries(), Snapshot: m.GetSnapshot()}
	var answers []*raftpb.Message
	for _, r := range m.GetResponses() {
		switch r.GetType() {
		case raftpb.MsgVoteResp, raftpb.MsgPreVoteResp:
			answers = append(answers, r)
		default:
			rest.Responses = append(rest.Responses, r)
		}
	}
	a := wal.Append{Group: g.store.Group, Done: func(err error) { g.answer(answers, false, err) }}
	if m.Term != nil || m.Vote != nil || m.Commit != nil {
		a.Sync = m.GetTerm() != g.term || m.GetVote() != g.vote
		g.term, g.vote = m.GetTerm(), m.GetVote()
		// The log does not reach to the snapshot's commit index yet.
		a.HardState = &raftpb.HardState{Term: m.Term, Vote: m.Vote, Commit: proto.Uint64(g.store.HardState().GetCommit())}
	}
	g.wal.Append(a)
	return rest
}

// deferAppend keeps what Raft wants written after a snapshot that is being installed, which may take hours, and
// drops what is needless by m: all before another snapshot, entries that m cuts, answers that
// m repeats. So it is bounded by the entries that a primary sends ahead.
func (g *group) deferAppend(m *raftpb.Message) {
	whole := !raft.IsEmptySnap(m.GetSnapshot())
	g.deferred = slices.DeleteFunc(g.deferred, func(d *raftpb.Message) bool {
		is, es := d.GetEntries(), m.GetEntries()
		switch {
		case whole || len(is) == 0 && raft.IsEmptySnap(d.GetSnapshot()):
			return true
		default:
			return len(is) > 0 && len(es) > 0 && is[0].GetIndex() >= es[0].GetIndex() && raft.IsEmptySnap(d.GetSnapshot())
		}
	})
	g.deferred = append(g.deferred, m)
}

// restore makes the snapshot this member's state, then its log. Called by the applier. A crash
// between the two leaves a checkpoint that is ahead of the log, which openGroup mends.
func (g *group) restore(m *raftpb.Message) error {
	meta := m.GetSnapshot().GetMetadata()
	index, term := meta.GetIndex(), meta.GetTerm()
	var err error
	if sn, ok := g.sm.(snapshotter); ok {
		var conf []byte
		if conf, err = proto.Marshal(meta.GetConfState()); err == nil {
			err = sn.Restore(m.GetSnapshot().GetData(), index, term, conf)
		}
	} else if err = g.applyOwnLog(g.store.HardState().GetCommit()); err == nil && g.applied.get() < index {
		// Not another time for one that was sent while the last was being installed.
		err = g.resyncVolume(index)
	}
	if err != nil {
		return fmt.Errorf("install the snapshot at %d of %s: %w", index, g.name, err)
	}
	at, _ := g.sm.Applied()
	g.applied.set(at)
	g.post(event{call: func() {
		g.lease.lead(g.raft.Status().Config.Voters)
		g.store.Reset(index, term, nil)
		answers := m.GetResponses()
		g.wal.Append(wal.Append{Group: g.store.Group, Entries: m.GetEntries(), Sync: true,
			HardState: &raftpb.HardState{Term: proto.Uint64(g.term), Vote: proto.Uint64(g.vote), Commit: proto.Uint64(index)},
			Done:      func(err error) { g.answer(answers, false, err) }})
		g.installing = false
		waiting := g.deferred
		g.deferred = nil
		for _, m := range waiting {
			g.append(m)
		}
	}})
	return nil
}

// applyOwnLog applies what this node's log still holds up to commit, which is known to be committed. A snapshot
// can come right after a start, before Raft has handed that out, and what is not applied would be copied.
// Called by the applier.
func (g *group) applyOwnLog(commit uint64) error {
	last, err := g.store.LastIndex()
	if err != nil {
		return err
	}
	end := min(commit, last)
	for g.applied.get() < end {
		es, err := g.store.Group.Entries(g.applied.get()+1, end+1, maxApplyBytes)
		if errors.Is(err, raft.ErrCompacted) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, e := range es {
			if e.GetType() != raftpb.EntryNormal {
				return nil // Raft has the snapshot's configuration, which is a later one
			}
			if err := g.applyEntry(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// errSource: the replica to copy from did not answer; another try may find it or another one.
var errSource = errors.New("cannot fetch from the primary")

// resyncVolume brings the volume to an index of at least index.
func (g *group) resyncVolume(index uint64) error {
	g.log.Info("resync begins", "event", "resync-begin", "from", g.applied.get(), "to", index)
	began := time.Now()
	for try := 0; ; try++ {
		err := g.resyncOnce(index)
		if err == nil {
			p := g.resync.get()
			g.count.resyncs.Add(1)
			g.count.resyncBytes.Add(p.DoneBytes)
			g.log.Info("resync is done", "event", "resync-end", "bytes", p.DoneBytes, "took", time.Since(began).Round(time.Millisecond))
			return nil
		}
		if g.ctx.Err() != nil {
			return ErrClosed
		}
		if !errors.Is(err, errSource) {
			return err
		}
		g.log.Debug("resync is interrupted", "err", err)
		select {
		case <-time.After(min(retryFirst<<min(try, 10), time.Second)):
		case <-g.ctx.Done():
			return ErrClosed
		}
	}
}

// resyncOnce is one try.
func (g *group) resyncOnce(index uint64) error {
	image, err := g.fetchImage(index)
	if err == nil {
		err = g.vol.Restore(g.ctx, image, g.fetchObject, g.resync.progress)
	}
	if err == nil {
		g.resync.end()
		g.stopped.Go(g.settle)
	}
	return err
}

// fetchImage gets the volume's table from the primary, in chunks of one and the same image.
func (g *group) fetchImage(least uint64) ([]byte, error) {
	var image []byte
	var index uint64
	for {
		req := binary.LittleEndian.AppendUint64([]byte{callImage}, g.id)
		req = binary.LittleEndian.AppendUint64(req, least)
		req = binary.LittleEndian.AppendUint64(req, index)
		req = binary.LittleEndian.AppendUint64(req, uint64(len(image)))
		b, err := g.fromPrimary(g.ctx, req)
		if err != nil {
			return nil, err
		}
		if len(b) < 16 {
			return nil, fmt.Errorf("%w: its answer is cut short", errSource)
		}
		index = binary.LittleEndian.Uint64(b)
		total := binary.LittleEndian.Uint64(b[8:])
		image = append(image, b[16:]...)
		switch {
		case total > mostImageBytes || uint64(len(image)) > total || len(b) == 16 && total > 0:
			return nil, fmt.Errorf("%w: its table of %d bytes does not come whole", errSource, total)
		case uint64(len(image)) == total:
			return image, nil
		}
	}
}

// fetchObject is volume.Fetch, at the rate of Options.
func (g *group) fetchObject(ctx context.Context, id volume.FileID, off uint64, p []byte) error {
	req := binary.LittleEndian.AppendUint64([]byte{callObject}, g.id)
	req = binary.LittleEndian.AppendUint64(req, uint64(id))
	req = binary.LittleEndian.AppendUint64(req, off)
	req = binary.LittleEndian.AppendUint32(req, uint32(len(p)))
	b, err := g.fromPrimary(ctx, req)
	if err != nil {
		return err
	}
	if len(b) != len(p) {
		return fmt.Errorf("%w: %d bytes instead of %d", errSource, len(b), len(p))
	}
	copy(p, b)
	g.net.Free(b)
	return g.spare(ctx, len(p))
}

// spare waits until n bytes more keep to the rate of Options. A slow one must not look like a lost snapshot: the
// primary hears of this member all the while (snapshotQuiet).
func (g *group) spare(ctx context.Context, n int) error {
	rate := g.opt.ResyncBytesPerSecond
	for most := int(max(rate, 1)) * int(snapshotQuiet/2/time.Second); rate > 0 && n > most; n -= most {
		if err := g.resync.pace.wait(ctx, most, rate); err != nil {
			return err
		}
		req := binary.LittleEndian.AppendUint64([]byte{callObject}, g.id)
		_, _ = g.fromPrimary(ctx, append(req, make([]byte, 20)...)) // no bytes of no file; what is wrong shows with the next fetch
	}
	return g.resync.pace.wait(ctx, n, rate)
}

// fromPrimary calls the primary. Every failure is errSource.
func (g *group) fromPrimary(ctx context.Context, req []byte) ([]byte, error) {
	leader := g.view.Load().leader
	if leader == 0 || leader == g.self {
		return nil, fmt.Errorf("%w: there is none", errSource)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	b, err := g.net.Call(ctx, leader, req)
	if err != nil {
		return nil, fmt.Errorf("%w: node %d: %w", errSource, leader, err)
	}
	return b, nil
}

// A member that installs a snapshot writes nothing to its log before it is done. If a new primary
// needs just its vote to commit (of three, the third is lost), the term's first entry cannot be
// applied before that. So a primary is a source before it may answer reads: an image need only be as new as
// the snapshot, and objects as new as the image.

// answerImage gives node from a chunk of the volume's table, at an index of at least least, which is known to
// be committed; index 0 asks for a new image, another one for more of that one. Only the primary
// answers: it has everything that is committed, in its log if not yet applied.
func (g *group) answerImage(from, least, index, off uint64, reply []byte) ([]byte, error) {
	v := g.view.Load()
	if v.leader != g.self {
		return nil, errNotPrimary
	}
	g.images.noteAsked(from, g.opt.Clock())
	if g.applied.get() < least {
		// A new primary learns what its predecessor has committed from the first entry of its own that is
		// committed, or by this.
		g.queue.put(applyJob{do: func() error { return g.applyOwnLog(least) }})
		return nil, errNotPrimary // it is asked again
	}
	g.images.Lock()
	defer g.images.Unlock()
	if index == 0 {
		image, at, err := g.vol.Image()
		if err != nil {
			return nil, err
		}
		g.images.image, g.images.index = image, at
	}
	s := &g.images
	if index != 0 && index != s.index || off > uint64(len(s.image)) {
		return nil, errors.New("another image was asked for meanwhile: begin again")
	}
	if s.drop != nil {
		s.drop.Stop()
	}
	s.drop = time.AfterFunc(imageKeep, s.forget)
	if s.given == nil {
		s.given = map[uint64]*view{}
	}
	s.given[from] = v
	reply = binary.LittleEndian.AppendUint64(reply, s.index)
	reply = binary.LittleEndian.AppendUint64(reply, uint64(len(s.image)))
	return append(reply, s.image[off:min(off+imageChunkBytes, uint64(len(s.image)))]...), nil
}

// answerObject gives node from bytes of an object, as new as the image that it has at least: this primary has
// applied everything that was committed before its term, or has itself given the image in this term.
func (g *group) answerObject(from uint64, id volume.FileID, off uint64, n uint32, reply []byte) ([]byte, error) {
	if n > volume.ExtentBytes {
		return nil, fmt.Errorf("%d bytes of an object are more than an extent", n)
	}
	v := g.view.Load()
	if v.leader != g.self || g.applied.get() < v.readyAt && !g.images.gave(from, v) {
		return nil, errNotPrimary
	}
	g.images.noteAsked(from, g.opt.Clock())
	at := len(reply)
	reply = append(reply, make([]byte, n)...)
	return reply, g.vol.ReadObject(id, off, reply[at:])
}

// imageSource is the table that a primary is sending, kept until it is sent.
type imageSource struct {
	sync.Mutex
	image []byte
	index uint64
	drop  *time.Timer
	given map[uint64]*view         // by node: the leadership in which it last got an image
	asked map[uint64]time.Duration // by node: when it last asked for something, by the group's clock
}

func (s *imageSource) noteAsked(node uint64, now time.Duration) {
	s.Lock()
	defer s.Unlock()
	if s.asked == nil {
		s.asked = map[uint64]time.Duration{}
	}
	s.asked[node] = now
}

func (s *imageSource) lastAsked(node uint64) time.Duration {
	s.Lock()
	defer s.Unlock()
	return s.asked[node]
}

// snapshotQuiet is how long a member that was sent a snapshot may ask for nothing before it is sent
// another. One that has the first meanwhile takes the second for a small resync after it.
const snapshotQuiet = 5 * time.Second

// resendSnapshots sees to it that a snapshot message that was lost is sent again: Raft waits for the
// answer to it for ever. Baton holder of a leader only, each tick.
func (g *group) resendSnapshots(now time.Duration) {
	var lost []uint64
	g.raft.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
		if pr.State != tracker.StateSnapshot {
			delete(g.snapshots, id)
			return
		}
		since, known := g.snapshots[id]
		if !known {
			g.snapshots[id] = now
		} else if now-max(since, g.images.lastAsked(id)) >= snapshotQuiet {
			lost = append(lost, id)
		}
	})
	for _, id := range lost {
		delete(g.snapshots, id)
		g.raft.ReportSnapshot(id, raft.SnapshotFailure)
	}
}

// gave reports whether node got an image in the leadership v.
func (s *imageSource) gave(node uint64, v *view) bool {
	s.Lock()
	defer s.Unlock()
	return s.given[node] == v
}

func (s *imageSource) forget() {
	s.Lock()
	defer s.Unlock()
	s.image, s.index = nil, 0
}

// ResyncStatus is how far a replica is that is being brought up to date.
type ResyncStatus struct {
	DoneBytes   uint64  `json:"done_bytes"`
	TotalBytes  uint64  `json:"total_bytes"`
	SecondsLeft float64 `json:"seconds_left"`
}

// resyncState is a resync's progress and pace.
type resyncState struct {
	mu      sync.Mutex
	running bool
	began   time.Time
	status  ResyncStatus
	pace    pace
}

func (r *resyncState) progress(done, total uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.running {
		r.running, r.began = true, time.Now()
	}
	r.status = ResyncStatus{DoneBytes: done, TotalBytes: total}
	if done > 0 {
		r.status.SecondsLeft = time.Since(r.began).Seconds() / float64(done) * float64(total-done)
	}
}

func (r *resyncState) end() {
	r.mu.Lock()
	r.running = false
	r.mu.Unlock()
}

func (r *resyncState) get() ResyncStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

// current is the progress of a resync that is under way, else nil.
func (r *resyncState) current() *ResyncStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.running {
		return nil
	}
	s := r.status
	return &s
}

// pace spreads work over time.
type pace struct {
	mu   sync.Mutex
	next time.Time // when more may be done
}

// wait returns when n bytes more keep to the rate; 0 is no bound.
func (p *pace) wait(ctx context.Context, n int, bytesPerSecond int64) error {
	if bytesPerSecond <= 0 {
		return nil
	}
	p.mu.Lock()
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	p.next = p.next.Add(time.Duration(float64(n) / float64(bytesPerSecond) * float64(time.Second)))
	wait := p.next.Sub(now)
	p.mu.Unlock()
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
