package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"trinas/replica"
)

func (c *cli) verifyCommand() *cobra.Command {
	var repair, status, stop, wait bool
	cmd := &cobra.Command{
		Use:   "verify VOLUME",
		Short: "Compare a volume's replicas byte for byte, and repair them",
		Long: "Compares what all replicas of VOLUME have on their disks, file by file, while the volume is in use, and waits " +
			"for the end. What most replicas have is right. Without --repair what differs is only told; a primary whose own copy " +
			"is damaged hands over. Where no majority agrees it stays as it is. All replicas must be in touch: otherwise it waits " +
			"for them.\n\n" +
			"The bytes are read from the disk, past the kernel's memory. What another program has changed in a file below the data " +
			"directory is found, and what the disk has lost. Blocks that a file never had are not looked at.\n\n" +
			"It goes on when this command is interrupted (--stop ends it), and at another primary. Volumes are verified by schedule " +
			"too: verify.interval in trinas.toml. The exit status is 2 when damage is left.",
		Example:           "  trinas verify vms\n  trinas verify vms --repair\n  trinas verify vms --status --json",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeVolume,
		RunE: func(cmd *cobra.Command, args []string) error {
			if status {
				client := c.client()
				defer client.Close()
				v, err := volumeOf(cmd.Context(), client, args[0])
				if err != nil {
					return err
				}
				return c.verified(v)
			}
			return c.verify(cmd.Context(), args[0], replica.VerifyRequest{Repair: repair, Stop: stop}, wait && !stop)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&repair, "repair", false, "copy what most replicas have to those that have something else")
	f.BoolVar(&status, "status", false, "only show the last verification, or the one that is under way")
	f.BoolVar(&stop, "stop", false, "end the one that is under way")
	f.BoolVar(&wait, "wait", true, "wait until it is done, and show how far it is")
	cmd.MarkFlagsMutuallyExclusive("repair", "status", "stop")
	return cmd
}

// verify asks for a verification and waits for its end.
func (c *cli) verify(ctx context.Context, name string, req replica.VerifyRequest, wait bool) error {
	client := c.client()
	defer client.Close()
	before, err := volumeOf(ctx, client, name)
	if err != nil {
		return err
	}
	if err := client.Verify(ctx, name, req); err != nil {
		return err
	}
	switch {
	case req.Stop:
		return c.print(map[string]bool{"stopped": true}, "The verification of "+name+" ends.\n")
	case !wait:
		return c.print(map[string]bool{"started": true}, "It has begun; see trinas verify "+name+" --status.\n")
	}
	show := newProgress(c.errOut, c.json)
	defer show.end()
	for {
		v, err := volumeOf(ctx, client, name)
		if err != nil {
			return fmt.Errorf("%w; it goes on by itself: see trinas verify %s --status", err, name)
		}
		if s := v.Verify; s != nil && s.Ended != nil && s.Began != nil && !sameMoment(s, before.Verify) {
			show.end()
			return c.verified(v)
		} else if s != nil {
			show.say(verifyProgress(s))
		}
		select {
		case <-time.After(moveLook):
		case <-ctx.Done():
			return fmt.Errorf("%w; it goes on by itself: see trinas verify %s --status", ctx.Err(), name)
		}
	}
}

// sameMoment reports that both are one verification.
func sameMoment(a, b *replica.VerifyStatus) bool {
	return b != nil && b.Began != nil && a.Began.Equal(*b.Began)
}

// verified prints a volume's last verification.
func (c *cli) verified(v replica.VolumeStatus) error {
	s := v.Verify
	if s == nil {
		return fmt.Errorf("volume %s has no primary that could tell: see trinas status", v.Name)
	}
	if err := c.print(s, verifyText(v.Name, s)); err != nil {
		return err
	}
	if s.Damaged() > 0 {
		return exitStatus(2)
	}
	return nil
}

// verifyProgress is one line about a verification that is under way, "" about another.
func verifyProgress(s *replica.VerifyStatus) string {
	switch s.State {
	case replica.VerifyPaused:
		return fmt.Sprintf("%.1f%%, waits: %s", percent(s.DoneBytes, s.TotalBytes), s.Waiting)
	case replica.VerifyRunning:
		left := time.Duration(s.SecondsLeft * float64(time.Second)).Round(time.Second)
		text := fmt.Sprintf("%.1f%% of %s", percent(s.DoneBytes, s.TotalBytes), bytesText(s.TotalBytes))
		if left > 0 {
			text += fmt.Sprintf(", %s left", left)
		}
		if n := len(s.Findings) + s.More; n > 0 {
			text += fmt.Sprintf(", %d findings", n)
		}
		return text
	}
	return ""
}

func percent(done, total uint64) float64 { return 100 * float64(done) / float64(max(total, 1)) }

// verifyText is what trinas verify shows at its end.
func verifyText(name string, s *replica.VerifyStatus) string {
	var b strings.Builder
	switch s.State {
	case replica.VerifyNever:
		fmt.Fprintf(&b, "%s was never verified.\n", name)
	case replica.VerifyRunning, replica.VerifyPaused:
		fmt.Fprintf(&b, "%s is being verified: %s\n", name, verifyProgress(s))
	default:
		fmt.Fprintf(&b, "%s: verification %s, %s of %s, from %s to %s\n", name, s.State, bytesText(s.DoneBytes), bytesText(s.TotalBytes),
			timeText(*s.Began), timeText(*s.Ended))
	}
	for _, f := range s.Findings {
		fmt.Fprintf(&b, "  %s\n", findingText(f))
	}
	switch {
	case s.More > 0:
		fmt.Fprintf(&b, "  and %d more: see the journal of the primary\n", s.More)
	case s.Ended != nil && len(s.Findings) == 0 && s.State == replica.VerifyDone:
		fmt.Fprintln(&b, "All replicas are the same.")
	}
	b.WriteString(nextSteps(name, s))
	if s.Next != nil {
		fmt.Fprintf(&b, "The next one is due %s.\n", timeText(*s.Next))
	}
	return b.String()
}

// nextSteps says what to do about the findings that are left.
func nextSteps(name string, s *replica.VerifyStatus) string {
	var repair, lost bool
	for _, f := range s.Findings {
		repair = repair || !f.Repaired && f.What != replica.FoundNoMajority
		lost = lost || f.What == replica.FoundNoMajority
	}
	text := ""
	if repair && s.Ended != nil {
		text += fmt.Sprintf("Copy what most replicas have to the others: trinas verify %s --repair\n", name)
	}
	if lost {
		text += "Where no majority agrees nobody knows which copy is right: restore the file from a backup.\n"
	}
	return text
}

func findingText(f replica.VerifyFinding) string {
	where := "the volume's table"
	if f.What != replica.FoundTable {
		where = fmt.Sprintf("%s, 1 MiB at byte %d", f.Path, f.Offset)
	}
	end := "not repaired"
	if f.Repaired {
		end = "repaired"
	}
	text := fmt.Sprintf("%s: %s on %s, %s", where, f.What, strings.Join(f.Nodes, ", "), end)
	if f.Detail != "" {
		text += " (" + f.Detail + ")"
	}
	return text
}

// verifyLine is what trinas status says of a volume's verification; "" when there is nothing to say.
func verifyLine(v replica.VolumeStatus) string {
	s := v.Verify
	switch {
	case s == nil:
		return ""
	case s.State == replica.VerifyRunning || s.State == replica.VerifyPaused:
		return fmt.Sprintf("%s is being verified: %s", v.Name, verifyProgress(s))
	case s.Damaged() > 0:
		return fmt.Sprintf("%s has %d ranges that differ between replicas: trinas verify %s --status", v.Name, s.Damaged(), v.Name)
	}
	return ""
}
