package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// trial is one figure of the long part, with what is wanted of it.
type trial struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Goal   float64 `json:"goal"`
	Most   bool    `json:"most"` // the goal is the most that the value may be; else the least
	Unit   string  `json:"unit"` // "": a ratio
	Detail string  `json:"detail"`
}

func (t trial) met() bool {
	if t.Most {
		return t.Value <= t.Goal
	}
	return t.Value >= t.Goal
}

func (t trial) goalText() string {
	if t.Most {
		return fmt.Sprintf("at most %g%s", t.Goal, t.Unit)
	}
	return fmt.Sprintf("at least %g%s", t.Goal, t.Unit)
}

func printTrials(out io.Writer, trials []trial) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\ntrial\tmeasured\tgoal\t\t")
	for _, t := range trials {
		verdict := "met"
		if !t.met() {
			verdict = "MISSED"
		}
		fmt.Fprintf(w, "%s\t%.2f%s\t%s\t%s\t%s\n", t.Name, t.Value, t.Unit, t.goalText(), verdict, t.Detail)
	}
	w.Flush()
}
