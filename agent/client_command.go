package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"trinas/replica"
	"trinas/replica/volume"
)

// This file has the commands about who may use a volume besides the nodes.

func (c *cli) volumeAllow() *cobra.Command {
	var readOnly bool
	var squash string
	cmd := &cobra.Command{
		Use:   "allow VOLUME CLIENT",
		Short: "Let other hosts mount a volume",
		Long: "Lets the hosts of CLIENT, an address or a network such as 192.0.2.0/24, mount VOLUME from every node\n" +
			"whose nfs.listen names an address that they reach. A rule for the same CLIENT is replaced; of several\n" +
			"that hold for a host the one with the longest prefix counts. All nodes must run a version that knows\n" +
			"this command. The nodes themselves need no rule for their own agents.",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: c.completeVolume,
		RunE: func(cmd *cobra.Command, args []string) error {
			client := c.client()
			defer client.Close()
			rule, err := client.Allow(cmd.Context(), args[0], args[1], readOnly, volume.Squash(squash))
			if err != nil {
				return err
			}
			return c.print(rule, fmt.Sprintf("Volume %s may be mounted by %s.\n", args[0], rule))
		},
	}
	cmd.Flags().BoolVar(&readOnly, "read-only", false, "nothing may be changed")
	cmd.Flags().StringVar(&squash, "squash", string(volume.SquashRoot),
		"`who` of the client's users becomes nobody (65534): root, none or all")
	// The flag was defined in the line above.
	_ = cmd.RegisterFlagCompletionFunc("squash", cobra.FixedCompletions(
		[]string{string(volume.SquashRoot), string(volume.SquashNone), string(volume.SquashAll)}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (c *cli) volumeDeny() *cobra.Command {
	return &cobra.Command{
		Use:   "deny VOLUME CLIENT",
		Short: "Take back what trinas volume allow has granted",
		Long: "Removes the rule for CLIENT. Its hosts get \"permission denied\" from their next request on, unless a\n" +
			"rule for a larger network holds for them: what they had not written yet is lost, so unmount there first.",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: c.completeClient,
		RunE: func(cmd *cobra.Command, args []string) error {
			client := c.client()
			defer client.Close()
			if err := client.Deny(cmd.Context(), args[0], args[1]); err != nil {
				return err
			}
			return c.print(map[string]string{"volume": args[0], "denied": args[1]},
				fmt.Sprintf("Volume %s has no rule for %s any more.\n", args[0], args[1]))
		},
	}
}

func (c *cli) volumeShow() *cobra.Command {
	return &cobra.Command{
		Use:               "show VOLUME",
		Short:             "Show a volume's replicas, and who may mount it",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeVolume,
		RunE: func(cmd *cobra.Command, args []string) error {
			client := c.client()
			defer client.Close()
			v, err := volumeOf(cmd.Context(), client, args[0])
			if err != nil {
				return err
			}
			return c.print(v, volumeText(v))
		},
	}
}

// volumeText has a line for each replica, then one for each rule.
func volumeText(v replica.VolumeStatus) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "VOLUME\tPRIMARY\tUSED\tREPLICA\tROLE\tSTATE\tLAG")
	volumeLines(w, v)
	fmt.Fprintln(w)
	if len(v.Clients) == 0 {
		fmt.Fprintf(w, "Only the nodes themselves may mount it. Let others: trinas volume allow %s CLIENT\n", v.Name)
	} else {
		fmt.Fprintln(w, "CLIENT\tACCESS\tSQUASHED")
	}
	for _, r := range v.Clients {
		access := "read-write"
		if r.ReadOnly {
			access = "read-only"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", volume.ClientText(r.Client), access, r.Squash)
	}
	w.Flush() // a strings.Builder takes everything
	return b.String()
}

// clientSummary names one client, or counts several.
func clientSummary(rules []volume.Rule) string {
	switch len(rules) {
	case 0:
		return "-"
	case 1:
		return volume.ClientText(rules[0].Client)
	}
	return fmt.Sprintf("%d rules", len(rules))
}

func (c *cli) completeClient(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) != 1 {
		return c.completeVolume(cmd, args, prefix)
	}
	var clients []string
	for _, v := range c.statusForCompletion(cmd).Volumes {
		if v.Name != args[0] {
			continue
		}
		for _, r := range v.Clients {
			clients = append(clients, volume.ClientText(r.Client))
		}
	}
	return clients, cobra.ShellCompDirectiveNoFileComp
}
