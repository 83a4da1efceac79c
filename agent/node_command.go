package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"trinas/agent/control"
	"trinas/replica"
)

func (c *cli) nodeCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "node", Short: "List, remove and replace nodes", Args: cobra.NoArgs, RunE: help}
	cmd.AddCommand(c.nodeList(), c.nodeRemove(), c.nodeReplace())
	return cmd
}

func (c *cli) nodeList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the nodes",
		Long: "Lists the nodes. Health is Healthy, Degraded (a node serves, but not as it should: a replica has failed or is\n" +
			"being brought up to date, or its machine is at its limits) or Unfit (it should be given nothing: its log has failed\n" +
			"or is slow, its data directory is full, or it cannot be reached); below it says why.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client := c.client()
			defer client.Close()
			st, err := client.Status(cmd.Context())
			if err != nil {
				return err
			}
			if st.Status == nil {
				return replica.ErrNoIdentity
			}
			return c.print(st.Nodes, nodeTable(*st.Status))
		},
	}
}

// nodeTable has a line for each node.
func nodeTable(st replica.Status) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tADDRESS\tSTATE\tHEALTH\tPRIMARY OF\tREPLICAS")
	for _, n := range st.Nodes {
		var leads, keeps []string
		for _, v := range st.Volumes {
			if v.Primary == n.Name {
				leads = append(leads, v.Name)
			}
			for _, r := range v.Replicas {
				if r.Node == n.Name {
					keeps = append(keeps, v.Name)
				}
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", n.Name, n.Address, nodeState(n), healthText(n.Health),
			orNone(strings.Join(leads, ",")), orNone(strings.Join(keeps, ",")))
	}
	w.Flush() // a strings.Builder takes everything
	for _, n := range st.Nodes {
		b.WriteString(troubleText(n.Name, n.Health, n.HealthReason))
	}
	return b.String()
}

func nodeState(n replica.NodeStatus) string {
	state := "connected"
	switch {
	case !n.Connected:
		state = "not connected"
	case n.Joining:
		state = "joining"
	}
	if n.Leaving {
		state += ", leaving"
	}
	return state
}

func (c *cli) nodeRemove() *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use:   "remove NODE",
		Short: "Move a node's replicas elsewhere and take it out of the cluster",
		Long: "Moves the replicas of NODE to other nodes and takes it out of the cluster. NODE may be dead: its replicas " +
			"are made anew from the others. Its own data directory stays: delete it there by trinas wipe.",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeNode,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.move(cmd.Context(), wait, "Node "+args[0]+" is not in the cluster any more.\n",
				func(ctx context.Context, client *control.Client) error { return client.RemoveNode(ctx, args[0]) },
				func(st replica.Status) (bool, string) {
					for _, n := range st.Nodes {
						if n.Name == args[0] {
							return false, movesOf(st)
						}
					}
					return true, ""
				})
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", true, "wait until it is done, and show how far it is")
	return cmd
}

func (c *cli) nodeReplace() *cobra.Command {
	return &cobra.Command{
		Use:   "replace NODE",
		Short: "Print the line with which a new node takes the place of another",
		Long: "Prints the command to be typed on a new node that takes the place of NODE, within an hour. The new one may have " +
			"the same name and address. When it has joined it gets NODE's replicas, and NODE leaves the cluster.",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeNode,
		RunE: func(cmd *cobra.Command, args []string) error {
			client := c.client()
			defer client.Close()
			inv, err := client.ReplaceNode(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return c.print(inv, "On the new node, within an hour:\n\n    "+inv.Command+"\n")
		},
	}
}

func (c *cli) completeNode(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return c.nodeNames(cmd), cobra.ShellCompDirectiveNoFileComp
}
