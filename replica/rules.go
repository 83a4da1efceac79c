package replica

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"

	"trinas/replica/volume"
)

// Allow puts a rule into a volume's allow list, in place of the one for the same client. It holds
// at this node when Allow returns, at the others as soon as they have heard of it.
func (n *Node) Allow(ctx context.Context, name string, r volume.Rule) error {
	if err := r.Check(); err != nil {
		return fmt.Errorf("volume %q: %w", name, err)
	}
	errno, err := n.changeRules(ctx, name, cmdAllow, r)
	switch {
	case err != nil:
		return err
	case errno == volume.ENOSPC:
		return fmt.Errorf("volume %q has its most of %d rules: name networks instead of single addresses", name, volume.MaxRules)
	case errno != volume.OK:
		return fmt.Errorf("volume %q: the cluster does not take the rule %s (error %d)", name, r, errno)
	}
	return nil
}

// Deny takes the rule for client from a volume's allow list; as Allow.
func (n *Node) Deny(ctx context.Context, name string, client netip.Prefix) error {
	errno, err := n.changeRules(ctx, name, cmdDeny, volume.Rule{Client: client})
	if err == nil && errno == volume.ENOENT {
		err = fmt.Errorf("volume %q has no rule for %s: trinas volume show %s lists those that it has", name, volume.ClientText(client), name)
	}
	return err
}

// changeRules puts a command about a volume's rules into the cluster's log, and waits until this
// node has applied it.
func (n *Node) changeRules(ctx context.Context, name, command string, r volume.Rule) (volume.Errno, error) {
	s := n.cluster.view()
	v := s.volume(name)
	if v == nil {
		return 0, fmt.Errorf("volume %q: %w (see trinas volume list)", name, ErrNoVolume)
	}
	index, errno, err := n.command(ctx, clusterCommand{Do: command, Volume: &VolumeInfo{ID: v.ID}, Rule: &r})
	if err == nil {
		err = n.group(clusterGroup).applied.wait(ctx, index)
	}
	if err != nil {
		return 0, fmt.Errorf("change the rules of volume %q: %w", name, err)
	}
	return errno, nil
}

// currency is whether this node has caught up with the cluster since it started.
type currency struct {
	reached atomic.Bool
	asking  chan struct{} // holds a value while somebody finds out
}

// Rule is the rule that holds for a client of a volume; ok is false when there is none, and the
// volume not the client's to see. It costs no lock and no memory, but for the first time: what
// this node knows from before its start may have changed, so nobody gets an answer before it has
// heard from a majority. It fails only when ctx ends or the node shuts down.
func (n *Node) Rule(ctx context.Context, vol volume.ID, client netip.Addr) (rule volume.Rule, ok bool, err error) {
	if !n.current.reached.Load() {
		if err := n.becomeCurrent(ctx); err != nil {
			return volume.Rule{}, false, err
		}
	}
	rule, ok = volume.FindRule((*n.cluster.rules.Load())[vol], client)
	return rule, ok, nil
}

// becomeCurrent waits until this node knows all that the cluster had decided at the time of the
// call. One asks, the others wait for it.
func (n *Node) becomeCurrent(ctx context.Context) error {
	select {
	case n.current.asking <- struct{}{}:
		defer func() { <-n.current.asking }()
	case <-n.closing:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	if n.current.reached.Load() {
		return nil
	}
	g := n.group(clusterGroup)
	if g == nil {
		return ErrClosed
	}
	if err := n.catchUp(ctx, g); err != nil {
		return err
	}
	n.current.reached.Store(true)
	return nil
}

// rulesOf are a volume's rules for a status; never nil, which JSON would show as null.
func rulesOf(v VolumeInfo) []volume.Rule { return append([]volume.Rule{}, v.Clients...) }
