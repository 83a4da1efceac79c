package main

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"trinas/agent/drill"
	"trinas/packaging/lab"
)

// phase is a part of the demo in which gaps are measured.
type phase struct {
	name     string
	from, to time.Time
	down     *lab.Node                // not there in this phase; nil: all are
	goal     time.Duration            // the longest gap that should be seen; 0: none set
	gaps     map[string]time.Duration // by node
}

// report is what the demo has found out.
type report struct {
	phases        []*phase
	nodes         []string
	newPrimary    time.Duration // from the kill until another node has seen who follows
	catchUp       time.Duration // from the restart until UpToDate
	copyTime      time.Duration
	imageChecked  bool
	image         error // how the image read back differs
	acknowledged  uint64
	writesChecked bool
	losses        drill.Losses
}

func (r *report) phase(name string, from, to time.Time, down *lab.Node, goal time.Duration) {
	r.phases = append(r.phases, &phase{name: name, from: from, to: to, down: down, goal: goal})
}

// measure fills in the gaps, once the probes have ended.
func (r *report) measure(probes []*probe) {
	for _, probe := range probes {
		r.nodes = append(r.nodes, probe.node.Name)
	}
	for _, ph := range r.phases {
		ph.gaps = map[string]time.Duration{}
		for _, probe := range probes {
			if probe.node != ph.down {
				ph.gaps[probe.node.Name] = probe.longestGap(ph.from, ph.to)
			}
		}
	}
}

func (r *report) addLosses(through string, found drill.Losses) {
	r.losses.Lost += found.Lost
	r.losses.Damaged += found.Damaged
	if r.losses.First == "" && found.First != "" {
		r.losses.First = "through " + through + ": " + found.First
	}
}

// verdict is nil when all was checked and nothing was lost. Times are told, not judged: they
// depend on the machine.
func (r *report) verdict() error {
	switch {
	case r.image != nil:
		return fmt.Errorf("the image is not what was copied in: %w", r.image)
	case !r.imageChecked, !r.writesChecked:
		return errors.New("not everything was checked")
	case r.losses.Lost+r.losses.Damaged > 0:
		return fmt.Errorf("acknowledged writes are gone: %s", r.losses.First)
	case r.acknowledged == 0:
		return errors.New("no write was acknowledged")
	}
	return nil
}

// print writes the table. What was not reached is left out.
func (r *report) print(out io.Writer) {
	fmt.Fprintln(out)
	if len(r.nodes) > 0 {
		r.printGaps(out)
		fmt.Fprintln(out)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	defer w.Flush()
	if r.newPrimary > 0 {
		fmt.Fprintf(w, "time until a new primary\t%s\n", millis(r.newPrimary))
	}
	if r.catchUp > 0 {
		fmt.Fprintf(w, "time to catch up\t%s\n", millis(r.catchUp))
	}
	if r.copyTime > 0 {
		fmt.Fprintf(w, "time to copy the image in\t%s\n", millis(r.copyTime))
	}
	if r.writesChecked {
		fmt.Fprintf(w, "writes acknowledged\t%d\n", r.acknowledged)
		fmt.Fprintf(w, "of these lost\t%d\n", r.losses.Lost+r.losses.Damaged)
	}
}

func (r *report) printGaps(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer w.Flush()
	fmt.Fprint(w, "longest gap in I/O\t")
	for _, ph := range r.phases {
		fmt.Fprintf(w, "%s\t", ph.name)
	}
	fmt.Fprintln(w)
	for _, node := range r.nodes {
		fmt.Fprintf(w, "%s\t", node)
		for _, ph := range r.phases {
			gap, there := ph.gaps[node]
			switch {
			case !there:
				fmt.Fprint(w, "down\t")
			case ph.goal > 0 && gap > ph.goal:
				fmt.Fprintf(w, "over: %s\t", millis(gap))
			default:
				fmt.Fprintf(w, "%s\t", millis(gap))
			}
		}
		fmt.Fprintln(w)
	}
	fmt.Fprint(w, "goal\t")
	for _, ph := range r.phases {
		if ph.goal == 0 {
			fmt.Fprint(w, "\t")
			continue
		}
		fmt.Fprintf(w, "%s\t", millis(ph.goal))
	}
	fmt.Fprintln(w)
}

func millis(d time.Duration) string {
	return fmt.Sprintf("%.0f ms", float64(d)/float64(time.Millisecond))
}
