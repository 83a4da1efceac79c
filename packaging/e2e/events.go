package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"trinas/packaging/lab"
	"trinas/packaging/lab/relay"
)

// A script asks for what happens to the nodes by a line "@NUMBER WORD ARGUMENT" (checks.sh, ask) and
// finds the answer in the file answers/NUMBER. Words:
//
//	disturb SECONDS      every so many seconds something happens to the primary, until calm
//	calm                 ends that, waits until all replicas are UpToDate, answers how often it happened
//	primary NODE         hands the volume over to a node (n1, n2, ...)
//	trinas NODE WORD...  runs the command line on a node, answers what it prints
//	logged NODE EVENT    answers how often a node's agent has logged an event of that name
//	invite               answers ADDRESS TOKEN, for a guest that joins the cluster itself
//	volume               makes the scenario's volume, for such a guest, once it has joined
//	meet NAME WORD       waits until all guests of the scenario have come there; answers their words
//	memory NAME          answers, for n1, n2 and n3, the agent's resident memory: now, and the most since
//	                     the last time it was asked for, each in MiB; NAME says what the moment is
//
// Those that end agents, pull cables and lose replies are in loss.go.
const (
	requestMark = "@"
	answersDir  = "answers"
)

const (
	downTime    = 2 * time.Second  // how long a killed agent stays away
	stopTime    = 3 * time.Second  // how long a stopped one stands still: longer than an election takes
	backTimeout = 60 * time.Second // from a disturbance until all replicas are UpToDate
)

// events makes happen to the nodes what a scenario's script asks for.
type events struct {
	lab     *lab.Lab
	volume  string
	meeting *meeting
	say     func(format string, args ...any)
	fail    context.CancelCauseFunc // ends the scenario

	requests sync.WaitGroup // those under way

	mu    sync.Mutex         // held while a request that changes the nodes is answered
	stop  context.CancelFunc // of the disturbances under way, or nil
	done  chan struct{}      // closed at their end
	count int                // how many there were; to be read after done
	relay *relay.Relay       // nil until it is asked for
	cut   *lab.Node          // whose cable is out, or nil
}

// request answers a request of an actor, some time later. An answer that begins with "error" fails
// the script's ask.
func (e *events) request(ctx context.Context, from *actor, share, request string) {
	number, rest, _ := strings.Cut(request, " ")
	if _, err := strconv.Atoi(number); err != nil {
		e.fail(fmt.Errorf("request %q of the script has no number", request))
		return
	}
	// Not here: what the actor prints has to be read on.
	e.requests.Go(func() {
		word, argument, _ := strings.Cut(rest, " ")
		answer, err := e.act(ctx, from, word, argument)
		if err != nil {
			answer = "error: " + err.Error()
		}
		// A rename, so that the guest never finds half of it.
		path := filepath.Join(share, answersDir, number)
		err = os.WriteFile(path+".new", []byte(answer+"\n"), 0o644)
		if err == nil {
			err = os.Rename(path+".new", path)
		}
		if err != nil {
			e.fail(err)
		}
	})
}

func (e *events) act(ctx context.Context, from *actor, word, argument string) (string, error) {
	if word == "meet" {
		name, said, _ := strings.Cut(argument, " ")
		return e.meeting.meet(ctx, from.name, name, said)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch word {
	case "disturb":
		return "ok", e.disturbEvery(ctx, argument)
	case "calm":
		if e.stop == nil {
			return "", errors.New("calm: nothing disturbs")
		}
		e.stopDisturbing()
		return strconv.Itoa(e.count), nil
	case "primary":
		n := e.lab.Node(argument)
		if n == nil {
			return "", fmt.Errorf("primary %q: no such node", argument)
		}
		ctx, cancel := context.WithTimeout(ctx, backTimeout)
		defer cancel()
		return "ok", e.lab.SetPrimary(ctx, e.volume, n)
	case "trinas":
		node, words, _ := strings.Cut(argument, " ")
		n := e.lab.Node(node)
		if n == nil {
			return "", fmt.Errorf("trinas %q: no such node", argument)
		}
		ctx, cancel := context.WithTimeout(ctx, backTimeout)
		defer cancel()
		out, err := n.CLI(ctx, strings.Fields(words)...)
		return strings.TrimSpace(string(out)), err
	case "logged":
		node, event, _ := strings.Cut(argument, " ")
		return e.logged(node, event)
	case "memory":
		answer, err := e.memory()
		from.note("memory of n1, n2, n3: now and peak, MiB: %s: %s", answer, argument)
		return answer, err
	case "stop", "kill", "start":
		return "ok", e.endOrStart(ctx, word, argument)
	case "cut", "heal":
		return "ok", e.cutOrHeal(ctx, word, argument)
	case "relay":
		return e.openRelay(argument)
	case "drop", "dropped", "resend":
		return e.lose(ctx, word, argument)
	case "invite":
		inv, err := e.lab.Nodes[0].Invite(ctx)
		return inv.Address + " " + inv.Token, err
	case "volume":
		ctx, cancel := context.WithTimeout(ctx, backTimeout)
		defer cancel()
		return "ok", e.lab.CreateVolume(ctx, e.volume)
	}
	return "", fmt.Errorf("unknown request %q", word)
}

// memory is what the agents hold resident: now and at most since the last call, in MiB.
func (e *events) memory() (string, error) {
	var words []string
	for _, n := range e.lab.Nodes {
		now, peak, err := lab.Memory(n.PID())
		if err == nil {
			err = lab.ForgetPeak(n.PID())
		}
		if err != nil {
			return "", fmt.Errorf("%s: %w", n.Name, err)
		}
		words = append(words, strconv.FormatInt(now>>20, 10), strconv.FormatInt(peak>>20, 10))
	}
	return strings.Join(words, " "), nil
}

// logged counts the lines of a node's log that have an event's name.
func (e *events) logged(node, event string) (string, error) {
	n := e.lab.Node(node)
	if n == nil {
		return "", fmt.Errorf("logged %q: no such node", node)
	}
	b, err := os.ReadFile(n.LogFile())
	return strconv.Itoa(bytes.Count(b, []byte(" event="+event+" "))), err
}

func (e *events) disturbEvery(ctx context.Context, argument string) error {
	seconds, err := strconv.Atoi(argument)
	if err != nil || seconds < 1 {
		return fmt.Errorf("disturb %q: how many seconds?", argument)
	}
	if e.stop != nil {
		return errors.New("disturb: calm must come first")
	}
	e.begin(ctx, time.Duration(seconds)*time.Second)
	return nil
}

// begin starts the disturbances: one every interval, in turns. Each ends with three replicas
// UpToDate, so that a majority is always there.
func (e *events) begin(ctx context.Context, interval time.Duration) {
	ctx, e.stop = context.WithCancel(ctx)
	e.done, e.count = make(chan struct{}), 0
	go func() {
		defer close(e.done)
		for turn := 0; ; turn++ {
			select {
			case <-ctx.Done():
				return
			case <-time.After(interval):
			}
			// One that has begun ends as it should, also when the scenario does.
			if err := e.disturb(context.WithoutCancel(ctx), turn); err != nil {
				e.fail(fmt.Errorf("disturbance %d: %w", turn+1, err))
				return
			}
			e.count++
		}
	}()
}

// stopDisturbing ends the disturbances, if any; one that has begun is waited for.
func (e *events) stopDisturbing() {
	if e.stop == nil {
		return
	}
	e.stop()
	<-e.done
	e.stop = nil
}

// close waits for the requests under way, whose actors have ended, and ends the disturbances.
func (e *events) close() {
	e.requests.Wait()
	e.stopDisturbing()
}

// disturb hands the primary to the nodes in turn, and each time kills it there and then stops
// whichever is primary after that.
func (e *events) disturb(ctx context.Context, turn int) error {
	ctx, cancel := context.WithTimeout(ctx, backTimeout)
	defer cancel()
	if turn%3 == 0 {
		to := e.lab.Nodes[turn/3%len(e.lab.Nodes)]
		e.say("hand over to %s", to.Name)
		return e.lab.SetPrimary(ctx, e.volume, to)
	}
	st, err := e.lab.Nodes[0].Volume(ctx, e.volume)
	if err != nil {
		return err
	}
	victim := e.lab.Node(st.Primary)
	if victim == nil {
		return fmt.Errorf("no primary: %q", st.Primary)
	}
	if turn%3 == 1 {
		err = e.kill(ctx, victim)
	} else {
		err = e.pause(ctx, victim)
	}
	if err != nil {
		return err
	}
	return e.awaitUpToDate(ctx)
}

// awaitUpToDate waits until every agent sees every replica UpToDate.
func (e *events) awaitUpToDate(ctx context.Context) error {
	for _, watcher := range e.lab.Nodes {
		for _, n := range e.lab.Nodes {
			if err := watcher.AwaitUpToDate(ctx, e.volume, n.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// kill kills an agent and starts it again after downTime.
func (e *events) kill(ctx context.Context, victim *lab.Node) error {
	e.say("kill %s, the primary", victim.Name)
	victim.Kill(syscall.SIGKILL)
	_ = victim.Wait(ctx) // "signal: killed"
	time.Sleep(downTime)
	e.say("start %s", victim.Name)
	return victim.Start(ctx)
}

// pause lets an agent stand still for stopTime, as a host does that swaps or whose disk hangs.
func (e *events) pause(ctx context.Context, victim *lab.Node) error {
	e.say("stop %s, the primary", victim.Name)
	victim.Kill(syscall.SIGSTOP)
	defer victim.Kill(syscall.SIGCONT)
	var others []string
	for _, n := range e.lab.Nodes {
		if n != victim {
			others = append(others, n.Name)
		}
	}
	begun := time.Now()
	primary, err := e.lab.Node(others[0]).AwaitPrimary(ctx, e.volume, others...)
	if err != nil {
		return err
	}
	e.say("%s is primary", primary)
	time.Sleep(time.Until(begun.Add(stopTime)))
	e.say("continue %s", victim.Name)
	return nil
}
