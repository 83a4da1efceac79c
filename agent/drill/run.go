package drill

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"trinas/replica"
)

// MaxRounds is the most rounds of one drill.
const MaxRounds = 100

// Plan is what a drill shall do.
type Plan struct {
	Volume string
	Kind   Kind
	Rounds int // each node with a replica is struck as often; slow-disk: twice as often
}

// Leader leads a drill from outside of all agents. Its functions may fail while an agent is down; they
// are then called again.
type Leader struct {
	Ask    func(ctx context.Context, node, topic string, body []byte) ([]byte, error)
	Status func(ctx context.Context) (replica.Status, error)
	Say    func(line string) // how far it is; nil: nobody wants to know
	// After, when set, is called after each strike, when all is well again.
	After func(ctx context.Context, round Round) error

	plan    Plan
	session string
	nodes   []string // all
	members []string // those with a replica, in order
	self    string   // the node that is asked
}

// Run carries a plan out. It refuses, and changes nothing, when a replica is not UpToDate, a node is
// missing or another drill is under way. Whatever happens then, it ends what it began; the report has
// what was found until then.
func (l *Leader) Run(ctx context.Context, plan Plan) (report *Report, err error) {
	l.plan = plan
	if err := l.look(ctx); err != nil {
		return nil, err
	}
	l.session = rand.Text()
	report = &Report{Volume: plan.Volume, Kind: plan.Kind, Rounds: plan.Rounds, Nodes: l.nodes, Begun: time.Now()}
	begun, err := l.begin(ctx)
	if err != nil {
		return nil, errors.Join(err, l.end(ctx, begun))
	}
	err = l.strikes(ctx, report)
	report.Ended = time.Now()
	// Also after ^C: what was acknowledged is checked, and nothing stays behind.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), roundTimeout)
	defer cancel()
	return report, errors.Join(err, l.check(ctx, report), l.end(ctx, l.nodes))
}

func (l *Leader) say(format string, args ...any) {
	if l.Say != nil {
		l.Say(fmt.Sprintf(format, args...))
	}
}

// look finds out who takes part and whether that is safe.
func (l *Leader) look(ctx context.Context) error {
	if err := l.plan.Kind.Check(); err != nil {
		return err
	}
	if l.plan.Rounds < 1 || l.plan.Rounds > MaxRounds {
		return fmt.Errorf("%d rounds: between 1 and %d can be had", l.plan.Rounds, MaxRounds)
	}
	st, err := l.Status(ctx)
	if err != nil {
		return err
	}
	if err := Ready(st, l.plan.Volume); err != nil {
		return err
	}
	l.self = st.Node.Name
	for _, n := range st.Nodes {
		l.nodes = append(l.nodes, n.Name)
	}
	for _, v := range st.Volumes {
		for _, r := range v.Replicas {
			if v.Name == l.plan.Volume {
				l.members = append(l.members, r.Node)
			}
		}
	}
	if len(l.members) < 3 {
		return fmt.Errorf("volume %s has %d replicas: a drill needs three, so that losing a node leaves a majority", l.plan.Volume, len(l.members))
	}
	for _, node := range l.nodes {
		hello, err := ask(ctx, l.Ask, node, request{Do: doHello})
		if err != nil {
			return err
		}
		if l.plan.Kind == Kill && !hello.Supervised {
			return fmt.Errorf("the agent of %s was not started by systemd, and nobody would start it again after a kill", node)
		}
	}
	return nil
}

// begin starts a session on every node, in order: of two drills at once one is refused by the first.
func (l *Leader) begin(ctx context.Context) (begun []string, err error) {
	for _, node := range l.nodes {
		if err := l.ask(ctx, node, request{Do: doBegin, Volume: l.plan.Volume, Kind: l.plan.Kind}, nil); err != nil {
			return begun, err
		}
		begun = append(begun, node)
	}
	return begun, nil
}

// end removes everything on the nodes named. What cannot be reached ends by itself.
func (l *Leader) end(ctx context.Context, nodes []string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), LeaseTime)
	defer cancel()
	var errs []error
	for _, node := range nodes {
		if err := l.ask(ctx, node, request{Do: doEnd}, nil); err != nil {
			errs = append(errs, fmt.Errorf("end the drill on %s: %w; it ends by itself within %s", node, err, LeaseTime))
		}
	}
	return errors.Join(errs...)
}

// strikes strikes the nodes in turn.
func (l *Leader) strikes(ctx context.Context, report *Report) error {
	ctx, cancel := context.WithCancel(ctx)
	var beside sync.WaitGroup
	defer beside.Wait()
	defer cancel()
	beside.Go(func() { l.renew(ctx) })
	times := l.plan.Rounds
	if l.plan.Kind == SlowDisk {
		times *= 2
	}
	for number := range times * len(l.members) {
		victim := l.members[number%len(l.members)]
		to := l.members[(number+1)%len(l.members)]
		if l.plan.Kind == SlowDisk && number/len(l.members)%2 == 1 {
			to = victim // it is primary
		}
		round, err := l.strike(ctx, request{Do: doStrike, Number: number + 1, Victim: victim, To: to})
		if err != nil {
			return fmt.Errorf("strike %d, %s of %s: %w", number+1, l.plan.Kind, victim, err)
		}
		report.add(*round)
		l.say("%d of %d: %s", number+1, times*len(l.members), round.text(l.plan.Kind))
		if l.After != nil {
			if err := l.After(ctx, *round); err != nil {
				return err
			}
		}
	}
	return nil
}

// strike has a node that is not struck itself carry a strike out, and waits for it.
func (l *Leader) strike(ctx context.Context, req request) (*Round, error) {
	striker := l.self
	if striker == req.Victim || !slices.Contains(l.members, striker) {
		i := slices.Index(l.members, req.Victim)
		striker = l.members[(i+1)%len(l.members)]
	}
	ctx, cancel := context.WithTimeout(ctx, roundTimeout+askTimeout)
	defer cancel()
	if err := l.ask(ctx, striker, req, nil); err != nil {
		return nil, err
	}
	for {
		var a answer
		if err := l.ask(ctx, striker, request{Do: doRound, Number: req.Number}, &a); err != nil {
			return nil, err
		}
		if a.Round != nil && a.Round.Error != "" {
			return nil, errors.New(a.Round.Error)
		}
		if a.Round != nil {
			return a.Round, nil
		}
		if err := pause(ctx, retryEvery); err != nil {
			return nil, err
		}
	}
}

// renew keeps the sessions until ctx ends. An agent that is down is told when it is back.
func (l *Leader) renew(ctx context.Context) {
	for pause(ctx, renewEvery) == nil {
		for _, node := range l.nodes {
			once, cancel := context.WithTimeout(ctx, renewEvery)
			_, _ = ask(once, l.Ask, node, request{Do: doRenew, Session: l.session}) // tried again
			cancel()
		}
	}
}

// check ends the probes and compares what was acknowledged to each with what another node reads.
func (l *Leader) check(ctx context.Context, report *Report) error {
	var errs []error
	for i, node := range l.nodes {
		var stopped, checked answer
		err := l.ask(ctx, node, request{Do: doStop}, &stopped)
		if err == nil && stopped.Tally.Error != "" {
			err = fmt.Errorf("the probe on %s has failed: %s", node, stopped.Tally.Error)
		}
		if err == nil {
			other := l.nodes[(i+1)%len(l.nodes)]
			err = l.ask(ctx, other, request{Do: doCheck, Node: node, Ledger: &stopped.Tally.Ledger}, &checked)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		report.Acknowledged += stopped.Tally.Ledger.Acknowledged
		report.Stale += stopped.Tally.Stale
		report.Lost += checked.Losses.Lost
		report.Damaged += checked.Losses.Damaged
		if checked.Losses.First != "" {
			report.First = append(report.First, node+": "+checked.Losses.First)
		}
		report.Checked++
	}
	return errors.Join(errs...)
}

// ask asks until there is an answer; an agent may be down for a while, the asked one too.
func (l *Leader) ask(ctx context.Context, node string, req request, into *answer) error {
	ctx, cancel := context.WithTimeout(ctx, LeaseTime)
	defer cancel()
	req.Session = l.session
	return poll(ctx, retryEvery, func() error {
		once, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		a, err := ask(once, l.Ask, node, req)
		if err == nil && into != nil {
			*into = a
		}
		return err
	})
}

// Describe says what a plan would do, for those who have to consent.
func Describe(plan Plan, st replica.Status) string {
	var nodes []string
	for _, v := range st.Volumes {
		for _, r := range v.Replicas {
			if v.Name == plan.Volume {
				nodes = append(nodes, r.Node)
			}
		}
	}
	return fmt.Sprintf("Drill %s of volume %s: for each of %s, in turn, %d times: %s.\n"+
		"A probe on every node writes to a file of its own in the volume meanwhile (1 MiB, removed at the end).\n"+
		"Guests wait as the report will tell; nothing is lost.\n",
		plan.Kind, plan.Volume, strings.Join(nodes, ", "), plan.Rounds, plan.Kind.Does())
}
