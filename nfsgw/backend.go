// Package nfsgw is the gateway: an NFSv3 and MOUNT server whose procedures become operations on
// volumes (replica/volume.Op) and whose results become NFS results. DESIGN.md shows the way of a
// request.
//
// It must never answer OK before the backend has, never pass on to a client an error that only
// says "not now" (the client of a hard mount is a guest's disk), never keep state that another
// node's gateway would need: any gateway can go on where this one stopped.
//
// Floor 3: imports nfsgw/rpc, nfsgw/nfs3, replica/latency and replica/volume.
package nfsgw

import (
	"context"
	"net/netip"

	"trinas/replica/volume"
)

// Backend is what the gateway needs of the replica.
type Backend interface {
	// Do runs op on a volume's primary, wherever that is, and fills in res. It blocks while
	// there is no primary. How the operation ended is res.Err; an error means that it has no
	// outcome: ctx ended, the volume does not exist (an error that matches Options.NoVolume), or
	// it cannot be taken on now (the client is told to try again).
	//
	// Read gets op.Data with length 0 and room for op.Count bytes, and should put res.Data there.
	// All memory that op refers to is the gateway's again when Do returns, whatever the outcome:
	// what must live longer (an entry that is still on its way) has to be copied. res may refer
	// to op's memory.
	Do(ctx context.Context, vol volume.ID, op *volume.Op, res *volume.Result) error

	// Exports lists the volumes, in the order in which clients see them.
	Exports() []Export

	// Rule is the rule of a volume's allow list that holds for a client that is no loopback
	// client; ok is false when there is none. It is asked for every such request, and must cost
	// nothing; only while what is allowed is not known yet it waits. It fails when ctx ends, or
	// the backend closes.
	Rule(ctx context.Context, vol volume.ID, client netip.Addr) (r volume.Rule, ok bool, err error)

	// Node is this node's number.
	Node() uint16
}

// Export is a volume as clients mount it: /Name. It is the same type wherever it is written out.
type Export = struct {
	ID    volume.ID
	Name  string
	Rules []volume.Rule // not to be changed
}
