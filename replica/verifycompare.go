package replica

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"trinas/replica/volume"
)

// comparison is what all replicas found at one entry.
type comparison struct {
	index uint64
	by    map[uint64]volume.Digest
}

// compare puts op into the log and gathers what every replica finds there.
func (p *passRun) compare(ctx context.Context, members []uint64, op *volume.Op) (*comparison, error) {
	index, _, err := p.propose(op)
	if err != nil {
		return nil, err
	}
	p.g.post(event{call: p.g.sendCommits}) // the others need not wait for a heartbeat to begin
	c := &comparison{index: index, by: map[uint64]volume.Digest{}}
	var mu sync.Mutex
	var away error
	var asking sync.WaitGroup
	for _, id := range members {
		asking.Go(func() {
			d, err := p.digest(ctx, id, index)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				away = fmt.Errorf("%w: node %s: %v", errReplicaAway, p.n.nameOf(id), err)
			case d.Unsettled:
				away = fmt.Errorf("%w: node %s is catching up", errReplicaAway, p.n.nameOf(id))
			}
			c.by[id] = d
		})
	}
	asking.Wait()
	if ctx.Err() != nil {
		return nil, errPassOver
	}
	return c, away
}

func (p *passRun) digest(ctx context.Context, id, index uint64) (d volume.Digest, err error) {
	if id == p.n.id {
		return p.g.compared(ctx, index)
	}
	ctx, cancel := context.WithTimeout(ctx, digestTimeout+time.Second)
	defer cancel()
	raw, err := p.n.net.Call(ctx, id, verifyCall(p.g.id, verifyDigest), binary.LittleEndian.AppendUint64(nil, index))
	if err == nil {
		err = json.Unmarshal(raw, &d)
	}
	return d, err
}

// layout is the digest of a replica whose table names the same extents as most.
func (c *comparison) layout() (best volume.Digest) {
	most := 0
	for _, id := range slices.Sorted(maps.Keys(c.by)) {
		same := 0
		for _, d := range c.by {
			if sameExtents(c.by[id], d) {
				same++
			}
		}
		if same > most {
			best, most = c.by[id], same
		}
	}
	return best
}

func sameExtents(a, b volume.Digest) bool {
	return a.Next == b.Next && a.NextOffset == b.NextOffset && slices.EqualFunc(a.Parts, b.Parts, func(x, y volume.Part) bool {
		return x.File == y.File && x.Offset == y.Offset && x.Bytes == y.Bytes
	})
}

// difference is an extent, or a part of the table, that is not the same on all replicas.
type difference struct {
	part  volume.Part
	index uint64
	nodes []uint64 // whose copies are not what most have, ascending; all, if there is no such
	good  []uint64 // that have what most have
	sum   []byte   // of that; nil: no majority
	what  string
	note  string
}

// judge compares part i of all. It gives nil when all are whole and the same.
func (c *comparison) judge(i int) *difference {
	right := c.layout()
	by := map[string][]uint64{}
	for _, id := range slices.Sorted(maps.Keys(c.by)) {
		if d := c.by[id]; sameExtents(right, d) && d.Parts[i].State == volume.PartRead {
			by[string(d.Parts[i].Sum)] = append(by[string(d.Parts[i].Sum)], id)
		}
	}
	out := &difference{part: right.Parts[i], index: c.index}
	for sum, ids := range by {
		if 2*len(ids) > len(c.by) {
			out.sum, out.good = []byte(sum), ids
		}
	}
	if len(out.good) == len(c.by) {
		return nil
	}
	var notes []string
	for _, id := range slices.Sorted(maps.Keys(c.by)) {
		if slices.Contains(out.good, id) {
			continue
		}
		out.nodes = append(out.nodes, id)
		switch d := c.by[id]; {
		case !sameExtents(right, d):
			out.what = FoundTable
		case d.Parts[i].State != volume.PartRead:
			out.what = string(d.Parts[i].State)
			notes = append(notes, d.Parts[i].Detail)
		case out.what == "":
			out.what = FoundDiffers
		}
	}
	if out.sum == nil {
		out.what = FoundNoMajority
	}
	out.note = strings.Join(notes, "; ")
	return out
}

// again compares the same place once more.
func (p *passRun) again(ctx context.Context, members []uint64, d *difference) (*difference, error) {
	op := &volume.Op{Kind: volume.VerifyRange, File: d.part.File, Offset: d.part.Offset, Count: 1}
	if p.Table {
		op = &volume.Op{Kind: volume.VerifyTable, File: p.File, Count: volume.MaxVerifyInodes}
	}
	c, err := p.compare(ctx, members, op)
	if err != nil {
		return nil, err
	}
	right := c.layout()
	if !p.Table && (len(right.Parts) == 0 || right.Parts[0].File != d.part.File || right.Parts[0].Offset != d.part.Offset) {
		return nil, nil // it was removed, or cut
	}
	next := c.judge(0)
	if next != nil && p.Table {
		next.what = d.what
	}
	return next, nil
}
