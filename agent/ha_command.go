package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"trinas/agent/check"
	"trinas/agent/config"
	"trinas/agent/ha"
	"trinas/agent/pve"
	"trinas/replica"
)

func (c *cli) haCommand() *cobra.Command {
	var configPath string
	cmd := &cobra.Command{
		Use:   "ha",
		Short: "Show where HA guests can run, and check the settings of Proxmox HA",
		Args:  cobra.NoArgs, RunE: help,
	}
	cmd.PersistentFlags().StringVar(&configPath, "config", config.Path, "configuration `file`")
	read := func(cmd *cobra.Command) (ha.Cluster, replica.Status, error) {
		return c.readHA(cmd.Context(), configPath, !cmd.Flags().Changed("config"))
	}
	cmd.AddCommand(c.haStatus(read), c.haAdvise(read))
	return cmd
}

// readHA reads Proxmox's files and asks the agent.
func (c *cli) readHA(ctx context.Context, configPath string, optional bool) (ha.Cluster, replica.Status, error) {
	cfg, err := config.Load(configPath, optional)
	if err == nil {
		err = cfg.Validate()
	}
	if err != nil {
		return ha.Cluster{}, replica.Status{}, err
	}
	dir := pve.Dir(cfg.PVE.Dir)
	if !dir.Present() {
		return ha.Cluster{}, replica.Status{}, fmt.Errorf("the cluster file system of Proxmox is not at %q (pve.dir): "+
			"this command is for nodes of Proxmox VE; there, systemctl status pve-cluster", cfg.PVE.Dir)
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	client := c.client()
	defer client.Close()
	st, err := client.Status(ctx)
	if err == nil && st.Status == nil {
		err = errors.New("this node belongs to no cluster of trinas yet: see trinas init and trinas join")
	}
	if err != nil {
		return ha.Cluster{}, replica.Status{}, err
	}
	cluster, err := ha.Read(dir)
	return cluster, *st.Status, err
}

type haReader func(cmd *cobra.Command) (ha.Cluster, replica.Status, error)

func (c *cli) haStatus(read haReader) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show each HA guest on trinas: its state, and which nodes could take it now",
		Long: "Shows every guest that Proxmox HA manages and that has a disk on a storage of type trinas: the node it " +
			"is on, its state, where the primaries of its volumes are, and which nodes could take it now. Below " +
			"stands why the other nodes could not: what HA thinks of them, strict rules, storages that are " +
			"limited to some nodes, and the state of their agents as this node sees it.",
		Example: "  trinas ha status\n  trinas ha status --json | jq '.[] | select(.state == \"error\") | .sid'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cluster, st, err := read(cmd)
			if err != nil {
				return err
			}
			guests := ha.Status(cluster, st)
			return c.print(guests, haTable(guests))
		},
	}
}

// haTable has a line for each guest, and then one for each node and reason that keeps guests away from it.
func haTable(guests []ha.Guest) string {
	if len(guests) == 0 {
		return "No guest that Proxmox HA manages is on a storage of type trinas. Add one: ha-manager add vm:100\n"
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "GUEST\tNAME\tNODE\tSTATE\tVOLUME\tPRIMARY\tCAN RUN ON")
	type reason struct{ node, why string }
	var reasons []reason
	kept := map[reason][]string{}
	for _, g := range guests {
		var able []string
		for _, n := range g.Nodes {
			if n.Able {
				able = append(able, n.Node)
			}
			for _, why := range n.Reasons {
				r := reason{n.Node, why}
				if kept[r] == nil {
					reasons = append(reasons, r)
				}
				kept[r] = append(kept[r], g.SID)
			}
		}
		sid, name, node, state, on := g.SID, orNone(g.Name), orNone(g.Node), g.State, orNone(strings.Join(able, ","))
		for _, v := range g.Volumes {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", sid, name, node, state, v.Name, orNone(v.Primary), on)
			sid, name, node, state, on = "", "", "", "", ""
		}
	}
	w.Flush() // a strings.Builder takes everything
	if len(reasons) > 0 {
		b.WriteString("\n")
	}
	slices.SortStableFunc(reasons, func(a, b reason) int { return strings.Compare(a.node, b.node) })
	for _, r := range reasons {
		who := strings.Join(kept[r], ", ")
		if len(kept[r]) == len(guests) {
			who = "every guest"
		}
		fmt.Fprintf(&b, "not on %s: %s (%s)\n", r.node, r.why, who)
	}
	return b.String()
}

func (c *cli) haAdvise(read haReader) *cobra.Command {
	return &cobra.Command{
		Use:   "advise",
		Short: "Check the settings of Proxmox HA that matter to guests on trinas",
		Long: "Checks what makes HA bring guests on trinas up again soonest, and says by which command it is set:\n\n" +
			"shutdown_policy=migrate moves a node's guests away before it is shut down or rebooted;\n" +
			"max_restart=0 and max_relocate=2 have a guest that cannot start on one node tried on the next at once;\n" +
			"where a volume is on some of the nodes only, a node affinity rule keeps its guests on these.\n\n" +
			"Nothing is changed. The exit status is 0 when all is well, 1 when something is to be set.",
		Example: "  trinas ha advise",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cluster, st, err := read(cmd)
			if err != nil {
				return err
			}
			advice := ha.Advise(cluster, st)
			var found []check.Finding
			for _, a := range advice {
				f := check.Finding{Check: a.Setting, Level: check.OK, Text: a.Text, Do: a.Do}
				if !a.Good {
					f.Level = check.Warning
				}
				found = append(found, f)
			}
			if err := c.print(advice, findingsText(found)); err != nil {
				return err
			}
			if worst := check.Worst(found); worst != check.OK {
				return exitStatus(worst)
			}
			return nil
		},
	}
}
