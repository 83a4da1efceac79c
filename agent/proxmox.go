package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"time"

	"trinas/agent/control"
	"trinas/agent/pve"
	"trinas/replica"
)

// This file is how nodes of a Proxmox cluster join by themselves. The node that leads the cluster's
// group leaves an invitation for every node of Proxmox that is no member, in the part of Proxmox's
// cluster file system that only root may read; an agent that waits for a cluster takes its own up.
// Root of any node of Proxmox is root of all of them, so the invitation gives away nothing.

const (
	inviteEvery  = 5 * time.Second  // how often the leader compares members with Proxmox's nodes
	renewBefore  = 20 * time.Minute // an invitation's end at which it is made anew
	lookEvery    = 2 * time.Second  // how often a waiting agent looks for its invitation
	acceptAgain  = time.Minute      // after which an invitation that did not work is tried again
	acceptWithin = time.Minute      // how long one try may take
)

// inviter keeps the invitations of a cluster that this node is a member of.
type inviter struct {
	dir     pve.Dir
	log     *slog.Logger
	founded bool   // this node has made the cluster just now: takeOver is due
	said    string // the last complaint, so that it is not repeated
}

// cluster is what the inviter asks of the node.
type cluster interface {
	Status(ctx context.Context) replica.Status
	NewToken(ctx context.Context, node string) (string, error)
}

// run keeps them until ctx ends.
func (i *inviter) run(ctx context.Context, c cluster) {
	ticker := time.NewTicker(inviteEvery)
	defer ticker.Stop()
	for {
		if i.dir.Present() {
			var err error
			if i.founded {
				err = i.takeOver(c.Status(ctx).Cluster.ID)
				i.founded = err != nil
			}
			i.complain(ctx, errors.Join(err, i.keep(ctx, c, time.Now())))
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

func (i *inviter) complain(ctx context.Context, err error) {
	text := ""
	if err != nil && ctx.Err() == nil {
		text = err.Error()
	}
	if text != "" && text != i.said {
		i.log.Warn("nodes of Proxmox cannot join by themselves; trinas token and trinas join work", "event", "pve-invite-failed", "cause", err)
	}
	i.said = text
}

// keep makes the invitations what they should be. Only the leader does, so that there is one at a time.
func (i *inviter) keep(ctx context.Context, c cluster, now time.Time) error {
	st := c.Status(ctx)
	if st.Cluster.Primary == "" || st.Cluster.Primary != st.Node.Name {
		return nil
	}
	nodes, err := i.dir.Nodes()
	if err != nil {
		return err
	}
	invited, err := i.dir.Invited()
	if err != nil {
		return err
	}
	var all []error
	for _, name := range invited {
		if isMember(st, name) || !slices.ContainsFunc(nodes, func(n string) bool { return strings.EqualFold(n, name) }) {
			all = append(all, i.withdraw(st, name))
		}
	}
	for _, name := range nodes {
		if !isMember(st, name) {
			all = append(all, i.invite(ctx, c, st, name, now))
		}
	}
	return errors.Join(all...)
}

func isMember(st replica.Status, name string) bool {
	return slices.ContainsFunc(st.Nodes, func(n replica.NodeStatus) bool { return !n.Joining && strings.EqualFold(n.Name, name) })
}

// withdraw removes this cluster's invitation for a node that needs none.
func (i *inviter) withdraw(st replica.Status, name string) error {
	inv, err := i.dir.Invitation(name)
	if err != nil || inv.Cluster != st.Cluster.ID {
		return nil // somebody else's
	}
	return i.dir.Withdraw(name)
}

// invite writes a node's invitation, unless there is a good one. Another cluster's that is still
// good stays: two clusters must not fight over a node.
func (i *inviter) invite(ctx context.Context, c cluster, st replica.Status, name string, now time.Time) error {
	var addresses []string
	for _, n := range st.Nodes {
		if !n.Joining {
			addresses = append(addresses, n.Address)
		}
	}
	old, err := i.dir.Invitation(name)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case err == nil && old.Cluster != st.Cluster.ID && old.Expires.After(now):
		return fmt.Errorf("node %s is invited by another cluster, %q, until %s: remove priv/trinas/%s.json in %s if that one is gone",
			name, old.ClusterName, old.Expires.Format(time.DateTime), strings.ToLower(name), i.dir)
	case err == nil && old.Cluster == st.Cluster.ID && old.Expires.Sub(now) > renewBefore && slices.Equal(old.Addresses, addresses):
		return nil
	}
	token, err := c.NewToken(ctx, name)
	if err != nil {
		return err
	}
	return i.dir.Invite(pve.Invitation{Cluster: st.Cluster.ID, ClusterName: st.Cluster.Name, Node: name, Addresses: addresses,
		Token: token, Expires: now.Add(replica.TokenLife).UTC()})
}

// takeOver forgets every other cluster's invitations: an admin who makes a new cluster means it for
// all of Proxmox's nodes, and those of a former one would keep them from it. id is the new one's.
func (i *inviter) takeOver(id string) error {
	names, err := i.dir.Invited()
	for _, name := range names {
		if inv, readErr := i.dir.Invitation(name); readErr != nil || inv.Cluster != id {
			err = errors.Join(err, i.dir.Withdraw(name))
		}
	}
	return err
}

// invitee waits for an invitation on behalf of an agent without a cluster.
type invitee struct {
	dir  pve.Dir
	name string
	join func(ctx context.Context, address, token string) error
	log  *slog.Logger

	tried string    // the token that was tried last
	at    time.Time // when
	said  string    // the last complaint
}

// run takes an invitation up until one has worked or ctx ends.
func (v *invitee) run(ctx context.Context) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		if v.dir.Present() && v.accept(ctx, time.Now()) {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// accept tries this node's invitation and reports whether the node is a member now.
func (v *invitee) accept(ctx context.Context, now time.Time) bool {
	inv, err := v.dir.Invitation(v.name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false
	case err != nil:
		v.complain(ctx, err)
		return false
	case inv.Token == v.tried && now.Sub(v.at) < acceptAgain:
		return false
	case !inv.Expires.After(now):
		v.complain(ctx, fmt.Errorf("the invitation of cluster %s ended at %s: a member of it makes a new one; where that is "+
			"in the future, set this node's clock right", inv.ClusterName, inv.Expires.Format(time.DateTime)))
		return false
	}
	v.tried, v.at = inv.Token, now
	ctx, cancel := context.WithTimeout(ctx, acceptWithin)
	defer cancel()
	var last error
	for _, address := range inv.Addresses {
		last = v.join(ctx, address, inv.Token)
		if last == nil {
			v.log.Info("this node has joined by the invitation in Proxmox's cluster file system", "event", "pve-joined", "cluster", inv.ClusterName)
			return true
		}
		if e := (*control.Error)(nil); errors.As(last, &e) {
			return true // it is a member already, by trinas init or trinas join
		}
	}
	v.complain(ctx, last)
	return false
}

func (v *invitee) complain(ctx context.Context, err error) {
	if err == nil || err.Error() == v.said || errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	v.said = err.Error()
	v.log.Warn("this node cannot join by its invitation in Proxmox's cluster file system; trying on", "event", "pve-join-failed", "cause", err)
}

// awaitInvitation lets a node without a cluster join by an invitation in Proxmox's cluster file
// system.
func (d *daemon) awaitInvitation(ctx context.Context) {
	if d.config.PVE.Dir == "" || d.currentNode() != nil {
		return
	}
	v := &invitee{dir: pve.Dir(d.config.PVE.Dir), name: d.config.Node.Name, log: d.log,
		join: func(ctx context.Context, address, token string) error { return d.Join(ctx, "", address, token) }}
	d.besides.Go(func() { v.run(ctx) })
}

// keepInvitations invites the other nodes of Proxmox.
func (d *daemon) keepInvitations(ctx context.Context, node *replica.Node) {
	if d.config.PVE.Dir == "" {
		return
	}
	i := &inviter{dir: pve.Dir(d.config.PVE.Dir), log: d.log, founded: d.founded}
	d.besides.Go(func() { i.run(ctx, node) })
}
