package drill

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// published are the times to move of the published set-up with DRBD 8 (its table 3), by transition in
// the order in which it has them: a guest's live migration, averages of three rounds.
func published() []time.Duration {
	return []time.Duration{9700 * time.Millisecond, 3700 * time.Millisecond, 3 * time.Second}
}

// Report is what a drill has found.
type Report struct {
	Volume string    `json:"volume"`
	Kind   Kind      `json:"kind"`
	Rounds int       `json:"rounds"` // as planned
	Nodes  []string  `json:"nodes"`
	Begun  time.Time `json:"begun"`
	Ended  time.Time `json:"ended"`

	Strikes []Round `json:"strikes"` // without the latencies
	Slow    []Speed `json:"slow,omitempty"`

	Acknowledged uint64   `json:"acknowledged"` // writes
	Lost         int      `json:"lost"`         // blocks that hold less than was acknowledged
	Damaged      int      `json:"damaged"`      // blocks that hold what was never written there
	Stale        int      `json:"stale"`        // reads that gave something else than was written last
	First        []string `json:"first,omitempty"`
	Checked      int      `json:"checked"` // nodes whose writes were compared

	Guest *GuestReport `json:"guest,omitempty"`
}

// Speed is how long writes took while a node's log was throttled, over all nodes, and just before.
type Speed struct {
	Victim   string  `json:"victim"`
	Role     string  `json:"role"`
	Normal   Latency `json:"normal"`
	Slow     Latency `json:"slow"`
	Factor   float64 `json:"factor"` // of the 99.9th percentiles
	NewOwner string  `json:"primary_after"`
}

// Latency sums up writes.
type Latency struct {
	Writes int           `json:"writes"`
	P50    time.Duration `json:"p50_ns"`
	P99    time.Duration `json:"p99_ns"`
	P999   time.Duration `json:"p999_ns"`
}

func latencyOf(windows map[string]Window) Latency {
	var all []int32
	for _, w := range windows {
		all = append(all, w.Writes...)
	}
	p := func(percent float64) time.Duration {
		return time.Duration(percentile(all, percent)) * time.Microsecond
	}
	return Latency{Writes: len(all), P50: p(50), P99: p(99), P999: p(99.9)}
}

// add takes a strike in; of latencies only what they come to.
func (r *Report) add(round Round) {
	if r.Kind == SlowDisk {
		s := Speed{Victim: round.Victim, Role: round.Role, NewOwner: round.To,
			Normal: latencyOf(round.Normal), Slow: latencyOf(round.Windows)}
		if s.Normal.P999 > 0 {
			s.Factor = float64(s.Slow.P999) / float64(s.Normal.P999)
		}
		r.Slow = append(r.Slow, s)
	}
	for _, windows := range []map[string]Window{round.Normal, round.Windows} {
		for node, w := range windows {
			w.Writes = nil
			windows[node] = w
		}
	}
	r.Strikes = append(r.Strikes, round)
}

// Verdict is nil when everything was checked and nothing was lost. Times are told, not judged: they
// depend on the machines.
func (r *Report) Verdict() error {
	switch {
	case r.Lost+r.Damaged > 0:
		return fmt.Errorf("acknowledged writes are gone: %s", strings.Join(r.First, "; "))
	case r.Stale > 0:
		return fmt.Errorf("%d reads did not give what was written last", r.Stale)
	case r.Checked < len(r.Nodes):
		return errors.New("not everything was checked")
	case r.Acknowledged == 0:
		return errors.New("no write was acknowledged")
	}
	return nil
}

// Move is the times to move of one transition.
type Move struct {
	From, To string
	Took     []time.Duration // in the order of the strikes
}

// Moves are the times by transition, in order of the nodes.
func (r *Report) Moves() []Move {
	var out []Move
	for _, s := range r.Strikes {
		if s.Move == 0 {
			continue
		}
		i := slices.IndexFunc(out, func(m Move) bool { return m.From == s.Victim && m.To == s.To })
		if i < 0 {
			i = len(out)
			out = append(out, Move{From: s.Victim, To: s.To})
		}
		out[i].Took = append(out[i].Took, s.Move)
	}
	slices.SortStableFunc(out, func(a, b Move) int { return strings.Compare(a.From+" "+a.To, b.From+" "+b.To) })
	return out
}

// OthersLongest is, for each strike, the longest pause in I/O on any node but the one that was struck.
// For handover and slow-disk no node is down: all count.
func (r *Report) OthersLongest() []time.Duration {
	var out []time.Duration
	for _, s := range r.Strikes {
		var longest time.Duration
		for node, w := range s.Windows {
			if node != s.Victim || r.Kind == Handover || r.Kind == SlowDisk {
				longest = max(longest, w.Longest)
			}
		}
		out = append(out, longest)
	}
	return out
}

// text is a strike in a line.
func (r Round) text(kind Kind) string {
	if kind == SlowDisk {
		return fmt.Sprintf("the log of %s (%s) was slow for %s", r.Victim, r.Role, slowTime)
	}
	if r.Move == 0 {
		return fmt.Sprintf("nobody took over from %s", r.Victim)
	}
	return fmt.Sprintf("%s -> %s in %s, all UpToDate after %s", r.Victim, r.To, millis(r.Move), millis(r.UpToDate))
}

func millis(d time.Duration) string {
	if d < 10*time.Millisecond {
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.0f ms", float64(d)/float64(time.Millisecond))
}

// table is rows of cells, the first the head.
type table struct {
	title string
	rows  [][]string
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// maxColumns is how many rounds have a column each.
const maxColumns = 5

// tables are the report's parts.
func (r *Report) tables() []table {
	var out []table
	if r.Kind == SlowDisk {
		out = append(out, r.speedTable())
	} else {
		out = append(out, r.moveTable())
	}
	out = append(out, r.pauseTable())
	if r.Guest != nil {
		out = append(out, r.Guest.table())
	}
	return append(out, r.sumTable())
}

func (r *Report) moveTable() table {
	t := table{title: "Time to move, from the order to the first write that the new primary has acknowledged"}
	moves := r.Moves()
	columns := 0
	for _, m := range moves {
		columns = max(columns, len(m.Took))
	}
	head := []string{"from -> to"}
	if columns > maxColumns {
		columns = 0
		head = append(head, "times")
	}
	for i := range columns {
		head = append(head, fmt.Sprintf("round %d", i+1))
	}
	t.row(append(head, "average", "longest")...)
	for _, m := range moves {
		cells := []string{m.From + " -> " + m.To}
		if columns == 0 {
			cells = append(cells, fmt.Sprint(len(m.Took)))
		}
		for i := range columns {
			if i < len(m.Took) {
				cells = append(cells, millis(m.Took[i]))
			} else {
				cells = append(cells, "")
			}
		}
		t.row(append(cells, millis(average(m.Took)), millis(slices.Max(m.Took)))...)
	}
	for i, took := range published() {
		cells := make([]string, len(head)+2)
		cells[0], cells[len(cells)-2] = fmt.Sprintf("published set-up, transition %d", i+1), millis(took)
		t.row(cells...)
	}
	return t
}

func average(ds []time.Duration) time.Duration {
	var sum time.Duration
	for _, d := range ds {
		sum += d
	}
	return sum / time.Duration(max(len(ds), 1))
}

func (r *Report) pauseTable() table {
	t := table{title: fmt.Sprintf("Pauses in I/O: the longest, and the sum of those of %s and more", pauseFloor)}
	t.row("node", "longest", "sum", "struck itself: longest", "sum")
	for _, node := range r.Nodes {
		var others, own Window
		for _, s := range r.Strikes {
			w := s.Windows[node]
			if node == s.Victim && r.Kind != Handover && r.Kind != SlowDisk {
				own = add(own, w)
			} else {
				others = add(others, w)
			}
		}
		cells := []string{node, millis(others.Longest), millis(others.Pauses), "", ""}
		if own.Answers > 0 {
			cells[3], cells[4] = millis(own.Longest), millis(own.Pauses)
		}
		t.row(cells...)
	}
	return t
}

func (r *Report) speedTable() table {
	t := table{title: fmt.Sprintf("Latency of 4 KiB writes over all nodes, each sync of one node's log taking %d times as long", slowFactor)}
	t.row("slow log on", "role", "normal p50", "p99", "p99.9", "slow p50", "p99", "p99.9", "p99.9 slow/normal", "primary after")
	for _, s := range r.Slow {
		t.row(s.Victim, s.Role, millis(s.Normal.P50), millis(s.Normal.P99), millis(s.Normal.P999),
			millis(s.Slow.P50), millis(s.Slow.P99), millis(s.Slow.P999), fmt.Sprintf("%.1f", s.Factor), s.NewOwner)
	}
	return t
}

func (r *Report) sumTable() table {
	t := table{title: "In all"}
	t.row("what", "value")
	longest := r.OthersLongest()
	t.row("strikes", fmt.Sprint(len(r.Strikes)))
	if len(longest) > 0 {
		t.row("longest pause per strike on nodes not struck: p50, p99, longest", fmt.Sprintf("%s, %s, %s",
			millis(percentile(longest, 50)), millis(percentile(longest, 99)), millis(slices.Max(longest))))
		var took []time.Duration
		for _, s := range r.Strikes {
			took = append(took, s.UpToDate)
		}
		t.row("until all replicas were UpToDate: average, longest", millis(average(took))+", "+millis(slices.Max(took)))
	}
	if r.Kind != SlowDisk {
		stayed := 0
		for _, s := range r.Strikes {
			if s.Move == 0 {
				stayed++
			}
		}
		t.row("strikes after which nobody took over", fmt.Sprint(stayed))
	}
	t.row("writes acknowledged", fmt.Sprint(r.Acknowledged))
	t.row("of these lost, damaged", fmt.Sprintf("%d, %d", r.Lost, r.Damaged))
	t.row("stale reads", fmt.Sprint(r.Stale))
	return t
}

func (r *Report) headline() string {
	return fmt.Sprintf("Drill %s of volume %s, %d rounds, %s, %s long", r.Kind, r.Volume, r.Rounds,
		r.Begun.Local().Format("2006-01-02 15:04:05"), r.Ended.Sub(r.Begun).Round(time.Second))
}

// Text is the report for a terminal.
func (r *Report) Text() string {
	var b strings.Builder
	fmt.Fprintln(&b, r.headline())
	for _, t := range r.tables() {
		fmt.Fprintf(&b, "\n%s\n", t.title)
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		for _, row := range t.rows {
			fmt.Fprintln(w, strings.TrimRight(strings.Join(row, "\t"), "\t"))
		}
		w.Flush() // a strings.Builder takes everything
	}
	return b.String()
}

// Markdown is the report as tables of GitHub's Markdown.
func (r *Report) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n", r.headline())
	for _, t := range r.tables() {
		fmt.Fprintf(&b, "\n%s:\n\n", t.title)
		for i, row := range t.rows {
			fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
			if i == 0 {
				fmt.Fprintf(&b, "|%s\n", strings.Repeat(" --- |", len(row)))
			}
		}
	}
	return b.String()
}
