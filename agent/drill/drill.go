// Package drill lets a running cluster lose a node on purpose, and measures what its users would have
// felt. A probe on every node writes small synced blocks and reads them back all the while, through
// that node's own NFS server as a guest does. One node strikes: it hands the primary over, has another
// node's agent killed, stopped or its log's disk throttled, and measures the time to move on its own
// clock. The command line leads it (Run), so that any agent may be the one that is struck.
//
// It must never strike while a replica is not UpToDate or another drill runs, never outlast those who
// asked for it, and never leave a file or a throttle behind.
//
// Floor 3: imports replica, replica/disk and nfsgw/nfs3.
package drill

import (
	"fmt"
	"slices"
	"time"
)

// Topic is what an agent is asked under (replica.Node.Ask).
const Topic = "drill"

// Kind is what a drill does to a node.
type Kind string

const (
	Handover Kind = "handover"  // its volume's primary is handed to another node
	Kill     Kind = "kill"      // its agent's process is killed (SIGKILL), and started again by systemd
	Silence  Kind = "silence"   // its agent's process is stopped (SIGSTOP) for silenceTime: no answer, no refusal
	SlowDisk Kind = "slow-disk" // the syncs of its log take a hundred times as long, for slowTime
)

// Kinds lists all.
func Kinds() []Kind { return []Kind{Handover, Kill, Silence, SlowDisk} }

// Check reports a kind that there is not.
func (k Kind) Check() error {
	if slices.Contains(Kinds(), k) {
		return nil
	}
	return fmt.Errorf("no drill is called %q: use one of %v", string(k), Kinds())
}

// Does says what it does to each node, in words.
func (k Kind) Does() string {
	switch k {
	case Handover:
		return "the primary is handed over to the next node"
	case Kill:
		return "its agent is killed (SIGKILL) while it is primary; systemd starts it again"
	case Silence:
		return fmt.Sprintf("its agent is stopped (SIGSTOP) for %s while it is primary: guests on that node wait as long", silenceTime)
	case SlowDisk:
		return fmt.Sprintf("each sync of its log takes a hundred times as long, for %s, once while it is primary and once while it is not", slowTime)
	}
	return ""
}

const (
	silenceTime = 4 * time.Second // longer than any takeover: an election takes twice raft.election at most
	slowTime    = 10 * time.Second
	slowFactor  = 100
	slowMost    = time.Second // of one throttled write: log.stuck_after is 2 s at least

	// LeaseTime is how long an agent goes on with a drill that nobody has asked it to go on with.
	LeaseTime  = 30 * time.Second
	renewEvery = 5 * time.Second

	roundTimeout = 2 * time.Minute // of one strike, until all replicas are UpToDate again; a log counts as slow for 30 s
	askTimeout   = 10 * time.Second
	retryEvery   = 50 * time.Millisecond
	lookEvery    = 20 * time.Millisecond
	stayTime     = 2 * time.Second        // after which a primary that is still it has not been replaced
	tailTime     = 250 * time.Millisecond // how long pauses are still looked for after all is well again
)

// What an agent is asked to do.
const (
	doHello  = "hello"  // who are you
	doBegin  = "begin"  // start a session and its probe
	doRenew  = "renew"  // go on for another LeaseTime
	doMark   = "mark"   // tell what the probe has seen since the last mark
	doStrike = "strike" // strike a node; answered at once
	doRound  = "round"  // how far is that
	doAct    = "act"    // do it to yourself
	doStop   = "stop"   // stop the probe, tell what was acknowledged
	doCheck  = "check"  // compare another node's file with what was acknowledged to it
	doEnd    = "end"    // remove everything
)

// request is what an agent is asked; which fields count follows Do. All but hello name the session.
type request struct {
	Do      string  `json:"do"`
	Session string  `json:"session,omitempty"`
	Volume  string  `json:"volume,omitempty"`  // begin
	Kind    Kind    `json:"kind,omitempty"`    // begin, strike, act
	Number  int     `json:"number,omitempty"`  // strike, round: counts strikes from 1
	Victim  string  `json:"victim,omitempty"`  // strike
	To      string  `json:"to,omitempty"`      // strike: handover goes there; slow-disk: the primary
	Node    string  `json:"node,omitempty"`    // check: whose file
	Ledger  *Ledger `json:"ledger,omitempty"`  // check
	Samples bool    `json:"samples,omitempty"` // mark: with latencies
}

// answer is what it says. Refused: it was not done, and why; it is not to be asked again.
type answer struct {
	Refused    string  `json:"refused,omitempty"`
	Boot       int64   `json:"boot,omitempty"`       // hello: another one after each start of the agent
	Supervised bool    `json:"supervised,omitempty"` // hello: systemd starts it again
	Slow       bool    `json:"slow,omitempty"`       // hello: its log's disk counts as slow
	Window     *Window `json:"window,omitempty"`     // mark
	Round      *Round  `json:"round,omitempty"`      // round: nil until it is over
	Tally      *Tally  `json:"tally,omitempty"`      // stop
	Losses     *Losses `json:"losses,omitempty"`     // check
}

// Round is one strike and what followed. Times are the striking node's.
type Round struct {
	Number int       `json:"number"`
	Error  string    `json:"error,omitempty"` // why it could not be done; the rest is then not to be used
	Victim string    `json:"victim"`
	To     string    `json:"to"`   // the primary afterwards
	Role   string    `json:"role"` // of the victim: "primary", or "secondary"
	At     time.Time `json:"at"`
	// Move is from the order until the first write after it that another primary has answered; 0 when
	// none took over.
	Move time.Duration `json:"move_ns"`
	// UpToDate is from the order until all replicas were.
	UpToDate time.Duration `json:"up_to_date_ns"`
	// Windows is what each node's probe has seen in that time; Normal in a time as long before, for
	// slow-disk.
	Windows map[string]Window `json:"windows"`
	Normal  map[string]Window `json:"normal,omitempty"`
}

// Tally is what a probe has done in all.
type Tally struct {
	Ledger Ledger `json:"ledger"`
	Stale  int    `json:"stale"` // reads that gave something else than was written last
	Error  string `json:"error,omitempty"`
}

// fileName is the probe's file in the volume's root directory.
func fileName(node string) string { return ".trinas-drill-" + node }
