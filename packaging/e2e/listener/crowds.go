package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/willscott/go-nfs"

	"trinas/nfsgw/nfs3"
	"trinas/nfsgw/rpc"
)

// ports: calls from ports that any user may take are refused, but for NULL.
func (s *scenario) ports() error {
	nc, err := s.dialUser()
	if err != nil {
		return err
	}
	c := rpc.NewClient(nc)
	defer c.Close()
	_, err = c.Call(s.ctx, nfs3.Program, nfs3.Version, 0, nil, nil)
	report("port above 1023: NULL is answered", err)

	tooWeak := rpc.ReplyError{Denied: true, Auth: rpc.AuthTooWeak}
	calls := []struct {
		prog, vers, proc uint32
		args             nfs3.Args
	}{
		{nfs3.Program, nfs3.Version, uint32(nfs.NFSProcedureGetAttr), &nfs3.HandleArgs{FH: s.volume.root}},
		{nfs3.Program, nfs3.Version, uint32(nfs.NFSProcedureWrite), &nfs3.WriteArgs{FH: s.volume.file, Data: []byte("x")}},
		{nfs3.MountProgram, nfs3.MountVersion, uint32(nfs.MountProcMount), &nfs3.PathArgs{Path: "/" + s.volume.name}},
	}
	var errs []error
	for _, call := range calls {
		_, err := c.Call(s.ctx, call.prog, call.vers, call.proc, root(), call.args.Append)
		errs = append(errs, replyIs(err, tooWeak))
	}
	report("port above 1023: GETATTR, WRITE and MNT are refused as too weak", errors.Join(errs...))
	return nil
}

// replyIs checks that a call failed in the way that is wanted.
func replyIs(err error, want rpc.ReplyError) error {
	var got *rpc.ReplyError
	switch {
	case err == nil:
		return fmt.Errorf("it succeeded, want: %w", &want)
	case !errors.As(err, &got) || *got != want:
		return fmt.Errorf("%w, want: %w", err, &want)
	}
	return nil
}

// idle: a thousand connections on which nothing is said cost little, and stay.
func (s *scenario) idle() error {
	var c *crowd
	grown := s.growth("1,000 idle connections", idleGrowth, func() (err error) {
		c, err = s.gather(idleHost, 1000, nil)
		return err
	})
	report("1,000 idle connections: the agent grows by less than 32 KiB each", grown)
	if c == nil {
		return errors.New("no idle connections")
	}
	var errs []error
	for i, nc := range c.conns {
		client := rpc.NewClient(nc)
		if _, err := client.Call(s.ctx, nfs3.Program, nfs3.Version, 0, nil, nil); err != nil {
			errs = append(errs, fmt.Errorf("connection %d: %w", i+1, err))
			break
		}
	}
	report("1,000 idle connections: each is still served", errors.Join(errs...))
	c.close()
	return s.idleUsers()
}

// idleUsers: of connections from ports that any user may take, an eighth of what the server takes stay.
func (s *scenario) idleUsers() error {
	const most = 256
	var users crowd
	defer users.close()
	for range 1000 {
		nc, err := s.dialUser()
		if err != nil {
			return err
		}
		users.conns = append(users.conns, nc)
	}
	users.watch()
	err := users.awaitEnd(s.ctx, len(users.conns)-most, time.Time{}, time.Now().Add(dialTimeout))
	if err == nil && int(users.ended.Load()) == len(users.conns) {
		err = errors.New("none stays")
	}
	report("1,000 connections from ports above 1023: at most 256 stay", err)
	return nil
}

// silent: clients that begin a record and stop cost no more than idle ones, and are given up.
func (s *scenario) silent() error {
	announce := binary.BigEndian.AppendUint32(nil, 1<<31|1<<20)
	announce = append(announce, make([]byte, 10)...)
	begun := time.Now()
	var marks, records *crowd
	grown := s.growth("1,000 unfinished records", silentGrowth, func() (err error) {
		if marks, err = s.gather(silentHost, 750, []byte{0x80, 0}); err == nil {
			records, err = s.gather(slowHost, 250, announce)
		}
		return err
	})
	report("1,000 unfinished records: the agent grows by less than 32 KiB each", grown)
	if records == nil {
		return errors.New("no unfinished records")
	}
	latest := time.Now().Add(recordTimeout + slack)
	marks.watch()
	records.watch()
	s.later("750 half record marks: closed after 60 s", func(ctx context.Context) error {
		return marks.awaitEnd(ctx, len(marks.conns), begun.Add(recordTimeout-slack), latest)
	})
	// A host has memory for some of these records at a time. The others wait for it, without holding any.
	s.later("250 records of 1 MiB with 10 bytes there: the first are closed after 60 s", func(ctx context.Context) error {
		return records.awaitEnd(ctx, 1, begun.Add(recordTimeout-slack), latest)
	})
	return nil
}

// other: while one host holds up what it may, another is served.
func (s *scenario) other() error {
	const requests = 100
	c, err := s.client(otherHost, 0)
	if err != nil {
		return err
	}
	defer c.Close()
	begun := time.Now()
	for range requests {
		ctx, cancel := context.WithTimeout(s.ctx, wanted)
		_, err = c.GetAttr(ctx, s.volume.file)
		cancel()
		if err != nil {
			break
		}
	}
	fmt.Printf("%d requests of another host took %.1f ms\n", requests, ms(time.Since(begun)))
	report("another host meanwhile: each of 100 requests within 100 ms", err)
	return nil
}

// greedy: clients that ask for 200 MiB each and take nothing cost no more than the server's budget,
// and are given up. A client may be so slow that the server has not begun with the next.
func (s *scenario) greedy() error {
	const clients, reads = 16, 200
	var calls []byte
	for i := range reads {
		args := nfs3.ReadArgs{FH: s.volume.file, Count: largeBytes}
		calls = append(calls, callRecord(uint32(i), nfs.NFSProcedureRead, args.Append(nil))...)
	}
	var c *crowd
	grown := s.growth("16 clients that read no replies", greedyGrowth, func() (err error) {
		c, err = s.gather(greedyHost, clients, calls)
		return err
	})
	report("16 clients ask for 3 GiB and read no reply: the agent grows by less than 320 MiB", grown)
	if c == nil {
		return errors.New("no greedy clients")
	}
	sending, err := c.sendingTo()
	if err == nil && len(sending.conns) == 0 {
		err = errors.New("it sends to none")
	}
	report("clients that read no reply: some are being sent to", err)
	deadline := time.Now().Add(writeTimeout + slack)
	s.later("clients that read no reply: those are closed after 60 s", func(ctx context.Context) error {
		defer c.close()
		return sending.awaitGone(ctx, deadline)
	})
	return nil
}

// gone: clients whose host has gone without a word, some of them with a reply under way.
func (s *scenario) gone() error {
	const clients, asking = 100, 10
	all, err := s.gather(goneHost, clients+asking, nil)
	if err != nil {
		return err
	}
	for _, nc := range all.conns {
		if err := deafen(nc); err != nil {
			return err
		}
	}
	idle, owed := &crowd{conns: all.conns[asking:]}, &crowd{conns: all.conns[:asking]}
	for _, nc := range owed.conns {
		if _, err := nc.Write(callRecord(1, nfs.NFSProcedureNull, nil)); err != nil {
			return err
		}
	}
	report("100 clients whose host is gone: the server will ask for each", idle.expectSoon(s.ctx, "keepalive within a minute",
		clients, func(k socket) bool { return k.timer == timerKeepalive && k.due <= time.Minute }))
	deadline := time.Now().Add(writeTimeout + slack)
	s.later("10 clients whose host is gone, with a reply under way: closed after 60 s", func(ctx context.Context) error {
		defer owed.close()
		return owed.awaitGone(ctx, deadline)
	})
	s.later("100 clients whose host is gone: each was asked for, or closed", func(context.Context) error {
		defer idle.close()
		return idle.expect("an unanswered probe", 0, func(k socket) bool { return k.probes > 0 || k.state != stateEstablished })
	})
	return nil
}

// endless: a client that sends fragments of no bytes, none of them the last.
func (s *scenario) endless() error {
	c, err := s.gather(brokenHost, 1, make([]byte, 4))
	if err != nil {
		return err
	}
	begun := time.Now()
	c.watch()
	go func() {
		// 4,000 marks a second, until the connection is closed.
		for {
			if _, err := c.conns[0].Write(make([]byte, 40*4)); err != nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	s.later("fragments of no bytes without end: closed after 60 s", func(ctx context.Context) error {
		return c.awaitEnd(ctx, 1, begun.Add(recordTimeout-slack), begun.Add(recordTimeout+slack))
	})
	return nil
}
