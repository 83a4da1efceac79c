//go:build manual

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"trinas/agent/config"
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

// writeManual writes dir/man/*.1, dir/man/trinas.toml.5, and dir/completion/SHELL/FILE under the
// names that the shells look for.
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
	return nil
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
	return os.WriteFile(filepath.Join(dir, "trinas.toml.5"), configPage(date), 0o644)
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

// configPage is the example file as a manual page: its comments explain every key.
func configPage(date time.Time) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%% \"TRINAS.TOML\" \"5\" \"%s\" \"trinas %s\" \"trinas\"\n", date.Format("Jan 2006"), versionText())
	fmt.Fprint(&b, "# NAME\ntrinas.toml - configuration of the trinas agent\n",
		"# SYNOPSIS\n", config.Path, "\n",
		"# DESCRIPTION\nThe file is TOML. Every key may be left out, and without the file the defaults hold.",
		" An unknown key or a bad value keeps the agent from starting; it says which.\n",
		"# KEYS AND DEFAULTS\n```\n")
	b.Write(config.Example())
	fmt.Fprint(&b, "```\n# SEE ALSO\n**trinas-agent(1)**\n")
	return md2man.Render(b.Bytes())
}
