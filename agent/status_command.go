package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
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
				return c.watch(cmd.Context(), time.NewTicker(time.Second), func(ctx context.Context) (any, string, error) {
					st, err := client.Status(ctx)
					return st, statusText(st), err
				})
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
