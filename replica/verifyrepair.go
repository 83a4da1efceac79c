package replica

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"trinas/replica/volume"
)

// found tells of a difference, once it was found a second time, and has it repaired if that is wanted.
func (p *passRun) found(ctx context.Context, members []uint64, d *difference) error {
	d, err := p.again(ctx, members, d)
	if err != nil || d == nil {
		return err
	}
	f := VerifyFinding{File: d.part.File, Offset: d.part.Offset, Bytes: d.part.Bytes, What: d.what, Detail: d.note, Index: d.index,
		Nodes: p.n.names(ids16(d.nodes)), Time: time.Now().UTC()}
	if !p.Table {
		f.Path = p.g.vol.Path(d.part.File)
	}
	p.g.log.Error("replicas differ", "event", "verify-damage", "path", f.Path, "offset", f.Offset, "bytes", f.Bytes,
		"what", f.What, "detail", f.Detail, "peer", strings.Join(f.Nodes, ","), "repair", p.Repair && d.sum != nil)
	if p.Repair && d.sum != nil {
		if f.Repaired, err = p.repair(ctx, members, d); err != nil {
			return err
		}
	}
	if f.Repaired {
		p.g.log.Info("replica is repaired", "event", "verify-repaired", "path", f.Path, "offset", f.Offset, "bytes", f.Bytes,
			"peer", strings.Join(f.Nodes, ","))
	}
	p.keep(f)
	if err := p.note(); err != nil {
		return err
	}
	if !f.Repaired && d.sum != nil && slices.Contains(d.nodes, p.n.id) {
		return p.handOn(ctx, d.good)
	}
	return nil
}

// keep adds a finding, in place of an earlier one of the same range.
func (p *passRun) keep(f VerifyFinding) {
	same := func(o VerifyFinding) bool { return o.File == f.File && o.Offset == f.Offset && o.Path == f.Path }
	switch i := slices.IndexFunc(p.Findings, same); {
	case i >= 0:
		p.Findings[i] = f
	case len(p.Findings) < maxFindings:
		p.Findings = append(p.Findings, f)
	case !f.Repaired:
		p.More++
	}
}

// handOn lets a replica without damage lead, once: what this one would answer of the range is wrong.
func (p *passRun) handOn(ctx context.Context, good []uint64) error {
	if p.HandedOn {
		return nil
	}
	p.HandedOn = true
	if err := p.note(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	if err := p.g.handOver(ctx, good[0]); err != nil {
		return nil // it goes on here
	}
	return errPassOver
}

// repair brings what most replicas have to the others, and compares again.
func (p *passRun) repair(ctx context.Context, members []uint64, d *difference) (done bool, err error) {
	for range repairTries {
		if d.what == FoundTable {
			err = p.repairTable(ctx, d)
		} else {
			err = p.repairExtent(ctx, d)
		}
		if err != nil {
			return false, err
		}
		if d, err = p.again(ctx, members, d); err != nil || d == nil {
			return err == nil, err
		}
		if d.sum == nil {
			break
		}
	}
	return false, nil
}

// repairExtent puts the right bytes into the log for those that have others. An extent that is written to
// meanwhile stays as it is.
func (p *passRun) repairExtent(ctx context.Context, d *difference) error {
	data, err := p.goodBytes(ctx, d)
	if err != nil {
		return err
	}
	if data == nil || !p.g.hasSpace(volume.ExtentBytes) {
		return nil
	}
	_, _, err = p.propose(&volume.Op{Kind: volume.Repair, File: d.part.File, Offset: d.part.Offset, Verifier: d.index,
		Nodes: ids16(d.nodes), Data: bytes.TrimRight(data, "\x00")})
	return err
}

// goodBytes gets the extent's bytes from a replica that had what most have, if it still has; else nil.
func (p *passRun) goodBytes(ctx context.Context, d *difference) ([]byte, error) {
	place := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, uint64(d.part.File)), d.part.Offset)
	for _, id := range d.good {
		var data []byte
		var err error
		if id == p.n.id {
			data, err = p.g.vol.ReadExtent(d.part.File, d.part.Offset)
		} else {
			data, err = p.n.net.Call(ctx, id, verifyCall(p.g.id, verifyBytes), place)
		}
		if ctx.Err() != nil {
			return nil, errPassOver
		}
		if sum := sha256.Sum256(data); err == nil && bytes.Equal(sum[:], d.sum) {
			return data, nil
		}
	}
	return nil, nil
}

// repairTable has those whose table differs fetch the primary's. A primary whose own differs hands over.
func (p *passRun) repairTable(ctx context.Context, d *difference) error {
	if slices.Contains(d.nodes, p.n.id) {
		return p.handOn(ctx, d.good)
	}
	for _, id := range d.nodes {
		if _, err := p.n.net.Call(ctx, id, verifyCall(p.g.id, verifyTable)); err != nil && ctx.Err() == nil {
			return fmt.Errorf("%w: node %s: %v", errReplicaAway, p.n.nameOf(id), err)
		}
	}
	return nil
}
