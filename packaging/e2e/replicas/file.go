package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"trinas/agent/control"
	"trinas/nfsgw/nfs3"
	"trinas/packaging/e2e/ask"
)

const (
	fileMiB   = 1024
	holeFrom  = 512 // MiB, of 64
	holeTo    = 576
	changed   = 16 // extents of 1 MiB that change
	writers   = 4
	away      = "n3"
	mib       = 1 << 20
	logRounds = 24 // of 16 MiB: more than the log of 256 MiB keeps
)

// bigFile is the file that all of this is about. content says in which round each MiB was written
// last; 0: never.
type bigFile struct {
	clients []*nfs3.Client
	handle  []byte
	content [fileMiB]uint64
}

// fill is what MiB number n holds after a round: no block of it is like another.
func fill(n int, round uint64) []byte {
	b := make([]byte, mib)
	for off := 0; off < mib; off += 16 {
		binary.LittleEndian.PutUint64(b[off:], uint64(n)<<32|uint64(off)+1)
		binary.LittleEndian.PutUint64(b[off+8:], round)
	}
	return b
}

func (s *scenario) write() error {
	s.file = &bigFile{}
	for range writers {
		c, err := nfs3.Dial(s.ctx, "127.0.0.1:2049", "replicas", true)
		if err != nil {
			return err
		}
		s.file.clients = append(s.file.clients, c)
	}
	root, err := s.file.clients[0].Mnt(s.ctx, "/"+s.volume)
	if err != nil {
		return err
	}
	if s.file.handle, err = s.file.clients[0].Create(s.ctx, root, "image.raw", 0o644); err != nil {
		return err
	}
	var all []int
	for n := range fileMiB {
		if n < holeFrom || n >= holeTo {
			all = append(all, n)
		}
	}
	return s.file.writeAll(s.ctx, all, 1)
}

// writeAll writes these MiB, by several connections at once.
func (f *bigFile) writeAll(ctx context.Context, which []int, round uint64) error {
	errs := make([]error, len(f.clients))
	var writing sync.WaitGroup
	for i, c := range f.clients {
		writing.Go(func() {
			for at := i; at < len(which) && errs[i] == nil; at += len(f.clients) {
				_, _, errs[i] = c.Write(ctx, f.handle, uint64(which[at])*mib, fill(which[at], round), nfs3.FileSync)
			}
		})
	}
	writing.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	for _, n := range which {
		f.content[n] = round
	}
	return nil
}

// change changes 16 MiB until the logs do not reach back to where n3 left.
func (s *scenario) change() error {
	if _, err := runner.Ask("stop", away); err != nil {
		return err
	}
	var which []int
	for i := range changed {
		which = append(which, 7+i*30)
	}
	for round := range uint64(logRounds) {
		if err := s.file.writeAll(s.ctx, which, 2+round); err != nil {
			return err
		}
	}
	for _, n := range s.nodes[:2] {
		if err := s.awaitShortLog(n); err != nil {
			return err
		}
	}
	return nil
}

// awaitShortLog waits until a node's log holds less than was written since n3 left: its checkpoint
// was made, and the entries before it are gone.
func (s *scenario) awaitShortLog(n ask.Node) error {
	client := control.NewClient(n.Socket)
	defer client.Close()
	for {
		st, err := client.Status(s.ctx)
		if err == nil && st.Status != nil && st.Log.Bytes < logRounds*changed*mib/2 {
			return nil
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-s.ctx.Done():
			return fmt.Errorf("the log of %s stays long: %w", n.Name, errors.Join(s.ctx.Err(), err))
		}
	}
}

// comeBack starts n3 and counts what it receives.
func (s *scenario) comeBack() error {
	before, err := received(s.nodes[2])
	if err != nil {
		return err
	}
	started := make(chan error, 1)
	go func() {
		_, err := runner.Ask("start", away)
		started <- err
	}()
	var most uint64
	seen := 0 // looks that showed it in the middle
	for waiting := true; waiting; {
		select {
		case err = <-started:
			waiting = false
		case <-time.After(100 * time.Millisecond):
		}
		v, err := s.volumeOn(s.nodes[0])
		if err != nil {
			continue // its agent may be busy; what counts is the end
		}
		for _, r := range v.Replicas {
			if p := r.Resync; r.Node == away && p != nil {
				most = max(most, p.TotalBytes)
				if p.DoneBytes > 0 && p.DoneBytes < p.TotalBytes && p.SecondsLeft > 0 {
					seen++
				}
			}
		}
	}
	if err != nil {
		return err
	}
	after, err := received(s.nodes[2])
	if err != nil {
		return err
	}
	fmt.Printf("n3 received %.1f MiB, and copied %.1f MiB; %d looks showed it half-way\n",
		float64(after-before)/mib, float64(most)/mib, seen)
	switch {
	case most == 0:
		return fmt.Errorf("there was no resync: the log reached back")
	case after-before >= 32*mib:
		return fmt.Errorf("n3 received %d bytes, want less than 32 MiB", after-before)
	case seen == 0:
		return fmt.Errorf("the status never showed how far it was")
	}
	return nil
}

// received counts the bytes that came to a node over the network.
func received(n ask.Node) (uint64, error) {
	out, err := exec.Command("ip", "netns", "exec", n.Namespace, "cat", "/sys/class/net/eth0/statistics/rx_bytes").Output()
	if err != nil {
		return 0, err
	}
	var bytes uint64
	_, err = fmt.Sscan(string(out), &bytes)
	return bytes, err
}

// object is the file with the bytes on a node.
func (s *scenario) object(n ask.Node) (string, error) {
	found, err := filepath.Glob(filepath.Join(n.DataDir, "volumes", "*", "objects", "*", "*"))
	if err != nil {
		return "", err
	}
	for _, path := range found {
		if info, err := os.Stat(path); err == nil && info.Size() > 900*mib {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s has no object of that size", n.Name)
}

func (s *scenario) holes() error {
	for _, n := range s.nodes {
		path, err := s.object(n)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			return err
		}
		if got, want := st.Blocks*512, int64(fileMiB-(holeTo-holeFrom))*mib; got > want+8*mib { // the file system keeps some of its own
			return fmt.Errorf("%s: the object takes %d bytes, want %d and little more", n.Name, got, want)
		}
	}
	return nil
}

func (s *scenario) verifyWhole() error {
	begun := time.Now()
	st, status, err := s.verify()
	if err != nil {
		return err
	}
	fmt.Printf("verified %d MiB in %.1f s\n", st.DoneBytes/mib, time.Since(begun).Seconds())
	if status != 0 || len(st.Findings) > 0 || st.State != "done" || st.DoneBytes != (fileMiB-(holeTo-holeFrom))*mib {
		return fmt.Errorf("exit status %d, %+v", status, st)
	}
	return nil
}

// damage changes n2's object under its agent, and cuts n3's while its agent is stopped.
func (s *scenario) damage() error {
	path, err := s.object(s.nodes[1])
	if err != nil {
		return err
	}
	for _, off := range []int64{100*mib + 12345, 101*mib + 5, (holeFrom+3)*mib + 4096} { // the last one in the hole: not looked at
		if err := poke(path, off, []byte("damage")); err != nil {
			return err
		}
	}
	err = restart(s.nodes[2], func() error {
		path, err := s.object(s.nodes[2])
		if err != nil {
			return err
		}
		return os.Truncate(path, 1020*mib)
	})
	if err != nil {
		return err
	}
	st, status, err := s.verify()
	if err != nil {
		return err
	}
	by := map[string]int{}
	for _, f := range st.Findings {
		if f.Path != "image.raw" || f.Repaired || len(f.Nodes) != 1 {
			return fmt.Errorf("found %+v", f)
		}
		by[f.Nodes[0]+" "+f.What]++
	}
	if status != 2 || by["n2 differs"] != 2 || by["n3 missing bytes"] != 4 || len(st.Findings) != 6 {
		return fmt.Errorf("exit status %d, found %v", status, by)
	}
	return nil
}

func poke(path string, off int64, p []byte) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt(p, off)
	return err
}

func (s *scenario) repair() error {
	st, status, err := s.verify("--repair")
	if err != nil {
		return err
	}
	if status != 0 || len(st.Findings) != 6 || st.Damaged() != 0 {
		return fmt.Errorf("repair: exit status %d, %+v", status, st)
	}
	if st, status, err = s.verify(); err != nil || status != 0 || len(st.Findings) > 0 {
		return fmt.Errorf("after the repair: exit status %d, %+v, %v", status, st, err)
	}
	return nil
}

// compare reads every object, without trinas.
func (s *scenario) compare() error {
	buf := make([]byte, mib)
	for _, n := range s.nodes {
		path, err := s.object(n)
		if err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		for at, round := range s.file.content {
			if round == 0 {
				continue
			}
			if _, err := f.ReadAt(buf, int64(at)*mib); err != nil && err != io.EOF {
				f.Close()
				return err
			}
			if !bytes.Equal(buf, fill(at, round)) {
				f.Close()
				return fmt.Errorf("%s: MiB %d is not what was written", n.Name, at)
			}
		}
		f.Close()
	}
	return nil
}
