package nfsgw

import (
	"context"

	"github.com/willscott/go-nfs"

	"trinas/nfsgw/rpc"
	"trinas/replica/volume"
)

// writeAccess are the bits of ACCESS that speak of changes (RFC 1813 §3.3.4): modify, extend,
// delete.
const writeAccess = 0x04 | 0x08 | 0x10

// allow decides whether the caller may do c.op on c.vol at all, and as whom. A node's own
// loopback clients may do everything; others what the volume's rule for them says.
//
// Who has no rule gets ACCES, with a good handle too: the processes of a mount see an error, and
// go on when the rule is back. After STALE a Linux client would never use the handle again, and
// the mount would have to be made anew.
func (c *call) allow(ctx context.Context) nfs.NFSStatus {
	c.op.Cred = credOf(&c.in.Cred)
	client := c.in.Remote.Addr()
	if client.IsLoopback() {
		return nfs.NFSStatusOk
	}
	rule, ok, err := c.server.backend.Rule(ctx, c.vol, client)
	switch {
	case err != nil: // not known, so neither granted nor refused
		return nfs.NFSStatusJukebox
	case !ok:
		return nfs.NFSStatusAccess
	case rule.ReadOnly && (c.op.Kind.Mutates() || c.op.Kind == volume.Commit):
		return nfs.NFSStatusROFS
	case rule.ReadOnly && c.op.Kind == volume.Access:
		c.op.Count &^= writeAccess
	}
	squash(rule.Squash, &c.op.Cred)
	return nfs.NFSStatusOk
}

func credOf(c *rpc.Cred) volume.Cred {
	if c.Flavor != rpc.AuthSys {
		return volume.Cred{UID: volume.Nobody, GID: volume.Nobody}
	}
	return volume.Cred{UID: c.UID, GID: c.GID, Groups: c.Groups}
}

// squash makes nobody of whom the rule says. It changes the groups where they stand: they are the
// call's own.
func squash(how volume.Squash, cred *volume.Cred) {
	switch how {
	case volume.SquashNone:
	case volume.SquashRoot:
		squashRoot(&cred.UID)
		squashRoot(&cred.GID)
		for i := range cred.Groups {
			squashRoot(&cred.Groups[i])
		}
	default: // all, and what a newer version may mean
		*cred = volume.Cred{UID: volume.Nobody, GID: volume.Nobody}
	}
}

func squashRoot(id *uint32) {
	if *id == 0 {
		*id = volume.Nobody
	}
}

// groupsOf are the clients that EXPORT names for a volume: those that have a rule. None would mean
// everybody (RFC 1813 §5.2.5), so a volume without rules names the one that is always let in.
func groupsOf(e *Export) (out []string) {
	for _, r := range e.Rules {
		out = append(out, volume.ClientText(r.Client))
	}
	if out == nil {
		out = []string{"127.0.0.1"}
	}
	return out
}
