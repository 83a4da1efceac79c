package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"trinas/agent/check"
	"trinas/agent/config"
	"trinas/agent/control"
	"trinas/replica"
	"trinas/replica/disk"
)

// askTimeout bounds what check waits for the agent, the other nodes' answers included.
const askTimeout = 5 * time.Second

// exitStatus ends the program with a status of its own, after everything has been printed.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

func (c *cli) checkCommand() *cobra.Command {
	var configPath string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Look for what is wrong on this node, and say how to mend it",
		Long: "Looks at the agent and its unit, versions, ports, the data directory's file system and disk, memory,\n" +
			"clocks, the network to the other nodes in both directions, packet sizes, certificates, and how volumes\n" +
			"are mounted; a line for each, with what to do. It works with and without a running agent, before and\n" +
			"after trinas init, changes nothing, and takes 10 seconds at most. The disk is tested with up to 200 synced\n" +
			"writes of 4 KiB.\n\n" +
			"The exit status is 0 when all is well, 1 with warnings, 2 with errors.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			found := c.findings(cmd.Context(), configPath, !cmd.Flags().Changed("config"))
			worst := check.Worst(found)
			report := struct {
				Status check.Level     `json:"status"`
				Checks []check.Finding `json:"checks"`
			}{worst, found}
			if err := c.print(report, findingsText(found)); err != nil {
				return err
			}
			if worst == check.OK {
				return nil
			}
			return exitStatus(worst)
		},
	}
	cmd.Flags().StringVar(&configPath, "config", config.Path, "configuration `file`")
	return cmd
}

// findings gathers what is known of the node and has it checked.
func (c *cli) findings(ctx context.Context, configPath string, optional bool) []check.Finding {
	var found []check.Finding
	bad := func(what string, err error, do string) {
		found = append(found, check.Finding{Check: what, Level: check.Error, Text: err.Error(), Do: do})
	}
	cfg, err := config.Load(configPath, optional)
	if err == nil {
		err = cfg.Validate()
	}
	if err != nil {
		bad("configuration", err, "correct it; the agent does not start with it")
		cfg = config.Default()
	}
	s := check.Subject{Config: cfg, Version: versionText()}
	if err := c.askAgent(ctx, &s); err != nil {
		bad("agent", err, "systemctl status trinas; journalctl -u trinas")
	}
	member, err := replica.Inspect(disk.OS(s.Config.DataDir))
	switch {
	case err == nil:
		s.Member = &member
	case !errors.Is(err, replica.ErrNoIdentity):
		bad("data", err, "see the error; trinas rescue reads the volumes of a damaged node")
	}
	if s.Peers == nil {
		s.Peers = othersOf(member)
	}
	return append(found, check.Run(ctx, s, check.This())...)
}

// askAgent fills in what a running agent says; none is no error.
func (c *cli) askAgent(ctx context.Context, s *check.Subject) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	client := c.client()
	defer client.Close()
	st, err := client.Status(ctx)
	if errors.Is(err, control.ErrNoAgent) {
		return nil
	}
	if err != nil {
		return err
	}
	s.AgentPID, s.AgentState, s.AgentVersion = st.Agent.PID, st.Agent.State, st.Agent.Version
	s.Serving, s.Waiting = st.Agent.NFS != "", st.Agent.State == control.Waiting
	s.Config.DataDir = st.Agent.DataDir // the agent may have been told otherwise by a flag
	if st.Agent.NFS != "" {
		s.Config.NFS.Listen = strings.Split(st.Agent.NFS, ",")
	}
	if st.Status == nil {
		return nil
	}
	s.Address = st.Node.Address
	if own, err := netip.ParseAddrPort(st.Node.Address); err == nil && !listensOn(s.Config, own) {
		s.Config.Peer.Listen = own.String()
	}
	s.Peers = []replica.Member{}
	for _, n := range st.Nodes {
		if n.ID != st.Node.ID {
			s.Peers = append(s.Peers, replica.Member{ID: n.ID, Name: n.Name, Address: n.Address})
		}
	}
	probe, err := client.Probe(ctx)
	if err != nil {
		return fmt.Errorf("ask the other nodes: %w", err)
	}
	s.Probe = &probe
	return nil
}

// listensOn tells whether peer.listen takes connections to an address: it does not where the agent
// was started with other flags than the file has.
func listensOn(cfg config.Config, own netip.AddrPort) bool {
	listen, err := netip.ParseAddrPort(cfg.Peer.Listen)
	return err == nil && listen.Port() == own.Port()
}

func othersOf(m replica.Membership) []replica.Member {
	var out []replica.Member
	for _, other := range m.Members {
		if other.ID != m.ID {
			out = append(out, other)
		}
	}
	return out
}

// findingsText is a line for each finding: how bad, what, and what to do.
func findingsText(found []check.Finding) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, f := range found {
		text := f.Text
		if f.Do != "" {
			text += "; " + f.Do
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", f.Level, f.Check, text)
	}
	w.Flush() // a strings.Builder takes everything
	return b.String()
}
