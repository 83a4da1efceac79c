package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/willscott/go-nfs"

	"trinas/nfsgw/nfs3"
	"trinas/nfsgw/rpc"
)

// callTimeout bounds a call that is refused, or a connection that is closed: both at once.
const callTimeout = 5 * time.Second

// malformed: what is no request gets the error that the protocol has for it.
func (s *scenario) malformed() error {
	nc, err := s.dial(brokenHost, 10)
	if err != nil {
		return err
	}
	c := rpc.NewClient(nc)
	defer c.Close()
	report("unknown programs, versions and procedures", s.unknown(c))
	report("credentials that are not spoken", s.credentials())
	report("arguments cut short, and too long, of every procedure", s.truncated(c))
	report("handles that are none, and of no volume", s.handles(c))
	report("records that are no calls, or too long: closed at once", s.noCalls())
	report("a call in fragments of one byte: answered", s.fragments())
	report("noise: closed at once, or waited for", s.noise())
	return nil
}

func (s *scenario) unknown(c *rpc.Client) error {
	var errs []error
	for _, t := range []struct {
		prog, vers, proc uint32
		want             rpc.AcceptStat
	}{
		{100021, 4, 1, rpc.ProgUnavail}, // NLM
		{100227, 3, 0, rpc.ProgUnavail}, // NFSACL
		{0, 0, 0, rpc.ProgUnavail},
		{nfs3.Program, 2, 0, rpc.ProgMismatch},
		{nfs3.Program, 4, 1, rpc.ProgMismatch},
		{nfs3.MountProgram, 1, 1, rpc.ProgMismatch},
		{nfs3.Program, 3, 22, rpc.ProcUnavail},
		{nfs3.Program, 3, 1 << 31, rpc.ProcUnavail},
		{nfs3.MountProgram, 3, 6, rpc.ProcUnavail},
	} {
		ctx, cancel := context.WithTimeout(s.ctx, callTimeout)
		_, err := c.Call(ctx, t.prog, t.vers, t.proc, root(), nil)
		cancel()
		if err := replyIs(err, rpc.ReplyError{Accept: t.want}); err != nil {
			errs = append(errs, fmt.Errorf("program %d version %d procedure %d: %w", t.prog, t.vers, t.proc, err))
		}
	}
	return errors.Join(errs...)
}

// credentials sends what rpc.Client cannot make: the words of a denied reply are what is wanted.
func (s *scenario) credentials() error {
	const denied, mismatch, authError = 1, 0, 1
	null := func(version, flavor uint32, cred []byte) []byte {
		b := []byte{0, 0, 0, 0}
		for _, v := range []uint32{1, 0, version, nfs3.Program, nfs3.Version, 1, flavor} {
			b = rpc.AppendUint32(b, v)
		}
		b = rpc.AppendOpaque(b, cred)
		return marked(rpc.AppendUint64(b, 0))
	}
	groups := rpc.AppendOpaque(rpc.AppendUint32(nil, 0), "machine")
	for _, v := range []uint32{0, 0, 17} {
		groups = rpc.AppendUint32(groups, v)
	}
	var errs []error
	for what, t := range map[string]struct {
		record []byte
		want   []uint32 // after the xid
	}{
		"RPC version 3":         {null(3, rpc.AuthNone, nil), []uint32{1, denied, mismatch, 2, 2}},
		"AUTH_SHORT":            {null(2, rpc.AuthShort, nil), []uint32{1, denied, authError, uint32(rpc.AuthRejectedCred)}},
		"RPCSEC_GSS":            {null(2, 6, make([]byte, 20)), []uint32{1, denied, authError, uint32(rpc.AuthBadCred)}},
		"AUTH_SYS, empty":       {null(2, rpc.AuthSys, nil), []uint32{1, denied, authError, uint32(rpc.AuthBadCred)}},
		"AUTH_SYS, 17 groups":   {null(2, rpc.AuthSys, append(groups, make([]byte, 68)...)), []uint32{1, denied, authError, uint32(rpc.AuthBadCred)}},
		"a credential too long": {null(2, rpc.AuthSys, make([]byte, 404)), []uint32{1, denied, authError, uint32(rpc.AuthBadCred)}},
	} {
		got, err := s.exchange(t.record)
		var want []byte
		for _, v := range append([]uint32{1}, t.want...) {
			want = rpc.AppendUint32(want, v)
		}
		if err != nil || string(got) != string(want) {
			errs = append(errs, fmt.Errorf("%s: reply % x, %w; want % x", what, got, err, want))
		}
	}
	return errors.Join(errs...)
}

// truncated sends the arguments of every procedure without their end, in all lengths, and with four
// bytes more.
func (s *scenario) truncated(c *rpc.Client) error {
	name := nfs3.NameArgs{FH: s.volume.root, Name: "name"}
	mode := uint32(0o644)
	size := uint64(0)
	set := nfs3.SetAttrs{Mode: &mode, UID: &mode, GID: &mode, Size: &size}
	file := nfs3.HandleArgs{FH: s.volume.file}
	all := map[nfs.NFSProcedure]nfs3.Args{
		nfs.NFSProcedureGetAttr:     &file,
		nfs.NFSProcedureSetAttr:     &nfs3.SetAttrArgs{FH: file.FH, Set: set, Guard: &nfs3.Time{}},
		nfs.NFSProcedureLookup:      &name,
		nfs.NFSProcedureAccess:      &nfs3.AccessArgs{FH: file.FH},
		nfs.NFSProcedureReadlink:    &file,
		nfs.NFSProcedureRead:        &nfs3.ReadArgs{FH: file.FH, Count: 1},
		nfs.NFSProcedureWrite:       &nfs3.WriteArgs{FH: file.FH, Data: []byte("data")},
		nfs.NFSProcedureCreate:      &nfs3.CreateArgs{NameArgs: name, Set: set},
		nfs.NFSProcedureMkDir:       &nfs3.MkDirArgs{NameArgs: name, Set: set},
		nfs.NFSProcedureSymlink:     &nfs3.SymlinkArgs{NameArgs: name, Set: set, Target: "target"},
		nfs.NFSProcedureMkNod:       &nfs3.MkNodArgs{NameArgs: name, Type: nfs.FileTypeBlock, Set: set},
		nfs.NFSProcedureRemove:      &name,
		nfs.NFSProcedureRmDir:       &name,
		nfs.NFSProcedureRename:      &nfs3.RenameArgs{From: name, To: name},
		nfs.NFSProcedureLink:        &nfs3.LinkArgs{FH: file.FH, To: name},
		nfs.NFSProcedureReadDir:     &nfs3.ReadDirArgs{FH: s.volume.root, Count: 1000},
		nfs.NFSProcedureReadDirPlus: &nfs3.ReadDirPlusArgs{FH: s.volume.root, DirCount: 1000, MaxCount: 1000},
		nfs.NFSProcedureFSStat:      &file,
		nfs.NFSProcedureFSInfo:      &file,
		nfs.NFSProcedurePathConf:    &file,
		nfs.NFSProcedureCommit:      &nfs3.ReadArgs{FH: file.FH},
	}
	var errs []error
	try := func(prog, proc uint32, what string, args nfs3.Args) {
		whole := args.Append(nil)
		for length := 0; length <= len(whole)+4; length += 4 {
			if length == len(whole) {
				continue
			}
			ctx, cancel := context.WithTimeout(s.ctx, callTimeout)
			_, err := c.Call(ctx, prog, 3, proc, root(), func(b []byte) []byte {
				return append(b, append(whole, 0, 0, 0, 0)[:length]...)
			})
			cancel()
			if err := replyIs(err, rpc.ReplyError{Accept: rpc.GarbageArgs}); err != nil {
				errs = append(errs, fmt.Errorf("%s, %d of %d bytes: %w", what, length, len(whole), err))
				return
			}
		}
	}
	for proc := nfs.NFSProcedureGetAttr; proc <= nfs.NFSProcedureCommit; proc++ {
		if all[proc] == nil {
			errs = append(errs, fmt.Errorf("no arguments of %s", proc))
			continue
		}
		try(nfs3.Program, uint32(proc), proc.String(), all[proc])
	}
	for _, proc := range []nfs.MountProcedure{nfs.MountProcMount, nfs.MountProcUmnt} {
		try(nfs3.MountProgram, uint32(proc), proc.String(), &nfs3.PathArgs{Path: "/volume"})
	}
	return errors.Join(errs...)
}

func (s *scenario) handles(c *rpc.Client) error {
	h, err := nfs3.ParseHandle(s.volume.root)
	if err != nil {
		return err
	}
	noVolume, noFile := h, h
	noVolume.Volume, noFile.File = 1<<40, 1<<40
	var errs []error
	for what, t := range map[string]struct {
		fh   []byte
		want nfs.NFSStatus
	}{
		"no bytes":        {nil, nfs.NFSStatusBadHandle},
		"zeros":           {make([]byte, 24), nfs.NFSStatusBadHandle},
		"64 bytes":        {make([]byte, 64), nfs.NFSStatusBadHandle},
		"one byte less":   {s.volume.root[:23], nfs.NFSStatusBadHandle},
		"no such volume":  {noVolume.Bytes(), nfs.NFSStatusStale},
		"no such file":    {noFile.Bytes(), nfs.NFSStatusStale},
		"65 bytes":        {make([]byte, 65), 0},
		"another version": {append([]byte{0xff}, s.volume.root[1:]...), nfs.NFSStatusBadHandle},
	} {
		ctx, cancel := context.WithTimeout(s.ctx, callTimeout)
		b, err := c.Call(ctx, nfs3.Program, 3, uint32(nfs.NFSProcedureGetAttr), root(), (&nfs3.HandleArgs{FH: t.fh}).Append)
		cancel()
		if t.want == 0 {
			err = replyIs(err, rpc.ReplyError{Accept: rpc.GarbageArgs})
		} else if d := rpc.NewDecoder(b); err == nil {
			if got := nfs.NFSStatus(d.Uint32()); got != t.want {
				err = fmt.Errorf("status %s, want %s", got, t.want)
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	return errors.Join(errs...)
}

// noCalls sends records that nobody can answer.
func (s *scenario) noCalls() error {
	reply := []byte{0, 0, 0, 0}
	for _, v := range []uint32{1, 1, 0, 0, 0, 0} {
		reply = rpc.AppendUint32(reply, v)
	}
	tests := map[string][]byte{
		"a reply":                   marked(reply),
		"no bytes":                  marked(make([]byte, 4)),
		"three bytes":               marked(make([]byte, 7)),
		"a header cut short":        marked(callRecord(1, nfs.NFSProcedureNull, nil)[:30]),
		"2 MiB announced":           binary.BigEndian.AppendUint32(nil, 1<<31|2<<20),
		"2 GiB announced":           {0xff, 0xff, 0xff, 0xff},
		"2 MiB in two fragments":    append(append([]byte{0, 0x10, 0, 0}, make([]byte, 1<<20)...), 0x80, 0x10, 0, 0),
		"a request of a web client": []byte("GET / HTTP/1.1\r\nHost: nas\r\n\r\n"),
		"a TLS greeting":            {0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3},
	}
	var errs []error
	n := 20
	for what, b := range tests {
		n++
		nc, err := s.dial(brokenHost, n)
		if err == nil {
			var closed bool
			_, err = nc.Write(b)
			if err == nil {
				closed, err = closedByServer(nc, callTimeout)
			}
			if err == nil && !closed {
				err = errors.New("the connection stays open")
			}
			nc.Close()
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	return errors.Join(errs...)
}

// fragments sends a call byte by byte, each a fragment, with fragments of no bytes between.
func (s *scenario) fragments() error {
	var b []byte
	message := callRecord(1, nfs.NFSProcedureNull, nil)[4:]
	for _, octet := range message {
		b = append(b, 0, 0, 0, 0, 0, 0, 0, 1, octet)
	}
	got, err := s.exchange(append(b, 0x80, 0, 0, 0))
	if err == nil && len(got) != 24 {
		err = fmt.Errorf("reply % x", got)
	}
	return err
}

// noise sends random bytes over 100 connections. What it is depends on the first four bytes: the
// server may wait for the rest, but must not answer, and must live.
func (s *scenario) noise() error {
	random := rand.NewChaCha8([32]byte{3})
	var errs []error
	for i := range 100 {
		b := make([]byte, 1+i*40)
		_, _ = random.Read(b) // never fails
		nc, err := s.dial(brokenHost, 100+i)
		if err == nil {
			if _, err = nc.Write(b); err == nil {
				_, err = closedByServer(nc, 2*time.Millisecond)
			}
			nc.Close()
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("noise %d: %w", i, err))
		}
	}
	return errors.Join(errs...)
}

// callRecord is an NFS call by root.
func callRecord(xid uint32, proc nfs.NFSProcedure, args []byte) []byte {
	b := []byte{0, 0, 0, 0}
	for _, v := range []uint32{xid, 0, rpc.Version, nfs3.Program, nfs3.Version, uint32(proc), rpc.AuthSys, 20} {
		b = rpc.AppendUint32(b, v)
	}
	b = append(b, make([]byte, 20)...) // stamp, machine "", uid 0, gid 0, no groups
	return marked(append(rpc.AppendUint64(b, rpc.AuthNone), args...))
}

// marked writes the record mark over the first four bytes.
func marked(b []byte) []byte {
	binary.BigEndian.PutUint32(b, 1<<31|uint32(len(b)-4))
	return b
}

// exchange sends b over a connection of its own and returns the record that comes back.
func (s *scenario) exchange(b []byte) ([]byte, error) {
	nc, err := s.dial(brokenHost, 1)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	if err := nc.SetDeadline(time.Now().Add(callTimeout)); err != nil {
		return nil, err
	}
	if _, err := nc.Write(b); err != nil {
		return nil, err
	}
	var mark [4]byte
	if _, err := io.ReadFull(nc, mark[:]); err != nil {
		return nil, err
	}
	record := make([]byte, binary.BigEndian.Uint32(mark[:])&0xffff)
	_, err = io.ReadFull(nc, record)
	return record, err
}
