package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (c *cli) initCommand() *cobra.Command {
	var cluster, node string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make a new cluster with this node as its first",
		Long: "Makes a new cluster whose first node is this one, and prints the command that lets another node\n" +
			"join. The agent must be running, with an empty data directory. On Proxmox the other nodes of its\n" +
			"cluster join by themselves, within seconds of their agent's start: invitations for them lie in\n" +
			"/etc/pve/priv/trinas, which only root may read (pve.dir in trinas.toml(5)).",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client := c.client()
			defer client.Close()
			inv, err := client.Init(cmd.Context(), cluster, node)
			if err != nil {
				return err
			}
			return c.print(inv, fmt.Sprintf("Cluster %s is made. On another node, within an hour:\n\n    %s\n\n"+
				"For one more node after that: trinas token\n", cluster, inv.Command))
		},
	}
	cmd.Flags().StringVar(&cluster, "name", "trinas", "`name` of the cluster")
	cmd.Flags().StringVar(&node, "node", "", "`name` of this node (default: node.name of the configuration)")
	return cmd
}

func (c *cli) joinCommand() *cobra.Command {
	var token, node string
	cmd := &cobra.Command{
		Use:   "join ADDRESS --token TOKEN",
		Short: "Make this node a member of an existing cluster",
		Long: "Makes this node a member of the cluster that the node at ADDRESS (host or host:port) belongs to. The\n" +
			"token comes from trinas init or trinas token there. The agent must be running, with an empty data\n" +
			"directory. A join that fails or is interrupted leaves nothing behind: once its cause is mended, type\n" +
			"it again; the token stays good until its hour is over or a node has arrived by it.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client := c.client()
			defer client.Close()
			if err := client.Join(cmd.Context(), node, args[0], token); err != nil {
				return err
			}
			return c.print(map[string]string{"joined": args[0]}, "This node has joined the cluster of "+args[0]+".\n")
		},
	}
	cmd.Flags().StringVar(&token, "token", "", "`token` from the cluster")
	cmd.Flags().StringVar(&node, "node", "", "`name` of this node (default: node.name of the configuration)")
	// The flag was defined two lines above, so this cannot fail.
	_ = cmd.MarkFlagRequired("token")
	return cmd
}

func (c *cli) tokenCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "token",
		Short: "Make a token that lets one more node join",
		Long:  "Makes a token that lets one more node join the cluster: once, within an hour.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client := c.client()
			defer client.Close()
			inv, err := client.Token(cmd.Context())
			if err != nil {
				return err
			}
			return c.print(inv, inv.Command+"\n")
		},
	}
}
