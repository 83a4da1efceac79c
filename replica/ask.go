package replica

import (
	"context"
	"errors"
	"fmt"

	"trinas/replica/transport"
)

// maxTopicBytes bounds the name of what is asked of another agent.
const maxTopicBytes = 64

// Ask has the agent of a node of the cluster answer body, by its Options.Answer; that node may be
// this one. topic says who answers there; what the bytes are is theirs to know. The answer is
// transport.MaxFrameBytes at most. The error of a node that cannot be reached matches
// ErrNotConnected: it has seen nothing of it.
func (n *Node) Ask(ctx context.Context, node, topic string, body []byte) ([]byte, error) {
	if len(topic) > maxTopicBytes {
		return nil, fmt.Errorf("topic %q: more than %d bytes", topic, maxTopicBytes)
	}
	if node == n.identity.Name {
		return n.answerHere(ctx, n.id, topic, body)
	}
	for _, m := range n.cluster.view().Nodes {
		if m.Name != node {
			continue
		}
		head := append([]byte{callAsk, byte(len(topic))}, topic...)
		answer, err := n.net.Call(ctx, m.ID, head, body)
		if err != nil {
			if remote := (*transport.RemoteError)(nil); errors.As(err, &remote) {
				return nil, fmt.Errorf("node %s: %s", node, remote.Text)
			}
			return nil, fmt.Errorf("node %s: %w", node, err)
		}
		return answer, nil
	}
	return nil, fmt.Errorf("no node is named %q (see trinas status)", node)
}

// ErrNotConnected: there is no connection to the node that was asked.
var ErrNotConnected = transport.ErrNotConnected

// answerAsk answers the agent of node from.
func (n *Node) answerAsk(ctx context.Context, from uint64, req, reply []byte) ([]byte, error) {
	if len(req) < 2 || len(req) < 2+int(req[1]) || req[1] > maxTopicBytes {
		return nil, errors.New("call is too short")
	}
	topic, body := req[2:2+req[1]], req[2+req[1]:]
	answer, err := n.answerHere(ctx, from, string(topic), body)
	return append(reply, answer...), err
}

func (n *Node) answerHere(ctx context.Context, from uint64, topic string, body []byte) ([]byte, error) {
	if n.opt.Answer == nil {
		return nil, errors.New("the agent answers nothing yet")
	}
	return n.opt.Answer(ctx, n.nameOf(from), topic, body)
}

// Primary is the name of a volume's primary as this node's replica of it knows it; "" while it knows
// none. It never waits. ok is false when this node has no replica of it in service.
func (n *Node) Primary(name string) (primary string, ok bool) {
	s := n.cluster.view()
	v := s.volume(name)
	if v == nil {
		return "", false
	}
	g := n.group(uint64(v.ID))
	if g == nil {
		return "", false
	}
	leader := g.view.Load().leader
	if leader == 0 {
		return "", true
	}
	return n.nameOf(leader), true
}
