package volume

import "fmt"

// effects is what an entry does to objects besides writing: it happens after the table has
// changed, so that nobody can read, by what the table said before, what is cut off.
type effects struct {
	remove FileID // its object goes, in Tidy; 0: none
	cut    FileID // its object is cut to cutSize; 0: none
	size   uint64
}

// Apply applies one committed entry. One goroutine calls it, in order of index and without gaps;
// empty data only advances. An operation's own failure is Result.Err. An error means that this
// replica is broken (a disk error, an entry that it cannot read): nothing more may be applied,
// and it must leave service. Nothing is durable before a Checkpoint: until then the log is.
//
//	decode → the same request again? its first answer
//	WRITE:   check → bytes into the object → table
//	others:  check → table → objects cut; removed by Tidy
func (v *Volume) Apply(index, term uint64, data []byte) (Result, error) {
	v.applyMu.Lock()
	defer v.applyMu.Unlock()
	if err := v.expect(index, term); err != nil {
		return Result{}, err
	}
	if len(data) == 0 {
		v.mu.Lock()
		v.applied, v.term = index, term
		v.mu.Unlock()
		return Result{}, nil
	}
	var r Result
	err := v.op.Decode(data)
	if err == nil {
		err = v.applyOp(index, term, &v.op, &r)
	}
	v.op.Data = nil // the entry's memory is its owner's again
	if err != nil {
		return Result{}, v.fail(fmt.Errorf("apply entry %d: %w", index, err))
	}
	return r, nil
}

// Tidy takes away the object of a file that the last entry has removed: work that nobody has to wait
// for, since no handle reaches it any more. For the caller of Apply, once it has answered; Checkpoint
// and the next Apply do what was left out. Errors as with Apply.
func (v *Volume) Tidy() error {
	v.applyMu.Lock()
	defer v.applyMu.Unlock()
	return v.tidy()
}

// tidy is Tidy with applyMu held.
func (v *Volume) tidy() error {
	if err := v.broken(); err != nil {
		return err
	}
	id := v.after.remove
	if id == 0 {
		return nil
	}
	v.after.remove = 0
	v.comparison.leave(id, 0, MaxFileBytes)
	if err := v.objects.remove(id); err != nil {
		return v.fail(fmt.Errorf("remove object %s: %w", v.fs.Path(objectPath(id)), err))
	}
	return nil
}

// ApplyConf applies a committed change of the Raft configuration: it advances and sets conf in
// one step, so that no checkpoint has the one without the other. Errors as with Apply.
func (v *Volume) ApplyConf(index, term uint64, conf []byte) error {
	v.applyMu.Lock()
	defer v.applyMu.Unlock()
	if err := v.expect(index, term); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.applied, v.term = index, term
	v.conf = append([]byte(nil), conf...)
	return nil
}

// expect checks that the entry is the next one and that the replica is whole, and ends what the last
// one has begun.
func (v *Volume) expect(index, term uint64) error {
	if err := v.tidy(); err != nil {
		return err
	}
	if index != v.applied+1 || term < v.term {
		return v.fail(fmt.Errorf("entry %d of term %d follows entry %d of term %d: the log has a gap",
			index, term, v.applied, v.term))
	}
	return nil
}

func (v *Volume) applyOp(index, term uint64, op *Op, r *Result) error {
	if !op.Kind.Mutates() {
		return fmt.Errorf("operation %d is a query and has no place in the log", op.Kind)
	}
	if p := v.replies.find(op.ID, index); p != nil {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.again(op, p, term, r)
		v.applied, v.term = index, term
		return nil
	}
	switch op.Kind {
	case Write:
		return v.write(index, term, op, r)
	case VerifyRange, VerifyTable, VerifyNote, Repair:
		return v.verify(index, term, op, r)
	}
	v.after = effects{}
	v.mu.Lock()
	v.mutate(index, term, op, r)
	v.remember(index, op, r)
	v.applied, v.term = index, term
	v.mu.Unlock()

	if v.after.cut != 0 {
		v.comparison.leave(v.after.cut, v.after.size, MaxFileBytes)
		return v.objects.truncate(v.after.cut, v.after.size)
	}
	return nil
}

func (v *Volume) mutate(index, term uint64, op *Op, r *Result) {
	switch op.Kind {
	case SetAttr:
		v.setAttr(index, op, r)
	case Create, MkDir, Symlink, MkNod:
		v.create(index, term, op, r)
	case Remove, RmDir:
		v.remove(op, r)
	case Rename:
		v.rename(op, r)
	case Link:
		v.link(op, r)
	case Activate:
		v.activate(op, r)
	case Deactivate:
		v.deactivate(op, r)
	}
}

// Answered reports whether the request is remembered: applied again, it would get its first answer and
// change nothing.
func (v *Volume) Answered(id RequestID) bool {
	v.applyMu.Lock()
	defer v.applyMu.Unlock()
	return v.replies.get(id) != nil
}

// remember keeps the outcome for a retransmission.
func (v *Volume) remember(index uint64, op *Op, r *Result) {
	p := reply{err: r.Err}
	if r.Obj.Known {
		p.file, p.gen = r.Obj.After.File, r.Obj.After.Gen
	}
	v.replies.remember(op.ID, index, p)
}

// again answers a retransmission: the first outcome, with attributes as they are now.
func (v *Volume) again(op *Op, p *reply, term uint64, r *Result) {
	r.Err = p.err
	if in, e := v.table.find(p.file, p.gen); e == OK {
		r.Obj = Change{Known: true, After: in.attr()}
	}
	switch op.Kind {
	case Write:
		if r.Verifier = term; p.err == OK {
			r.Count = uint32(len(op.Data))
		}
	case Create, MkDir, Symlink, MkNod, Remove, RmDir, Rename:
		if in, e := v.table.find(op.File, op.Gen); e == OK {
			r.Dir = Change{Known: true, After: in.attr()}
		}
	}
	if op.Kind == Rename || op.Kind == Link {
		if in, e := v.table.find(op.File2, op.Gen2); e == OK {
			r.Dir2 = Change{Known: true, After: in.attr()}
		}
	}
}
