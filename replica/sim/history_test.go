package sim

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"trinas/replica/volume"
)

// blockBytes is the size of one register: one block of one file.
const blockBytes = 4096

// checkTime bounds, in real time, the search for an order of one history.
const checkTime = 30 * time.Second

// history is what clients have asked for and been told. A request that is sent again until it is
// answered is one operation.
type history struct {
	start time.Time

	mu     sync.Mutex
	blocks []porcupine.Operation // of block registers
	names  []porcupine.Operation // of the one directory
	wrong  []string              // what no order can explain
}

// now is the time of a call or an answer.
func (h *history) now() int64 { return int64(time.Since(h.start)) }

// add notes an operation that was called at a time, and answered now; answered false: never, so that
// it may take effect at any time from then on, or not at all.
func (h *history) add(to *[]porcupine.Operation, client int, in, out any, called int64, answered bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	op := porcupine.Operation{ClientId: client, Input: in, Output: out, Call: called, Return: math.MaxInt64}
	if answered {
		op.Return = h.now()
	}
	*to = append(*to, op)
}

func (h *history) fault(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.wrong) < 20 {
		h.wrong = append(h.wrong, fmt.Sprintf(format, args...))
	}
}

// check fails the test unless, for each block and for the directory, one order of all operations explains
// every answer. Not inside a synctest bubble: it measures time.
func (h *history) check(t *testing.T) {
	for _, w := range h.wrong {
		t.Error(w)
	}
	checkOrder(t, "names", nameModel(), h.names)
	blocks := map[int][]porcupine.Operation{}
	for _, op := range h.blocks {
		b := op.Input.(blockOp).block
		blocks[b] = append(blocks[b], op)
	}
	for b, ops := range blocks {
		checkOrder(t, fmt.Sprintf("block %d", b), blockModel(), ops)
	}
}

func checkOrder(t *testing.T, what string, model porcupine.Model, ops []porcupine.Operation) {
	switch porcupine.CheckOperationsTimeout(model, ops, checkTime) {
	case porcupine.Illegal:
		t.Errorf("%s: no order of the %d operations explains the answers:\n%s", what, len(ops), explain(model, ops))
	case porcupine.Unknown:
		t.Errorf("%s: whether an order explains the answers was not found out within %s (%d operations)", what, checkTime, len(ops))
	}
}

// explain tells the end of the longest order that explains answers, and the first that it leaves out.
func explain(model porcupine.Model, ops []porcupine.Operation) string {
	const shown = 12
	_, info := porcupine.CheckOperationsVerbose(model, ops, checkTime)
	order := slices.MaxFunc(info.PartialLinearizationsOperations()[0], func(a, b []porcupine.Operation) int { return len(a) - len(b) })
	var b strings.Builder
	line := func(op porcupine.Operation) {
		fmt.Fprintf(&b, "  %9.4f to %9.4f s, client %d: %s\n", time.Duration(op.Call).Seconds(), time.Duration(op.Return).Seconds(),
			op.ClientId, model.DescribeOperation(op.Input, op.Output))
	}
	b.WriteString("the longest order ends\n")
	for _, op := range order[max(0, len(order)-shown):] {
		line(op)
	}
	type key struct {
		client int
		call   int64
	}
	in := map[key]bool{}
	for _, op := range order {
		in[key{op.ClientId, op.Call}] = true
	}
	out := slices.DeleteFunc(slices.Clone(ops), func(op porcupine.Operation) bool { return in[key{op.ClientId, op.Call}] })
	slices.SortFunc(out, func(a, b porcupine.Operation) int { return cmp.Compare(a.Return, b.Return) })
	b.WriteString("and does not hold\n")
	for _, op := range out[:min(len(out), 4)] {
		line(op)
	}
	return b.String()
}

// blockOp writes value to a block, or reads it (the answer is a uint64). Values are never written twice.
type blockOp struct {
	block int
	write bool
	value uint64
}

// blockModel is a register that holds 0 at first.
func blockModel() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return uint64(0) },
		Step: func(state, in, out any) (bool, any) {
			op := in.(blockOp)
			if op.write {
				return true, op.value
			}
			return out.(uint64) == state.(uint64), state
		},
		DescribeOperation: func(in, out any) string {
			if op := in.(blockOp); op.write {
				return fmt.Sprintf("write %x", op.value)
			}
			return fmt.Sprintf("read %x", out)
		},
	}
}

// encodeValue makes a block's bytes of a value; decodeValue undoes it. A block that was never written
// is empty or zeros: 0.
func encodeValue(value uint64) []byte {
	b := make([]byte, blockBytes)
	for i := 0; i < blockBytes; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], value)
	}
	return b
}

func decodeValue(b []byte) (value uint64, ok bool) {
	if len(b) == 0 {
		return 0, true
	}
	value = binary.LittleEndian.Uint64(b)
	for i := 0; i < len(b); i += 8 {
		if binary.LittleEndian.Uint64(b[i:]) != value {
			return 0, false
		}
	}
	return value, len(b) == blockBytes
}

// nameCount is how many names the directory may hold.
const nameCount = 4

// nameOp is an operation on names by number; to and file where they mean something.
type nameOp struct {
	kind       volume.Kind // Lookup, Create, Remove, Rename, Link
	name, to   int
	file       volume.FileID // Link: which file
	unanswered volume.FileID // Create that has had no answer: stands for the file that it may have made
}

// nameResult is the answer: file where a file was found or made.
type nameResult struct {
	errno volume.Errno
	file  volume.FileID
}

// names is the directory: the file of each name, 0: none.
type names [nameCount]volume.FileID

func (n names) has(f volume.FileID) bool {
	for _, x := range n {
		if x == f {
			return true
		}
	}
	return false
}

// nameModel is a directory in which every operation takes effect once: an answer that belongs to a
// second execution (EEXIST of one's own file, ENOENT after one's own removal) has no order.
func nameModel() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return names{} },
		Step: func(state, in, out any) (bool, any) {
			op, n := in.(nameOp), state.(names)
			if out == nil { // no answer: it did what it could
				return true, n.apply(op, op.unanswered)
			}
			res := out.(nameResult)
			if res.file != 0 { // a file that nobody has told the number of yet has it now
				if f := n[op.name]; f != res.file && isUnanswered(f) && !n.has(res.file) {
					for i := range n {
						if n[i] == f {
							n[i] = res.file
						}
					}
				}
			}
			return n.allows(op, res), n.apply(op, res.file)
		},
		DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v: %+v", in, out) },
	}
}

const unansweredBit = 1 << 63

func isUnanswered(f volume.FileID) bool { return f&unansweredBit != 0 }

// allows reports whether op may have that answer now.
func (n names) allows(op nameOp, res nameResult) bool {
	want := volume.OK
	there := n[op.name] != 0
	switch op.kind {
	case volume.Lookup:
		if !there {
			want = volume.ENOENT
		} else if res.errno == volume.OK && res.file != n[op.name] {
			return false
		}
	case volume.Create:
		if there {
			want = volume.EEXIST
		} else if res.errno == volume.OK && n.has(res.file) {
			return false
		}
	case volume.Remove, volume.Rename:
		if !there {
			want = volume.ENOENT
		}
	case volume.Link:
		switch {
		case n[op.to] != 0 && !n.has(op.file):
			return res.errno == volume.EEXIST || res.errno == volume.ESTALE
		case n[op.to] != 0:
			want = volume.EEXIST
		case !n.has(op.file):
			want = volume.ESTALE
		}
	}
	return res.errno == want
}

// apply does op, if it can be done; made is the file that a Create makes.
func (n names) apply(op nameOp, made volume.FileID) names {
	switch {
	case op.kind == volume.Create && n[op.name] == 0:
		n[op.name] = made
	case op.kind == volume.Remove:
		n[op.name] = 0
	case op.kind == volume.Rename && n[op.name] != 0 && n[op.name] != n[op.to]:
		n[op.to], n[op.name] = n[op.name], 0
	case op.kind == volume.Link && n[op.to] == 0 && n.has(op.file):
		n[op.to] = op.file
	}
	return n
}
