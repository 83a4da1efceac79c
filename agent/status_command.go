package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"trinas/agent/control"
)

func (c *cli) statusCommand() *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the cluster, its volumes and their replicas",
		Long: "Shows the cluster as this node sees it. A replica is UpToDate, SyncTarget (catching up), Outdated\n" +
			"(not connected), Failed (its disk did not do what it must) or Diskless. Lag is what a replica has\n" +
			"yet to get of its primary's log.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client := c.client()
			defer client.Close()
			if watch {
				return c.watch(cmd.Context(), client, time.NewTicker(time.Second))
			}
			st, err := client.Status(cmd.Context())
			if err != nil {
				return err
			}
			return c.print(st, statusText(st))
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again every second, until interrupted")
	return cmd
}

// watch shows the status at once and at every tick until ctx ends, which is no error. An agent
// that does not answer is shown as that: it may be restarting.
func (c *cli) watch(ctx context.Context, client *control.Client, ticker *time.Ticker) error {
	defer ticker.Stop()
	clear := ""
	if f, ok := c.out.(*os.File); ok && !c.json && term.IsTerminal(int(f.Fd())) {
		clear = "\x1b[H\x1b[J" // cursor home, erase to the end (ECMA-48 CUP, ED)
	}
	for first := true; ; first = false {
		st, err := client.Status(ctx)
		if ctx.Err() != nil {
			return nil
		}
		frame := c.frame(st, err)
		if clear == "" && !first && !c.json {
			frame = "\n" + frame
		}
		if _, err := io.WriteString(c.out, clear+frame); err != nil {
			return fmt.Errorf("print status: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// frame is one showing: text with the time, or one line of JSON.
func (c *cli) frame(st control.Status, err error) string {
	if !c.json {
		head := timeText(time.Now()) + "\n"
		if err != nil {
			return head + err.Error() + "\n"
		}
		return head + statusText(st)
	}
	var v any = st
	if err != nil {
		v = control.Error{Text: err.Error()}
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprintf("{\"error\":%q}\n", err)
	}
	return string(b) + "\n"
}
