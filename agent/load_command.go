package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
)

// sparkOver is how much of the past a sparkline shows.
const sparkOver = 10 * time.Minute

func (c *cli) loadCommand() *cobra.Command {
	var watch, guests bool
	var history time.Duration
	cmd := &cobra.Command{
		Use:   "load",
		Short: "Show the load of all nodes, or of their guests",
		Long: "Shows the load of all nodes, as measured within the last seconds: I/O delay (the share of time in which\n" +
			"processors waited for a disk), CPU, load average over 1, 5 and 15 minutes, memory, capacity of the data\n" +
			"directory's file system, network in and out; then the log's disk (how busy it is) and the agent's own\n" +
			"writes of the log (what 99 of 100 did not exceed), and pressure: the share of time in which something\n" +
			"waited for a disk. A node that does not answer is shown with its last figures and their age.\n\n" +
			"With --guests, each of Proxmox's guests: CPU of the processors that it may use, memory, network as the\n" +
			"guest sees it, and the I/O on each of its images through its node's agent.",
		Example: "  trinas load --watch\n" +
			"  trinas load --guests\n" +
			"  trinas load --json --history 10m | jq '.nodes[0].history.values.cpu_percent'\n" +
			"  trinas load --json | jq '.nodes[] | {node, cpu: .load.cpu_percent}'",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client := c.client()
			defer client.Close()
			look := func(ctx context.Context) (any, string, error) {
				span := history
				if watch && !guests && !c.json {
					span = max(span, sparkOver)
				}
				l, err := client.Load(ctx, span)
				if err != nil {
					return nil, "", err
				}
				if guests {
					return l, guestText(l), nil
				}
				return l, loadText(l), nil
			}
			if watch {
				return c.watch(cmd.Context(), time.NewTicker(time.Second), look)
			}
			l, text, err := look(cmd.Context())
			if err != nil {
				return err
			}
			return c.print(l, text)
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again every second, with sparklines of the last ten minutes, until interrupted")
	cmd.Flags().BoolVarP(&guests, "guests", "g", false, "show the guests")
	cmd.Flags().DurationVar(&history, "history", 0, "with --json: so much of the past, too, an hour at most")
	return cmd
}
