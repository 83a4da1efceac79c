package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"trinas/agent/config"
	"trinas/agent/control"
)

// version is set by the linker for packages: -ldflags "-X main.version=1.2.3". It is the one
// package variable, because the linker can set nothing else.
var version string

// versionText is the version that was built: the package's, else what Go noted of the sources.
func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

// cli is what all commands share.
type cli struct {
	out, errOut io.Writer
	socket      string
	json        bool
}

// newCommand builds the command tree. Commands print to out, warnings and progress to errOut.
func newCommand(out, errOut io.Writer) *cobra.Command {
	c := &cli{out: out, errOut: errOut}
	root := &cobra.Command{
		Use:           "trinas",
		Short:         "Replicated NFS storage on the nodes of a cluster",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          help,
	}
	root.SetOut(out)
	root.SetErr(errOut)
	root.PersistentFlags().StringVar(&c.socket, "socket", config.Socket, "control `socket` of the agent to ask")
	root.PersistentFlags().BoolVar(&c.json, "json", false, "print JSON")
	root.AddCommand(
		c.agentCommand(), c.initCommand(), c.joinCommand(), c.tokenCommand(), c.nodeCommand(), c.volumeCommand(), c.verifyCommand(), c.imageCommand(), c.haCommand(),
		c.statusCommand(), c.loadCommand(), c.eventsCommand(), c.webCommand(), c.drillCommand(), c.checkCommand(), c.rescueCommand(), c.wipeCommand(), c.versionCommand(),
	)
	return root
}

// help is what a command does that only has others under it; its Args refuse unknown ones.
func help(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// client is the agent that --socket names. The caller closes it.
func (c *cli) client() *control.Client { return control.NewClient(c.socket) }

// print writes v as JSON when --json was given, else text.
func (c *cli) print(v any, text string) error {
	if c.json {
		return c.printJSON(v)
	}
	_, err := io.WriteString(c.out, text)
	return err
}

func (c *cli) printJSON(v any) error {
	enc := json.NewEncoder(c.out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func (c *cli) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print this program's version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := versionText()
			return c.print(map[string]string{"version": v, "go": runtime.Version()},
				fmt.Sprintf("trinas %s (%s)\n", v, runtime.Version()))
		},
	}
}

// bytesText words a number of bytes for people: "1.5 GiB".
func bytesText(n uint64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1024, 0
	for value >= 1024 && unit < len(units)-1 {
		value /= 1024
		unit++
	}
	if value < 10 {
		return fmt.Sprintf("%.1f %ciB", value, units[unit])
	}
	return fmt.Sprintf("%.0f %ciB", value, units[unit])
}

// timeText is how commands print a moment.
func timeText(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }
