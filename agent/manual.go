//go:build manual

package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"trinas/agent/config"
	"trinas/agent/journal"
)

// This main is another program than the agent: go run -tags manual ./agent DIR writes the man pages
// and the shell completions that the command tree has in it. It has a build tag instead of a hidden
// command so that the agent carries no Markdown and YAML libraries.
func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run -tags manual ./agent DIR")
		os.Exit(2)
	}
	if err := writeManual(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "manual:", err)
		os.Exit(1)
	}
}

// pvePage is trinas-pve(5) without its head.
//
//go:embed trinas-pve.md
var pvePage []byte

// writeManual writes dir/man/*.1, dir/man/trinas.toml.5, dir/man/trinas-pve.5, dir/man/trinas-events.7, the journal's
// catalog as dir/trinas.catalog, and dir/completion/SHELL/FILE under the names that the shells look
// for.
func writeManual(dir string) error {
	root := newCommand(os.Stdout, os.Stderr)
	if err := writePages(root, filepath.Join(dir, "man")); err != nil {
		return err
	}
	for _, c := range []struct {
		path  string
		write func(file string) error
	}{
		{"bash/trinas", func(file string) error { return root.GenBashCompletionFileV2(file, true) }},
		{"zsh/_trinas", func(file string) error { return root.GenZshCompletionFile(file) }},
		{"fish/trinas.fish", func(file string) error { return root.GenFishCompletionFile(file, true) }},
	} {
		file := filepath.Join(dir, "completion", c.path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := c.write(file); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "trinas.catalog"), journal.Catalog(), 0o644)
}

func writePages(root *cobra.Command, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root.DisableAutoGenTag = true // no HISTORY section with the tool's name
	date, err := buildDate()
	if err != nil {
		return err
	}
	header := &doc.GenManHeader{Section: "1", Source: "trinas " + versionText(), Manual: "trinas", Date: &date}
	if err := doc.GenManTree(root, header, dir); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "trinas.toml.5"), configPage(date), 0o644); err != nil {
		return err
	}
	var pve bytes.Buffer
	pageHead(&pve, "TRINAS-PVE", "5", date)
	pve.Write(pvePage)
	if err := os.WriteFile(filepath.Join(dir, "trinas-pve.5"), md2man.Render(pve.Bytes()), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "trinas-events.7"), eventsPage(date), 0o644)
}

// buildDate is SOURCE_DATE_EPOCH (reproducible-builds.org), else now.
func buildDate() (time.Time, error) {
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		return time.Now().UTC(), nil
	}
	var seconds int64
	if _, err := fmt.Sscanf(epoch, "%d", &seconds); err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH %q: want seconds since 1970: %w", epoch, err)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// pageHead begins a page (go-md2man's title block).
func pageHead(b *bytes.Buffer, name, section string, date time.Time) {
	fmt.Fprintf(b, "%% %q %q %q %q \"trinas\"\n", name, section, date.Format("Jan 2006"), "trinas "+versionText())
}

// configPage is the example file as a manual page: its comments explain every key.
func configPage(date time.Time) []byte {
	var b bytes.Buffer
	pageHead(&b, "TRINAS.TOML", "5", date)
	fmt.Fprint(&b, "# NAME\ntrinas.toml - configuration of the trinas agent\n",
		"# SYNOPSIS\n", config.Path, "\n",
		"# DESCRIPTION\nThe file is TOML. Every key may be left out, and without the file the defaults hold.",
		" An unknown key or a bad value keeps the agent from starting; it says which.\n",
		"# KEYS AND DEFAULTS\n```\n")
	b.Write(config.Example())
	fmt.Fprint(&b, "```\n# SEE ALSO\n**trinas-agent(1)**\n")
	return md2man.Render(b.Bytes())
}

// eventsPage is the table of events as a manual page.
func eventsPage(date time.Time) []byte {
	var b bytes.Buffer
	pageHead(&b, "TRINAS-EVENTS", "7", date)
	fmt.Fprint(&b, "# NAME\ntrinas-events - what the trinas agent writes to the journal\n",
		"# DESCRIPTION\nUnder systemd the agent writes to the journal: **journalctl -u trinas** shows its lines,",
		" **journalctl -x -u trinas** explains each. A line is one of the events below. Of some, which would",
		" repeat, only one line in a while is shown for the same volume and node; **left_out=** in the next",
		" says how many were not.\n\nWithout a journal the same lines go to standard error, as text.\n",
		"# FIELDS\n**TRINAS_EVENT**, **MESSAGE_ID**\n: The event, by name and by id. Neither ever changes.\n\n",
		"**TRINAS_NODE**\n: The node whose agent writes.\n\n",
		"**TRINAS_VOLUME**\n: The volume that the line is about.\n\n",
		"**TRINAS_PEER**\n: The other node that the line is about: its name, or its number in the cluster.\n\n",
		"**PRIORITY**\n: 3 (error), 4 (warning), 6 (info), 7 (debug, shown with log_level debug).\n\n",
		"# EXAMPLES\nEverything about one volume, on this node:\n\n```\njournalctl TRINAS_VOLUME=vms\n```\n\n",
		"Every change of a primary:\n\n```\njournalctl TRINAS_EVENT=primary\n```\n\n",
		"# EVENTS\n")
	for _, e := range journal.Events() {
		fmt.Fprintf(&b, "## %s\n%s (%s). %s\n\n", e.Name, e.Text, journal.LevelText(e.Level), e.Meaning)
		if e.Next != "" {
			fmt.Fprintf(&b, "What to do: %s\n\n", e.Next)
		}
		if e.Every > 0 {
			fmt.Fprintf(&b, "At most one line in %g s.\n\n", e.Every.Seconds())
		}
		fmt.Fprintf(&b, "MESSAGE_ID %s\n\n", e.ID)
	}
	fmt.Fprint(&b, "# SEE ALSO\n**trinas-agent(1)**, **journalctl(1)**\n")
	return md2man.Render(b.Bytes())
}
