package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"trinas/agent/control"
)

const (
	followEvery = time.Second
	// followBack is how far back each look goes: a node's clock may be behind, or its answer late.
	followBack = 30 * time.Second
)

func (c *cli) eventsCommand() *cobra.Command {
	var follow bool
	var since string
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show what has happened in the cluster",
		Long: "Shows what the agents of all nodes have noticed, in one list in order of time, the newest last: new primaries,\n" +
			"hand-overs, resyncs, failures, nodes that come and go, with how long it took or lasted. What several nodes\n" +
			"tell of the same thing is one line, with the nodes that told it. Times are the nodes' own clocks'. A node that\n" +
			"does not answer is named. trinas-events(7) explains each event.",
		Example: "  trinas events --since 1h\n  trinas events --follow\n  trinas events --since 2026-11-24T08:00:00+01:00 --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			from, err := sinceTime(since, time.Now())
			if err != nil {
				return err
			}
			client := c.client()
			defer client.Close()
			if follow {
				return c.followEvents(cmd.Context(), client, from)
			}
			all, err := client.Events(cmd.Context(), from)
			if err != nil {
				return err
			}
			if err := c.print(all, eventsText(all.Events)); err != nil {
				return err
			}
			c.sayMissing(all.Missing, nil)
			return nil
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on showing what happens, until interrupted; with --json a line each")
	cmd.Flags().StringVar(&since, "since", "24h", "show what has happened since this `time`: so long ago (90s, 2h), or RFC 3339")
	return cmd
}

// sinceTime reads what --since says.
func sinceTime(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	return time.Time{}, fmt.Errorf("--since %s: give a duration such as 90s or 2h, or a time such as %s", text, now.Format(time.RFC3339))
}

// followEvents shows what happens until ctx ends, which is no error. An agent that does not answer is
// named once; it may be restarting.
func (c *cli) followEvents(ctx context.Context, client *control.Client, from time.Time) error {
	shown := map[string]time.Time{} // by ID
	var missing map[string]bool
	silent := false
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		all, err := client.Events(ctx, from)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && len(shown) == 0 && errors.Is(err, control.ErrNoAgent):
			return err
		case err != nil && !silent:
			fmt.Fprintln(c.errOut, "trinas:", err)
		case err == nil:
			if err := c.showNew(all.Events, shown); err != nil {
				return err
			}
			missing = c.sayMissing(all.Missing, missing)
			if back := time.Now().Add(-followBack); back.After(from) {
				from = back
				maps.DeleteFunc(shown, func(_ string, at time.Time) bool { return at.Before(from) })
			}
		}
		silent = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// showNew prints the events that have not been shown.
func (c *cli) showNew(all []control.Event, shown map[string]time.Time) error {
	var fresh []control.Event
	for _, e := range all {
		if !slices.ContainsFunc(e.IDs, func(id string) bool { _, seen := shown[id]; return seen }) {
			fresh = append(fresh, e)
		}
		for _, id := range e.IDs {
			shown[id] = e.Time
		}
	}
	if !c.json {
		_, err := io.WriteString(c.out, eventsText(fresh))
		return err
	}
	enc := json.NewEncoder(c.out)
	for _, e := range fresh {
		if err := enc.Encode(e); err != nil {
			return err
		}
	}
	return nil
}

// sayMissing names the nodes that did not answer, those that said had answered before; it returns them.
func (c *cli) sayMissing(nodes []control.MissingNode, said map[string]bool) map[string]bool {
	missing := map[string]bool{}
	for _, m := range nodes {
		missing[m.Node] = true
		if !said[m.Node] && !c.json {
			fmt.Fprintf(c.errOut, "no answer from %s, whose own events are missing: %s\n", m.Node, m.Error)
		}
	}
	return missing
}

// eventsText has a line for each event.
func eventsText(all []control.Event) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, e := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", e.Time.Local().Format("2006-01-02 15:04:05.000"), strings.Join(e.Nodes, ","),
			e.Level, e.Event, eventLine(e))
	}
	w.Flush() // a strings.Builder takes everything
	return b.String()
}

// eventLine is the rest: what it is about, in words, and how long it took.
func eventLine(e control.Event) string {
	parts := []string{e.Text}
	add := func(key, value string) {
		if value != "" {
			parts = append(parts, key+"="+value)
		}
	}
	add("volume", e.Volume)
	add("node", e.Peer)
	for _, key := range slices.Sorted(maps.Keys(e.Details)) {
		add(key, e.Details[key])
	}
	if e.Took > 0 {
		add("took", e.Took.Round(time.Millisecond).String())
	}
	return strings.Join(parts, " ")
}
