package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"trinas/agent/control"
	"trinas/replica"
)

func (c *cli) volumeCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "volume", Short: "Make, list and delete volumes, and say who may mount them", Args: cobra.NoArgs, RunE: help}
	cmd.AddCommand(c.volumeCreate(), c.volumeList(), c.volumeShow(), c.volumeDelete(), c.volumePrimary(), c.volumeMove(), c.volumeRetry(), c.volumeRebuild(),
		c.volumeAllow(), c.volumeDeny())
	return cmd
}

func (c *cli) volumeCreate() *cobra.Command {
	var replicas int
	cmd := &cobra.Command{
		Use:               "create NAME",
		Short:             "Make an empty volume, exported as /NAME",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			client := c.client()
			defer client.Close()
			v, err := client.CreateVolume(cmd.Context(), args[0], replicas)
			if err != nil {
				return err
			}
			return c.print(v, fmt.Sprintf("Volume %s is made and exported as /%s on every node.\n", v.Name, v.Name))
		},
	}
	cmd.Flags().IntVar(&replicas, "replicas", 0, "`number` of nodes that keep a copy (default 3, or all where there are fewer)")
	return cmd
}

func (c *cli) volumeList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the volumes",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client := c.client()
			defer client.Close()
			vs, err := client.Volumes(cmd.Context())
			if err != nil {
				return err
			}
			return c.print(vs, volumeTable(vs))
		},
	}
}

// volumeTable has a line for each volume.
func volumeTable(vs []replica.VolumeStatus) string {
	if len(vs) == 0 {
		return "No volumes. Make one: trinas volume create NAME\n"
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "VOLUME\tPRIMARY\tREPLICAS\tFILES\tUSED\tCLIENTS")
	for _, v := range vs {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\n", v.Name, orNone(v.Primary), replicaSummary(v.Replicas), v.Files,
			bytesText(v.UsedBytes), clientSummary(v.Clients))
	}
	w.Flush() // a strings.Builder takes everything
	return b.String()
}

func (c *cli) volumeDelete() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:               "delete NAME --yes",
		Short:             "Delete a volume and everything in it, on every node",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeVolume,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !yes {
				return fmt.Errorf("volume %s and everything in it would be gone on every node: add --yes if that is wanted", args[0])
			}
			client := c.client()
			defer client.Close()
			if err := client.DeleteVolume(cmd.Context(), args[0]); err != nil {
				return err
			}
			return c.print(map[string]string{"deleted": args[0]}, "Volume "+args[0]+" is deleted.\n")
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "delete it, without asking")
	return cmd
}

func (c *cli) volumePrimary() *cobra.Command {
	return &cobra.Command{
		Use:               "primary NAME [NODE]",
		Short:             "Hand a volume's primary over to another node",
		Long:              "Hands the primary of a volume over to NODE, or to the node that is furthest along.",
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: c.completePrimary,
		RunE: func(cmd *cobra.Command, args []string) error {
			node := ""
			if len(args) == 2 {
				node = args[1]
			}
			client := c.client()
			defer client.Close()
			if err := client.SetPrimary(cmd.Context(), args[0], node); err != nil {
				return err
			}
			v, err := volumeOf(cmd.Context(), client, args[0])
			if err != nil {
				return err
			}
			return c.print(map[string]string{"volume": v.Name, "primary": v.Primary},
				fmt.Sprintf("The primary of %s is now %s.\n", v.Name, orNone(v.Primary)))
		},
	}
}

func (c *cli) volumeRetry() *cobra.Command {
	return &cobra.Command{
		Use:   "retry VOLUME",
		Short: "Bring this node's failed replica of a volume back into service",
		Long: "Opens this node's replica of VOLUME again, which is Failed, without a restart of the agent: after its disk was mended or " +
			"space was made. The agent does so by itself, a minute after the failure, then ever less often, at least each hour.",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeVolume,
		RunE: func(cmd *cobra.Command, args []string) error {
			client := c.client()
			defer client.Close()
			if err := client.RetryReplica(cmd.Context(), args[0]); err != nil {
				return err
			}
			return c.print(map[string]string{"retried": args[0]}, "The replica of "+args[0]+" is in service; trinas status shows when it is UpToDate.\n")
		},
	}
}

func (c *cli) volumeRebuild() *cobra.Command {
	var wait, discard bool
	cmd := &cobra.Command{
		Use:   "rebuild VOLUME [NODE]",
		Short: "Make a node's failed replica of a volume anew from the others, in place",
		Long: "Makes the replica of VOLUME on NODE, or on this node, anew from the other replicas, where it is. It is for one that is Failed and does " +
			"not come back (trinas volume retry), because its checkpoint or its log is damaged.\n\nThe replica leaves the volume and joins again, empty. The volume " +
			"serves all the while, and stands still if one more of its nodes is lost meanwhile, as with any Failed replica. It is refused while fewer of the other replicas are UpToDate than the volume needs. " +
			"What the replica had is kept in DATA_DIR/rebuild until the new one is complete; with --discard it is removed first, where there is no room for both.\n\n" +
			"If NODE is lost meanwhile, trinas status says that a replica is missing: the same command on a node without a replica makes it there.",
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: c.completePrimary,
		RunE: func(cmd *cobra.Command, args []string) error {
			node := ""
			if len(args) == 2 {
				node = args[1]
			}
			on := node
			return c.move(cmd.Context(), wait, fmt.Sprintf("The replica of %s is made anew and UpToDate.\n", args[0]),
				func(ctx context.Context, client *control.Client) error {
					return client.RebuildReplica(ctx, args[0], node, discard)
				},
				func(st replica.Status) (bool, string) {
					if on == "" {
						on = st.Node.Name
					}
					return rebuildOf(st, args[0], on)
				})
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", true, "wait until it is done, and show how far it is")
	cmd.Flags().BoolVar(&discard, "discard", false, "remove what the replica has before the new one is made, not after")
	return cmd
}

// rebuildOf says whether a replica is made anew, and how far it is.
func rebuildOf(st replica.Status, volume, node string) (done bool, how string) {
	for _, v := range st.Volumes {
		if v.Name != volume {
			continue
		}
		for _, r := range v.Replicas {
			switch {
			case r.Node != node:
			case r.Resync != nil:
				return false, fmt.Sprintf("%s on %s: %s", volume, node, resyncText(r.Resync))
			default:
				return r.State == replica.UpToDate, fmt.Sprintf("%s on %s: %s", volume, node, r.State)
			}
		}
		return false, fmt.Sprintf("%s on %s: not there yet", volume, node)
	}
	return true, "" // deleted meanwhile
}

func volumeOf(ctx context.Context, client *control.Client, name string) (replica.VolumeStatus, error) {
	vs, err := client.Volumes(ctx)
	if err != nil {
		return replica.VolumeStatus{}, err
	}
	for _, v := range vs {
		if v.Name == name {
			return v, nil
		}
	}
	return replica.VolumeStatus{}, fmt.Errorf("volume %s: %w (see trinas volume list)", name, replica.ErrNoVolume)
}

func (c *cli) completeVolume(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	st := c.statusForCompletion(cmd)
	var names []string
	for _, v := range st.Volumes {
		names = append(names, v.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (c *cli) completePrimary(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) != 1 {
		return c.completeVolume(cmd, args, prefix)
	}
	return c.nodeNames(cmd), cobra.ShellCompDirectiveNoFileComp
}

// nodeNames are the nodes' names, for completion.
func (c *cli) nodeNames(cmd *cobra.Command) (names []string) {
	for _, n := range c.statusForCompletion(cmd).Nodes {
		names = append(names, n.Name)
	}
	return names
}

// statusForCompletion is the node's status, or an empty one: a shell that waits for a completion
// is not to hang, nor to be told why there is none.
func (c *cli) statusForCompletion(cmd *cobra.Command) replica.Status {
	ctx, cancel := context.WithTimeout(cmd.Context(), time.Second)
	defer cancel()
	client := c.client()
	defer client.Close()
	st, err := client.Status(ctx)
	if err != nil || st.Status == nil {
		return replica.Status{}
	}
	return *st.Status
}
