package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"trinas/packaging/lab/relay"
)

// Words (events.go) of scripts that end agents themselves:
//
//	stop NODE     ends an agent as its unit does (SIGTERM)
//	kill NODE     ends it by SIGKILL
//	start NODE    starts it again, waits until all replicas are UpToDate
//
// of those that pull cables:
//
//	cut NODE      the node and the guest plugged into it reach nobody any more, but each other
//	heal NODE     the cable is back, waits until all replicas are UpToDate
//
// and of those that lose replies:
//
//	relay NODE    starts a relay (packaging/lab/relay) before a node's NFS server, answers its port
//	drop CALL...  the reply to the next call of each (MKDIR, CREATE/EXCLUSIVE, ...) is to be lost
//	dropped       waits until all have been; they have been carried out then, and nobody knows
//	resend        has the clients send these calls again, waits for the replies, answers a line for
//	              each call: CALL STATUS-LOST TIMES-SENT-AGAIN STATUS-RECEIVED

// loseTimeout is how long calls, or their repetitions, may take to be answered: they may have to wait
// for an election.
const loseTimeout = 30 * time.Second

// endOrStart ends or starts a node's agent.
func (e *events) endOrStart(ctx context.Context, word, node string) error {
	n := e.lab.Node(node)
	if n == nil {
		return fmt.Errorf("%s %q: no such node", word, node)
	}
	ctx, cancel := context.WithTimeout(ctx, backTimeout)
	defer cancel()
	switch word {
	case "stop":
		n.Kill(syscall.SIGTERM)
		return n.Wait(ctx)
	case "kill":
		n.Kill(syscall.SIGKILL)
		_ = n.Wait(ctx) // "signal: killed"
		return ctx.Err()
	}
	if err := n.Start(ctx); err != nil {
		return err
	}
	return e.awaitUpToDate(ctx)
}

// cutOrHeal pulls a node's cable, or puts it back.
func (e *events) cutOrHeal(ctx context.Context, word, node string) error {
	n := e.lab.Node(node)
	if n == nil {
		return fmt.Errorf("%s %q: no such node", word, node)
	}
	ctx, cancel := context.WithTimeout(ctx, backTimeout)
	defer cancel()
	if word == "cut" {
		e.cut = n
		return e.lab.Cut(ctx, n)
	}
	e.cut = nil
	if err := e.lab.Heal(ctx, n); err != nil {
		return err
	}
	return e.awaitUpToDate(ctx)
}

// healCut puts a cable back that the script has left out: the next scenario wants it.
func (e *events) healCut() error {
	if e.cut == nil {
		return nil
	}
	return e.cutOrHeal(context.Background(), "heal", e.cut.Name)
}

func (e *events) openRelay(node string) (string, error) {
	n := e.lab.Node(node)
	if n == nil || e.relay != nil {
		return "", fmt.Errorf("relay %q: no such node, or there is a relay already", node)
	}
	r, port, err := n.OpenRelay()
	if err != nil {
		return "", err
	}
	e.relay = r
	return fmt.Sprint(port), nil
}

// closeRelay ends the relay, if there is one.
func (e *events) closeRelay() error {
	if e.relay == nil {
		return nil
	}
	return e.relay.Close()
}

// lose does what is asked of the relay.
func (e *events) lose(ctx context.Context, word, argument string) (string, error) {
	if e.relay == nil {
		return "", errors.New(word + ": relay NODE must come first")
	}
	ctx, cancel := context.WithTimeout(ctx, loseTimeout)
	defer cancel()
	var losses []relay.Loss
	var err error
	switch word {
	case "drop":
		err = e.relay.Drop(strings.Fields(argument)...)
	case "dropped":
		_, err = e.relay.Dropped(ctx)
	case "resend":
		losses, err = e.relay.Resend(ctx)
	}
	if err != nil {
		return "", err
	}
	if len(losses) == 0 {
		return "ok", nil
	}
	var lines []string
	for _, l := range losses {
		lines = append(lines, fmt.Sprintf("%s %d %d %d", l.Call, l.First, l.Again, l.Last))
	}
	return strings.Join(lines, "\n"), nil
}
