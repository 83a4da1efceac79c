package replica

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"sync"
	"time"

	"trinas/replica/volume"
)

// A volume's replicas are compared by its primary (verifypass.go): it puts an entry into the log that
// names some extents, every replica digests them as they are at that entry, and the primary asks all for
// what they found. What the most of them have is right; another Repair entry carries it to the others.
// How far that is goes into the log as well, so that another primary goes on from there.

// VerifyState says how far a verification is.
type VerifyState string

const (
	VerifyNever   VerifyState = "never"
	VerifyRunning VerifyState = "running"
	VerifyPaused  VerifyState = "paused" // it waits for a replica
	VerifyDone    VerifyState = "done"
	VerifyStopped VerifyState = "stopped" // by the admin
)

// VerifyStatus is a volume's last verification, or the one that is under way. Times are UTC.
type VerifyStatus struct {
	State       VerifyState     `json:"state"`
	Waiting     string          `json:"waiting,omitempty"` // of VerifyPaused: what for
	Began       *time.Time      `json:"began,omitempty"`
	Ended       *time.Time      `json:"ended,omitempty"`
	Next        *time.Time      `json:"next,omitempty"` // by schedule
	Repair      bool            `json:"repair"`
	DoneBytes   uint64          `json:"done_bytes"`
	TotalBytes  uint64          `json:"total_bytes"`
	SecondsLeft float64         `json:"seconds_left,omitempty"`
	Findings    []VerifyFinding `json:"findings"`
	More        int             `json:"more_findings,omitempty"` // found besides, beyond what is kept
}

// Damaged counts the findings that are not repaired.
func (v *VerifyStatus) Damaged() (n int) {
	for _, f := range v.Findings {
		if !f.Repaired {
			n++
		}
	}
	return n + v.More
}

// What a VerifyFinding may be, besides volume.PartMissing and volume.PartUnreadable.
const (
	FoundDiffers    = "differs"            // other bytes than most replicas have
	FoundTable      = "table differs"      // names, owners, sizes or the place of blocks
	FoundNoMajority = "no majority agrees" // nobody knows which is right
)

// VerifyFinding is one range of a file that is not the same on all replicas.
type VerifyFinding struct {
	Path     string        `json:"path"` // from the volume's root; "" for the table
	File     volume.FileID `json:"file"`
	Offset   uint64        `json:"offset"`
	Bytes    uint64        `json:"bytes"`
	Nodes    []string      `json:"nodes"` // where it is damaged
	What     string        `json:"what"`
	Detail   string        `json:"detail,omitempty"`
	Index    uint64        `json:"index"` // of the log
	Time     time.Time     `json:"time"`
	Repaired bool          `json:"repaired"`
}

// maxFindings bounds the findings that are kept of one verification; all are in the journal.
const maxFindings = 128

// verifyPass is what the log and the replicas keep of a verification (volume.VerifyNote), in JSON. A newer one
// of the same volume has a larger ID, then a larger Seq.
type verifyPass struct {
	ID        int64           `json:"id"` // when it began, nanoseconds since 1970
	Seq       uint64          `json:"seq"`
	State     VerifyState     `json:"state"` // VerifyRunning, VerifyDone or VerifyStopped
	Repair    bool            `json:"repair"`
	Scheduled bool            `json:"scheduled"`
	Ended     int64           `json:"ended"` // nanoseconds since 1970
	Table     bool            `json:"table"` // it is still at the inodes
	File      volume.FileID   `json:"file"`  // where it goes on
	Offset    uint64          `json:"offset"`
	Done      uint64          `json:"done"` // bytes
	Total     uint64          `json:"total"`
	HandedOn  bool            `json:"handed_on"` // a damaged primary has handed over already
	Findings  []VerifyFinding `json:"findings"`
	More      int             `json:"more"`
}

func (p *verifyPass) newer(than *verifyPass) bool {
	return than == nil || p.ID > than.ID || p.ID == than.ID && p.Seq > than.Seq
}

// verifying is a group's part in verifications.
type verifying struct {
	mu      sync.Mutex
	pass    *verifyPass // the newest known; nil: none. Replaced, never changed
	learned *view       // the leadership in which it was learned
	asked   *VerifyRequest
	stop    bool
	running bool
	waiting string // what the running one waits for

	began     time.Time // of the part that runs here: for the time left
	beganDone uint64
}

// VerifyRequest asks for a verification, or to stop the one under way.
type VerifyRequest struct {
	Repair bool `json:"repair"`
	Stop   bool `json:"stop"`
}

// Parts of callVerify.
const (
	verifyHello  = 0 // -> the note that the node has
	verifyDigest = 1 // index 8 -> volume.Digest, in JSON
	verifyBytes  = 2 // file 8, offset 8 -> the extent
	verifyStart  = 3 // VerifyRequest, in JSON -> empty
	verifyTable  = 4 // -> empty: the table is fetched from the primary
)

const verifyHeadBytes = callHeadBytes + 1

func verifyCall(group uint64, what byte) []byte {
	return append(binary.LittleEndian.AppendUint64([]byte{callVerify}, group), what)
}

// Verify begins to verify a volume, or stops it, and returns when its primary has taken that up.
// VolumeStatus.Verify tells how far it is.
func (n *Node) Verify(ctx context.Context, name string, req VerifyRequest) error {
	v, err := n.findVolume(ctx, name)
	if err != nil {
		return err
	}
	body, err := json.Marshal(req)
	if err != nil {
		return err
	}
	for try := 0; ; try++ {
		primary := n.primaryOf(ctx, v)
		switch {
		case primary == n.id:
			err = n.group(uint64(v.ID)).requestVerify(req)
		case primary != 0:
			_, err = n.net.Call(ctx, primary, verifyCall(uint64(v.ID), verifyStart), body)
		default:
			err = errNotPrimary
		}
		if err == nil {
			return nil
		}
		if isRemote(err) || !errors.Is(err, errNotPrimary) && primary == n.id {
			return fmt.Errorf("verify volume %q: %w", name, err)
		}
		if err := n.pause(ctx, nil, try); err != nil {
			return fmt.Errorf("verify volume %q: it has no primary: %w", name, err)
		}
	}
}

// requestVerify notes what an admin wants; verifyLoop does it.
func (g *group) requestVerify(req VerifyRequest) error {
	if g.view.Load().leader != g.self {
		return errNotPrimary
	}
	s := &g.verify
	s.mu.Lock()
	defer s.mu.Unlock()
	busy := s.asked != nil || s.pass != nil && s.pass.State == VerifyRunning
	switch {
	case req.Stop && !busy:
		return errors.New("it is not being verified")
	case req.Stop:
		s.stop, s.asked = true, nil
	case busy:
		return errors.New("it is being verified already: see trinas verify --status, or stop it first (trinas verify --stop)")
	default:
		s.asked = &req
	}
	return nil
}

// answerVerify answers another node, or this one.
func (n *Node) answerVerify(ctx context.Context, req, reply []byte) ([]byte, error) {
	if len(req) < verifyHeadBytes {
		return nil, errors.New("call is too short")
	}
	g := n.group(binary.LittleEndian.Uint64(req[1:]))
	if g == nil || g.vol == nil {
		return nil, fmt.Errorf("%w here", ErrNoVolume)
	}
	body, word := req[verifyHeadBytes:], binary.LittleEndian.Uint64
	switch what := req[callHeadBytes]; {
	case what == verifyHello:
		return append(reply, g.vol.Note()...), nil
	case what == verifyDigest && len(body) == 8:
		d, err := g.compared(ctx, word(body))
		if err != nil {
			return nil, err
		}
		raw, err := json.Marshal(d)
		return append(reply, raw...), err
	case what == verifyBytes && len(body) == 16:
		b, err := g.vol.ReadExtent(volume.FileID(word(body)), word(body[8:]))
		return append(reply, b...), err
	case what == verifyStart:
		var r VerifyRequest
		if err := json.Unmarshal(body, &r); err != nil {
			return nil, err
		}
		return reply, g.requestVerify(r)
	case what == verifyTable:
		return reply, g.renewTable(ctx)
	default:
		return nil, fmt.Errorf("unknown part %d of a verification: the sender runs a newer version; upgrade this node", what)
	}
}

// compared waits until the entry at index is applied here, and for what it found.
func (g *group) compared(ctx context.Context, index uint64) (volume.Digest, error) {
	ctx, cancel := context.WithTimeout(ctx, digestTimeout)
	defer cancel()
	if err := g.applied.wait(ctx, index); err != nil {
		return volume.Digest{}, fmt.Errorf("this replica has not reached entry %d: %w", index, ctx.Err())
	}
	return g.vol.Compared(ctx, index)
}

// renewTable makes this replica's table the primary's, and returns when that is done.
func (g *group) renewTable(ctx context.Context) error {
	done := make(chan error, 1)
	g.queue.put(applyJob{do: func() error {
		err := g.resyncOnce(g.applied.get())
		if err == nil {
			at, _ := g.sm.Applied()
			g.applied.set(at)
		}
		g.resync.end()
		done <- err
		if errors.Is(err, errSource) || g.ctx.Err() != nil {
			return nil // as before, but for newer bytes of what the log changes anyway
		}
		return err
	}})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-g.ctx.Done():
		return ErrClosed
	}
}

// settle finds out from which entry on this replica's objects are as old as its table: what the
// primary has applied now. Whatever this node had applied before its restart, or has read of another's
// objects, was committed by then.
func (g *group) settle() {
	for try := 0; ; try++ {
		if index, err := g.leaderIndex(); err == nil {
			g.vol.Settle(index)
			return
		}
		select {
		case <-time.After(min(retryFirst<<min(try, 10), time.Second)):
		case <-g.ctx.Done():
			return
		}
	}
}

func (g *group) leaderIndex() (uint64, error) {
	v := g.view.Load()
	if v.leader == g.self {
		if err := g.readIndex(g.ctx, v); err != nil {
			return 0, err
		}
		return g.applied.get(), nil
	}
	b, err := g.fromPrimary(g.ctx, binary.LittleEndian.AppendUint64([]byte{callIndex}, g.id))
	if err != nil {
		return 0, err
	}
	if len(b) < answerHeadBytes+8 || b[0] != statusDone {
		return 0, errNotPrimary
	}
	return binary.LittleEndian.Uint64(b[answerHeadBytes:]), nil
}

// verifyStatus tells of the newest verification known to this primary.
func (g *group) verifyStatus(created int64) *VerifyStatus {
	s := &g.verify
	s.mu.Lock()
	defer s.mu.Unlock()
	out := &VerifyStatus{State: VerifyNever, Findings: []VerifyFinding{}}
	if next := g.verifyDue(created, s.pass); next != 0 && s.learned != nil {
		out.Next = timeOf(next)
	}
	if s.asked != nil {
		out.State = VerifyRunning
	}
	p := s.pass
	if p == nil {
		return out
	}
	out.State, out.Waiting, out.Repair, out.DoneBytes, out.TotalBytes, out.More = p.State, s.waiting, p.Repair, p.Done, p.Total, p.More
	out.Began, out.Findings = timeOf(p.ID), append(out.Findings, p.Findings...)
	if p.State != VerifyRunning {
		out.Ended, out.Waiting = timeOf(p.Ended), ""
		return out
	}
	out.Next = nil
	if s.waiting != "" {
		out.State = VerifyPaused
	}
	if p.Done > s.beganDone && p.Total > p.Done {
		out.SecondsLeft = time.Since(s.began).Seconds() / float64(p.Done-s.beganDone) * float64(p.Total-p.Done)
	}
	return out
}

func timeOf(ns int64) *time.Time {
	t := time.Unix(0, ns).UTC()
	return &t
}

// verifyDue is when the next verification is due by schedule, in nanoseconds since 1970; 0: never. The first
// one comes within the first interval, at a moment of the volume's own, so that volumes take turns.
func (g *group) verifyDue(created int64, last *verifyPass) int64 {
	every := int64(g.opt.VerifyInterval)
	switch {
	case every <= 0:
		return 0
	case last != nil:
		return last.ID + every
	}
	h := fnv.New32a()
	_, _ = h.Write(binary.LittleEndian.AppendUint64(nil, g.id)) // never fails
	return created + every/1000*int64(h.Sum32()%1000)
}

// damagedOn counts findings that are not repaired, by node.
func (v *VerifyStatus) damagedOn(node string) (n int) {
	for _, f := range v.Findings {
		if !f.Repaired && slices.Contains(f.Nodes, node) {
			n++
		}
	}
	return n
}
