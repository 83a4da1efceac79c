package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"trinas/agent/drill"
	"trinas/replica"
)

// drillFlags say what a drill shall do.
type drillFlags struct {
	*cli
	rounds   int
	markdown bool
	yes      bool
	guest    drill.Guest
}

func (c *cli) drillCommand() *cobra.Command {
	f := &drillFlags{cli: c}
	var kinds []string
	for _, k := range drill.Kinds() {
		kinds = append(kinds, string(k))
	}
	cmd := &cobra.Command{
		Use:   "drill " + strings.Join(kinds, "|") + " VOLUME",
		Short: "Lose a node on purpose, and measure what guests feel",
		Long: "Strikes every node that keeps VOLUME, one after the other, and tells how long it took until another primary\n" +
			"had acknowledged a write, how long I/O paused on each node, when all replicas were UpToDate again, and that\n" +
			"no acknowledged write was lost:\n\n" +
			drillsText() +
			"\nA probe on every node writes and reads small blocks all the while, through that node's own NFS server. Nothing\n" +
			"is struck while a replica is not UpToDate, and one drill runs at a time. When this command ends early the\n" +
			"agents clean up by themselves, within " + drill.LeaseTime.String() + ". The exit status is 1 when anything was lost.\n" +
			"With --guest, on a node of Proxmox, a guest is pinged meanwhile (fping, or ping).",
		Example: "  trinas drill handover vms\n  trinas drill kill vms --rounds 10 --yes --markdown >kill.md\n" +
			"  trinas drill handover vms --guest 100",
		Args: cobra.ExactArgs(2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return kinds, cobra.ShellCompDirectiveNoFileComp
			}
			return c.completeVolume(cmd, args[1:], prefix)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd.Context(), drill.Plan{Kind: drill.Kind(args[0]), Volume: args[1], Rounds: f.rounds})
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&f.rounds, "rounds", 3, "`times` that each node is struck")
	flags.BoolVar(&f.markdown, "markdown", false, "print the report as Markdown")
	flags.IntVar(&f.guest.ID, "guest", 0, "also ping the guest of Proxmox with this `VMID`; in a handover drill it moves along (qm migrate)")
	flags.StringVar(&f.guest.Address, "guest-address", "", "`address` of the guest (default: what its guest agent says)")
	flags.BoolVar(&f.guest.HA, "guest-ha", false, "move the guest by Proxmox HA (ha-manager relocate: stop and start) instead")
	flags.BoolVar(&f.yes, "yes", false, "do it, without asking")
	return cmd
}

func drillsText() string {
	var b strings.Builder
	for _, k := range drill.Kinds() {
		fmt.Fprintf(&b, "%s: %s.\n", k, k.Does())
	}
	return b.String()
}

func (f *drillFlags) run(ctx context.Context, plan drill.Plan) error {
	if err := plan.Kind.Check(); err != nil {
		return err
	}
	client := f.client()
	defer client.Close()
	status := func(ctx context.Context) (replica.Status, error) {
		st, err := client.Status(ctx)
		if err != nil {
			return replica.Status{}, err
		}
		if st.Status == nil {
			return replica.Status{}, replica.ErrNoIdentity
		}
		return *st.Status, nil
	}
	if err := f.consent(ctx, plan, status); err != nil {
		return err
	}
	show := newProgress(f.errOut, f.json)
	defer show.end()
	leader := drill.Leader{Ask: client.Ask, Status: status, Say: show.say}
	report, err := f.lead(ctx, &leader, plan)
	show.end()
	if report == nil {
		return err
	}
	text := report.Text()
	if f.markdown {
		text = report.Markdown()
	}
	if err := errors.Join(err, f.print(report, text), report.Verdict()); err != nil {
		return errors.New(strings.ReplaceAll(err.Error(), "\n", "; ")) // one line, as all errors
	}
	return nil
}

// lead runs the drill, with a guest where one was named.
func (f *drillFlags) lead(ctx context.Context, leader *drill.Leader, plan drill.Plan) (*drill.Report, error) {
	if f.guest.ID == 0 {
		return leader.Run(ctx, plan)
	}
	if err := f.guest.Start(ctx); err != nil {
		return nil, err
	}
	if plan.Kind == drill.Handover {
		leader.After = func(ctx context.Context, round drill.Round) error { return f.guest.Follow(ctx, round.To) }
	}
	report, err := leader.Run(ctx, plan)
	guest, guestErr := f.guest.Stop()
	if report != nil {
		report.Guest = guest
	}
	return report, errors.Join(err, guestErr)
}

// consent asks, where there is somebody to ask.
func (f *drillFlags) consent(ctx context.Context, plan drill.Plan, status func(context.Context) (replica.Status, error)) error {
	if f.yes {
		return nil
	}
	st, err := status(ctx)
	if err != nil {
		return err
	}
	if err := drill.Ready(st, plan.Volume); err != nil {
		return err
	}
	fmt.Fprint(f.errOut, drill.Describe(plan, st))
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return errors.New("nothing was done: if that is wanted, add --yes")
	}
	fmt.Fprint(f.errOut, "Go on? [y/N] ")
	line, _ := bufio.NewReader(os.Stdin).ReadString('\n')
	if a := strings.ToLower(strings.TrimSpace(line)); a != "y" && a != "yes" {
		return errors.New("nothing was done")
	}
	return nil
}
