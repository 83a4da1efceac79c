package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"trinas/agent/control"
	"trinas/replica"
)

func (c *cli) volumeMove() *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use:   "move VOLUME FROM [TO]",
		Short: "Move a volume's replica from one node to another",
		Long: "Moves the replica of VOLUME on node FROM to node TO, or to the node with the fewest. The new replica is brought up to " +
			"date first; the volume serves all the while.",
		Args: cobra.RangeArgs(2, 3),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 || len(args) > 2 {
				return c.completeVolume(cmd, args, prefix)
			}
			return c.nodeNames(cmd), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			to := ""
			if len(args) == 3 {
				to = args[2]
			}
			return c.move(cmd.Context(), wait, fmt.Sprintf("The replica of %s has left %s.\n", args[0], args[1]),
				func(ctx context.Context, client *control.Client) error {
					return client.MoveVolume(ctx, args[0], args[1], to)
				},
				func(st replica.Status) (bool, string) {
					for _, v := range st.Volumes {
						if v.Name == args[0] {
							return len(v.Leaving) == 0, movesOf(st)
						}
					}
					return true, ""
				})
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", true, "wait until it is done, and show how far it is")
	return cmd
}

// Waits between two looks at how far a move is.
const (
	moveLook      = 500 * time.Millisecond
	moveLookPipe  = 10 * time.Second // between two lines where there is no terminal
	moveGoesOnTip = "it goes on by itself; see trinas status"
)

// move starts a move and, if wanted, waits until done says that it is over, showing meanwhile what
// done tells. On a terminal that is one line.
func (c *cli) move(ctx context.Context, wait bool, text string, start func(context.Context, *control.Client) error,
	done func(replica.Status) (bool, string)) error {
	client := c.client()
	defer client.Close()
	if err := start(ctx, client); err != nil {
		return err
	}
	if !wait {
		return c.print(map[string]bool{"started": true}, "It has begun; see trinas status.\n")
	}
	show := newProgress(c.errOut, c.json)
	defer show.end()
	for {
		st, err := client.Status(ctx)
		if err != nil {
			return fmt.Errorf("%w; %s", err, moveGoesOnTip)
		}
		if st.Status != nil {
			over, how := done(*st.Status)
			if over {
				show.end()
				return c.print(map[string]bool{"done": true}, text)
			}
			show.say(how)
		}
		select {
		case <-time.After(moveLook):
		case <-ctx.Done():
			return fmt.Errorf("%w; %s", ctx.Err(), moveGoesOnTip)
		}
	}
}

// movesOf says how far the volumes are that are moving.
func movesOf(st replica.Status) string {
	var parts []string
	for _, v := range st.Volumes {
		if len(v.Leaving) == 0 {
			continue
		}
		part := v.Name + " leaves " + strings.Join(v.Leaving, ", ")
		for _, r := range v.Replicas {
			if r.Resync != nil {
				part += fmt.Sprintf(", %s %s", r.Node, resyncText(r.Resync))
			}
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "; ")
}

// progress shows one changing line on a terminal, and a line now and then elsewhere.
type progress struct {
	out      io.Writer
	terminal bool
	last     string
	said     time.Time
}

func newProgress(out io.Writer, quiet bool) *progress {
	file, ok := out.(*os.File)
	p := &progress{out: out, terminal: ok && term.IsTerminal(int(file.Fd()))}
	if quiet {
		p.out = io.Discard
	}
	return p
}

func (p *progress) say(line string) {
	if line == "" || line == p.last {
		return
	}
	switch {
	case p.terminal:
		fmt.Fprintf(p.out, "\r\x1b[K%s", line)
	case time.Since(p.said) >= moveLookPipe:
		fmt.Fprintln(p.out, line)
		p.said = time.Now()
	}
	p.last = line
}

// end leaves the terminal as it was. May be called twice.
func (p *progress) end() {
	if p.terminal && p.last != "" {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.last = ""
	}
}
