package replica

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"trinas/replica/transport"
	"trinas/replica/volume"
)

// A call between nodes begins with its kind.
//
//	do       | kind 1 | group 8 | operation ... |   ->  | status 1 | primary 8 | result ... |
//	propose  | kind 1 | group 8 | entry ... |       ->  | status 1 | primary 8 | index 8 | errno 2 |
//	status   | kind 1 |                             ->  JSON, report
//	transfer | kind 1 | group 8 | to 8 |            ->  empty
//	index    | kind 1 | group 8 |                   ->  | status 1 | primary 8 | index 8 |
//	image    | kind 1 | group 8 | least 8 | index 8 | offset 8 |  ->  | index 8 | length 8 | chunk ... |
//	object   | kind 1 | group 8 | file 8 | offset 8 | length 4 |  ->  bytes
//	verify   | kind 1 | group 8 | part 1 | ... |     ->  by part (verify.go)
//	probe    | kind 1 | what 1 | padding ... |      ->  JSON, probeAnswer, and padding
//	ask      | kind 1 | topic length 1 | topic | body ... |  ->  what the agent answers
const (
	callDo       = 1
	callPropose  = 2
	callStatus   = 3
	callTransfer = 4
	callIndex    = 5
	callImage    = 6
	callObject   = 7
	callProbe    = 8
	callAsk      = 9
	callVerify   = 10

	callHeadBytes   = 9
	answerHeadBytes = 9

	statusDone       = 0
	statusNotPrimary = 1 // primary: who leads as far as the node knows, 0 for nobody
	statusNotSent    = 2 // the same, and nothing was done; versions before it say 1, and read it as 1
)

// Waits between two tries of an operation that found no primary. A new primary ends the wait at
// once, where this node has a replica.
const (
	retryFirst = 2 * time.Millisecond
	retryMost  = 100 * time.Millisecond
)

// Do carries op out on the volume's primary, wherever that is, and returns its result: for a
// mutation once a majority has synced it and the primary has applied it, for a query never older than what was acknowledged before the call. While there
// is no primary it waits. It fails only when ctx ends (a mutation that this node's own log has: once the leadership ends too), the volume does not exist (ErrNoVolume),
// the node shuts down (ErrClosed), or op.OnHold does not want to wait longer for a primary and no
// node can have carried op out (ErrNoPrimary). op.Room and op.Data may be used again after the return. A Read
// puts its bytes into op.Data where that has the capacity.
func (n *Node) Do(ctx context.Context, vol volume.ID, op *volume.Op, res *volume.Result) error {
	op.Node = uint16(n.id)
	var enc []byte
	var err error
	if op.Kind.Mutates() {
		if enc, err = op.Encode(nil); err != nil {
			return fmt.Errorf("encode operation %d: %w", op.Kind, err)
		}
	}
	waits, carriedOut := false, false // waits: it is among n.waiting
	defer func() {
		if waits {
			n.waiting.leave(vol, op.File, carriedOut, n.opt.Clock())
		}
	}()
	var hint uint64 // who led, by the word of another node
	sent := false   // op may have been carried out
	for try := 0; ; try++ {
		g, replicas, err := n.route(ctx, vol)
		if err != nil {
			return err
		}
		primary := hint
		var v *view
		if g != nil {
			v = g.view.Load()
			primary = v.leader
		} else if primary == 0 && len(replicas) > 0 {
			primary = replicas[try%len(replicas)]
		}
		switch {
		case primary == n.id && g != nil:
			err = g.serve(ctx, op, enc, res)
		case primary != 0 && primary != n.id:
			if enc == nil {
				if enc, err = op.Encode(nil); err != nil {
					return fmt.Errorf("encode operation %d: %w", op.Kind, err)
				}
			}
			callCtx := ctx
			if v != nil {
				callCtx = v.ctx // a primary that hangs is left when another takes over
			}
			hint, err = n.sendOn(callCtx, primary, vol, enc, op, res)
		default:
			// Nobody, or the word of a node that has not heard yet that the replica here failed.
			hint, err = 0, errNotSent
		}
		if err == nil {
			carriedOut = true
			if try > 0 {
				n.outages.end(vol)
			}
			if res.Err == volume.EFENCED {
				n.noteFenced(vol, res.Obj.After.File)
			}
			return nil
		}
		if !errors.Is(err, errNotPrimary) {
			return err
		}
		sent = sent || op.Kind.Mutates() && !errors.Is(err, errNotSent)
		lasted := n.outages.meet(vol, n.opt.Clock())
		if !waits {
			waits = true
			n.waiting.enter(vol, op.File)
		}
		if op.OnHold != nil && try >= holdTries && lasted >= outageAfter && !op.OnHold(sent) && !sent {
			return ErrNoPrimary
		}
		if err := n.pause(ctx, v, try); err != nil {
			return err
		}
	}
}

// pause waits before another try: until v has ended, or a little longer each time.
func (n *Node) pause(ctx context.Context, v *view, try int) error {
	wait := min(retryFirst<<min(try, 10), retryMost)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	var ended <-chan struct{}
	if v != nil && v.ctx.Err() == nil {
		ended = v.ended()
	}
	select {
	case <-timer.C:
	case <-ended:
	case <-n.closing:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	return ctx.Err()
}

// sendOn sends op to primary. A broken connection or another answer than a result is
// errNotPrimary: whether the operation happened is then unknown, unless it is errNotSent, and it is
// sent again.
func (n *Node) sendOn(ctx context.Context, primary uint64, vol volume.ID, enc []byte, op *volume.Op,
	res *volume.Result) (hint uint64, err error) {
	var head [callHeadBytes]byte
	head[0] = callDo
	binary.LittleEndian.PutUint64(head[1:], uint64(vol))
	answer, err := n.net.Call(ctx, primary, head[:], enc)
	if err != nil {
		var remote *transport.RemoteError
		if errors.As(err, &remote) {
			n.log.Warn("a node could not carry out an operation", "event", "operation-refused",
				"peer", n.nameOf(primary), "volume", n.volumeName(vol), "err", err)
		}
		if errors.Is(err, transport.ErrNotConnected) {
			return 0, errNotSent
		}
		return 0, errNotPrimary
	}
	if len(answer) < answerHeadBytes {
		return 0, errNotPrimary
	}
	if answer[0] != statusDone {
		err := errNotPrimary
		if answer[0] == statusNotSent {
			err = errNotSent
		}
		return binary.LittleEndian.Uint64(answer[1:]), err
	}
	if err := res.Decode(answer[answerHeadBytes:]); err != nil {
		n.log.Error("a node's answer cannot be decoded", "event", "answer-garbled",
			"peer", n.nameOf(primary), "volume", n.volumeName(vol), "err", err)
		return 0, errNotPrimary
	}
	if op.Kind == volume.Read && cap(op.Data) >= len(res.Data) {
		res.Data = append(op.Data[:0], res.Data...)
		n.net.Free(answer) // the rest of res has no memory of it
	}
	return primary, nil
}

// Call answers another node (transport.Handler).
func (n *Node) Call(ctx context.Context, from uint64, req, reply []byte) ([]byte, error) {
	if len(req) < 1 {
		return nil, errors.New("empty call")
	}
	switch req[0] {
	case callImage, callObject:
		return n.answerResync(from, req, reply)
	case callDo, callPropose, callTransfer, callIndex:
		if len(req) < callHeadBytes {
			return nil, errors.New("call is too short")
		}
	}
	switch req[0] {
	case callDo:
		return n.answerDo(ctx, volume.ID(binary.LittleEndian.Uint64(req[1:])), req[callHeadBytes:], reply)
	case callPropose:
		return n.answerPropose(binary.LittleEndian.Uint64(req[1:]), req[callHeadBytes:], reply)
	case callIndex:
		return n.answerIndex(ctx, binary.LittleEndian.Uint64(req[1:]), reply)
	case callVerify:
		return n.answerVerify(ctx, req, reply)
	case callStatus:
		return n.answerStatus(reply)
	case callProbe:
		return n.answerProbe(ctx, from, req, reply)
	case callAsk:
		return n.answerAsk(ctx, from, req, reply)
	case callTransfer:
		if len(req) < callHeadBytes+8 {
			return nil, errors.New("call is too short")
		}
		g := n.group(binary.LittleEndian.Uint64(req[1:]))
		if g == nil {
			return nil, ErrNoVolume
		}
		return reply, g.handOver(ctx, binary.LittleEndian.Uint64(req[callHeadBytes:]))
	}
	return nil, fmt.Errorf("unknown call %d: the sender runs a newer version; upgrade this node", req[0])
}

// AnswerBytes is about the most that Call appends (transport.Handler).
func (n *Node) AnswerBytes(req []byte) int {
	const usual = 1 << 10
	if len(req) < callHeadBytes {
		return usual
	}
	switch body := req[callHeadBytes:]; req[0] {
	case callDo:
		return answerHeadBytes + volume.AnswerBytes(body)
	case callImage:
		return 16 + imageChunkBytes
	case callObject:
		if len(body) == 20 {
			return int(min(binary.LittleEndian.Uint32(body[16:]), volume.ExtentBytes))
		}
	case callVerify:
		if len(body) == 17 && body[0] == verifyBytes {
			return volume.ExtentBytes
		}
	case callProbe:
		return usual + len(req)
	}
	return usual
}

// answerResync serves a replica that fell behind.
func (n *Node) answerResync(from uint64, req, reply []byte) ([]byte, error) {
	word := binary.LittleEndian.Uint64
	if len(req) != 33 && req[0] == callImage || len(req) != 29 && req[0] == callObject {
		return nil, errors.New("call has the wrong length")
	}
	g := n.group(word(req[1:]))
	if g == nil || g.vol == nil {
		return nil, ErrNoVolume
	}
	if req[0] == callImage {
		return g.answerImage(from, word(req[9:]), word(req[17:]), word(req[25:]), reply)
	}
	return g.answerObject(from, volume.FileID(word(req[9:])), word(req[17:]), binary.LittleEndian.Uint32(req[25:]), reply)
}

func appendHead(reply []byte, status byte, primary uint64) []byte {
	return binary.LittleEndian.AppendUint64(append(reply, status), primary)
}

func (n *Node) answerDo(ctx context.Context, vol volume.ID, enc, reply []byte) ([]byte, error) {
	g := n.group(uint64(vol))
	if g == nil || g.vol == nil {
		return appendHead(reply, statusNotSent, 0), nil
	}
	var op volume.Op
	if err := op.Decode(enc); err != nil {
		return nil, err
	}
	if op.Kind == volume.Read { // straight into the answer, with room for what stands before it
		count := int(min(op.Count, volume.MaxIOBytes))
		reply = slices.Grow(reply, answerHeadBytes+volume.MaxResultHeadBytes+count)
		at := len(reply) + answerHeadBytes + volume.MaxResultHeadBytes
		op.Data = reply[at : at : at+count]
	}
	var res volume.Result
	if err := g.serve(ctx, &op, enc, &res); err != nil {
		status := byte(statusNotPrimary)
		if errors.Is(err, errNotSent) {
			status = statusNotSent
		}
		return appendHead(reply, status, g.view.Load().leader), nil
	}
	return res.Encode(appendHead(reply, statusDone, n.id)), nil
}

// propose puts an entry into a group's log from any of its members, and returns the entry's index
// and outcome once it is applied at the primary. For the cluster group's rare commands.
func (n *Node) propose(ctx context.Context, g *group, entry []byte) (index uint64, errno volume.Errno, err error) {
	answer, err := n.askLeader(ctx, g, callPropose, entry, answerHeadBytes+10,
		func() ([]byte, error) { return n.answerPropose(g.id, entry, nil) })
	if err != nil {
		return 0, 0, err
	}
	return binary.LittleEndian.Uint64(answer[answerHeadBytes:]), volume.Errno(binary.LittleEndian.Uint16(answer[answerHeadBytes+8:])), nil
}

// catchUp returns once this node has applied everything that g had acknowledged before the call.
func (n *Node) catchUp(ctx context.Context, g *group) error {
	answer, err := n.askLeader(ctx, g, callIndex, nil, answerHeadBytes+8,
		func() ([]byte, error) { return n.answerIndex(ctx, g.id, nil) })
	if err != nil {
		return err
	}
	return g.applied.wait(ctx, binary.LittleEndian.Uint64(answer[answerHeadBytes:]))
}

// askLeader gets an answer of at least size bytes from g's leader, which may be this node (here).
func (n *Node) askLeader(ctx context.Context, g *group, kind byte, body []byte, size int,
	here func() ([]byte, error)) ([]byte, error) {
	head := binary.LittleEndian.AppendUint64([]byte{kind}, g.id)
	for try := 0; ; try++ {
		v := g.view.Load()
		var answer []byte
		var err error
		if failed := g.failure.Load(); failed != nil {
			return nil, fmt.Errorf("%s is out of service on this node: ask another one: %w", g.name, *failed)
		}
		switch v.leader {
		case 0:
			err = errNotPrimary
		case n.id:
			answer, err = here()
		default:
			answer, err = n.net.Call(v.ctx, v.leader, head, body)
		}
		if err == nil && len(answer) >= size && answer[0] == statusDone {
			return answer, nil
		}
		if err := n.pause(ctx, v, try); err != nil {
			return nil, fmt.Errorf("no majority of the nodes answered: %w", err)
		}
	}
}

func (n *Node) answerIndex(ctx context.Context, id uint64, reply []byte) ([]byte, error) {
	g := n.group(id)
	if g == nil {
		return appendHead(reply, statusNotPrimary, 0), nil
	}
	v := g.view.Load()
	if v.leader != n.id || g.readIndex(ctx, v) != nil {
		return appendHead(reply, statusNotPrimary, v.leader), nil
	}
	return binary.LittleEndian.AppendUint64(appendHead(reply, statusDone, n.id), g.applied.get()), nil
}

func (n *Node) answerPropose(id uint64, entry, reply []byte) ([]byte, error) {
	g := n.group(id)
	if g == nil {
		return appendHead(reply, statusNotPrimary, 0), nil
	}
	p := newProposal(entry)
	if err := g.await(p); err != nil {
		return appendHead(reply, statusNotPrimary, g.view.Load().leader), nil
	}
	reply = appendHead(reply, statusDone, n.id)
	reply = binary.LittleEndian.AppendUint64(reply, p.index)
	return binary.LittleEndian.AppendUint16(reply, uint16(p.result.Err)), nil
}
