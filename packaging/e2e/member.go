package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"trinas/packaging/lab"
)

// memberDisk is the file in the lab's folder that a guest which is a node has as its disk. It is
// sparse, and on a disk of the host: a sync in the guest costs what it costs.
const memberDisk = "disk.img"

// runMember runs a scenario whose guest is a node itself: on a cluster of its own, of two agents in
// namespaces and a third that the guest's script starts, so that agent and kernel client share one
// kernel and its memory. The guest finds the program as /guest/trinas; its script joins (ask
// invite) and then has the volume made (ask volume).
func (r *runner) runMember(ctx context.Context, s *scenario) (passed int, err error) {
	pair, err := lab.Open(ctx, lab.Options{Binary: r.binary, Dir: r.lab.Dir, Nodes: 2, Name: "pair-", OpenNFS: true})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, pair.Close()) }() // its folder goes, or stays, with the other's
	formCtx, cancel := context.WithTimeout(ctx, formTimeout)
	defer cancel()
	if err := pair.Form(formCtx); err != nil {
		return 0, err
	}
	disk := filepath.Join(pair.Dir, memberDisk)
	f, err := os.Create(disk)
	if err != nil {
		return 0, err
	}
	if err := errors.Join(f.Truncate(int64(s.Disk)), f.Close()); err != nil {
		return 0, fmt.Errorf("make the guest's disk: %w", err)
	}
	own := *r
	own.lab, own.disk = pair, disk
	return own.perform(ctx, s)
}

// copyFile copies a program.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
