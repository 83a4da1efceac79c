package lab

import (
	"context"
	"errors"
	"fmt"

	"github.com/willscott/go-nfs"

	"trinas/agent/drill"
	"trinas/nfsgw/nfs3"
)

// Replacer replaces a file by renaming a new one over it, again and again, as an editor or a database
// does, and remembers which content was acknowledged. Content number n is one block (drill.EncodeBlock).
type Replacer struct {
	root         *drill.File // of the volume
	volume       string
	name         string
	attempts     int
	begun        uint64
	acknowledged uint64
}

// replacerBytes is the size of a content.
const replacerBytes = 4096

// NewReplacer makes a replacer of the file name in a volume's root, through a node.
func NewReplacer(n *Node, volume, name string) *Replacer {
	return &Replacer{root: n.File(volume, "", false), volume: volume, name: name}
}

// Run replaces until ctx ends: that is no error. It may be called again.
func (r *Replacer) Run(ctx context.Context) error {
	defer r.root.Close()
	for ctx.Err() == nil {
		r.begun = r.acknowledged + 1
		err := r.root.Patiently(ctx, "replace "+r.name+" in", r.replace)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			return err
		}
		r.acknowledged = r.begun
	}
	return nil
}

// replace makes a new file, fills it, renames it. Each attempt has a file of its own, so that a call of
// an earlier one that is carried out late changes nothing of it.
func (r *Replacer) replace(ctx context.Context, c *nfs3.Client, dir []byte) error {
	r.attempts++
	temporary := fmt.Sprintf("%s.new-%d", r.name, r.attempts)
	file, err := c.Create(ctx, dir, temporary, 0o644)
	if err != nil {
		return err
	}
	b := make([]byte, replacerBytes)
	drill.EncodeBlock(b, 0, r.begun)
	if _, _, err := c.Write(ctx, file, 0, b, nfs3.FileSync); err != nil {
		return err
	}
	var res nfs3.RenameRes
	args := nfs3.RenameArgs{From: nfs3.NameArgs{FH: dir, Name: temporary}, To: nfs3.NameArgs{FH: dir, Name: r.name}}
	if err := c.Call(ctx, nfs.NFSProcedureRename, &args, &res); err != nil {
		return err
	}
	if res.Status != nfs.NFSStatusOk {
		return &nfs3.StatusError{Proc: "RENAME", Status: res.Status}
	}
	return nil
}

// Acknowledged is how many replacements were. Not while Run replaces.
func (r *Replacer) Acknowledged() uint64 { return r.acknowledged }

// Check reads the file through a node: it is there, whole, and holds what was acknowledged last, or
// what was under way. Not while Run replaces.
func (r *Replacer) Check(ctx context.Context, n *Node) error {
	file := n.File(r.volume, r.name, false)
	defer file.Close()
	b, err := file.Read(ctx, replacerBytes, 0)
	if drill.IsStatus(err, nfs.NFSStatusNoEnt) && r.acknowledged == 0 {
		return nil
	}
	_, got, ok := drill.DecodeBlock(b)
	switch {
	case err != nil:
	case !ok:
		err = errors.New("it is damaged")
	case got != r.acknowledged && got != r.begun:
		err = fmt.Errorf("it holds content %d, and %d was acknowledged", got, r.acknowledged)
	}
	if err != nil {
		return fmt.Errorf("file %s, replaced by rename, through %s: %w", r.name, n.Name, err)
	}
	return nil
}
