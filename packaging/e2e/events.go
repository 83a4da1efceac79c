package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"trinas/packaging/lab"
)

// A script asks for what happens to the nodes by a line "@NUMBER WORD ARGUMENT" (checks.sh, ask) and
// finds the answer in the file answers/NUMBER. Words:
//
//	disturb SECONDS  every so many seconds something happens to the primary, until calm
//	calm             ends that, waits until all replicas are UpToDate, answers how often it happened
//	primary NODE     hands the volume over to a node (n1, n2, ...)
//	invite           answers ADDRESS TOKEN, for a guest that joins the cluster itself
//	volume           makes the scenario's volume, for such a guest, once it has joined
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
	lab    *lab.Lab
	volume string
	say    func(format string, args ...any)
	fail   context.CancelCauseFunc // ends the scenario

	stop  context.CancelFunc // of the disturbances under way, or nil
	done  chan struct{}      // closed at their end
	count int                // how many there were; to be read after done
}

// request answers one request. An answer that begins with "error" fails the script's ask.
func (e *events) request(ctx context.Context, share, request string) {
	number, rest, _ := strings.Cut(request, " ")
	if _, err := strconv.Atoi(number); err != nil {
		e.fail(fmt.Errorf("request %q of the script has no number", request))
		return
	}
	word, argument, _ := strings.Cut(rest, " ")
	answer, err := e.act(ctx, word, argument)
	if err != nil {
		answer = "error: " + err.Error()
	}
	// A rename, so that the guest never finds half of it.
	path := filepath.Join(share, answersDir, number)
	if err := os.WriteFile(path+".new", []byte(answer+"\n"), 0o644); err != nil {
		e.fail(err)
		return
	}
	if err := os.Rename(path+".new", path); err != nil {
		e.fail(err)
	}
}

func (e *events) act(ctx context.Context, word, argument string) (string, error) {
	switch word {
	case "disturb":
		seconds, err := strconv.Atoi(argument)
		if err != nil || seconds < 1 {
			return "", fmt.Errorf("disturb %q: how many seconds?", argument)
		}
		if e.stop != nil {
			return "", fmt.Errorf("disturb: calm must come first")
		}
		e.begin(ctx, time.Duration(seconds)*time.Second)
		return "ok", nil
	case "calm":
		if e.stop == nil {
			return "", fmt.Errorf("calm: nothing disturbs")
		}
		if err := e.close(); err != nil {
			return "", err
		}
		return strconv.Itoa(e.count), nil
	case "primary":
		n := e.lab.Node(argument)
		if n == nil {
			return "", fmt.Errorf("primary %q: no such node", argument)
		}
		ctx, cancel := context.WithTimeout(ctx, backTimeout)
		defer cancel()
		return "ok", e.lab.SetPrimary(ctx, e.volume, n)
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

// close ends the disturbances. May be called at any time.
func (e *events) close() error {
	if e.stop == nil {
		return nil
	}
	e.stop()
	<-e.done
	e.stop = nil
	return nil
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
