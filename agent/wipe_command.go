package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"trinas/agent/config"
	"trinas/agent/datadir"
	"trinas/agent/journal"
	"trinas/replica"
	"trinas/replica/disk"
)

// wipeFlags say what to wipe and how sure the admin is.
type wipeFlags struct {
	*cli
	configPath, dataDir, yes string
	force                    bool
}

func (c *cli) wipeCommand() *cobra.Command {
	f := &wipeFlags{cli: c}
	cmd := &cobra.Command{
		Use:   "wipe",
		Short: "Delete this node's replicas and identity, for ever",
		Long: "Deletes what this node keeps in its data directory: its identity, its log and its replicas. Without --yes\n" +
			"it says what would be lost, and does nothing. The agent must be stopped (systemctl stop trinas.socket\n" +
			"trinas.service). Volumes stay on the other nodes; one that has its only replica here needs --force too.\n" +
			"The cluster goes on counting the node as a member that is down. Configuration and other files in the\n" +
			"directory stay. An interrupted wipe is finished by another, or by the next trinas init or join.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.dataDir == "" {
				cfg, err := config.Load(f.configPath, !cmd.Flags().Changed("config"))
				if err != nil {
					return err
				}
				f.dataDir = cfg.DataDir
			}
			return f.run()
		},
	}
	cmd.Flags().StringVar(&f.configPath, "config", config.Path, "configuration `file`, which names the data directory")
	cmd.Flags().StringVar(&f.dataDir, "data-dir", "", "data `directory` (default: data_dir of the configuration)")
	cmd.Flags().StringVar(&f.yes, "yes", "", "the `name` of the node, to show that this is meant")
	cmd.Flags().BoolVar(&f.force, "force", false, "also when volumes have no replica on another node")
	return cmd
}

func (f *wipeFlags) run() error {
	lock, err := datadir.Exclusive(f.dataDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no data directory %s: name the right one with --data-dir", f.dataDir)
	case errors.Is(err, datadir.ErrInUse):
		return fmt.Errorf("%w: stop the agent first (systemctl stop trinas.socket trinas.service), or the trinas rescue that reads it", err)
	case err != nil:
		return err
	}
	defer lock.Release()
	fsys := disk.OS(f.dataDir)
	loss, err := f.lossOf(fsys)
	if err != nil {
		return err
	}
	if loss.nothing {
		return f.print(map[string]any{"wiped": false, "data_dir": f.dataDir}, fmt.Sprintf("%s holds nothing of trinas.\n", f.dataDir))
	}
	if f.yes != loss.word {
		return fmt.Errorf("%s; nothing was deleted: if that is meant, add --yes %s", loss, loss.word)
	}
	if len(loss.only) > 0 && !f.force {
		return fmt.Errorf("%s; nothing was deleted: copy out what is needed with trinas rescue; if the rest is to be lost, add --force", loss)
	}
	if err := replica.Wipe(fsys); err != nil {
		return fmt.Errorf("wipe %s: %w; what is left counts for nothing: run trinas wipe again", f.dataDir, err)
	}
	for _, name := range journal.KeptNames() {
		if err := os.Remove(filepath.Join(f.dataDir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("wipe: %w", err)
		}
	}
	return f.print(map[string]any{"wiped": true, "data_dir": f.dataDir}, "Deleted: "+loss.what+".\n")
}

// loss is what a wipe would delete.
type loss struct {
	nothing bool
	word    string   // what --yes must say
	what    string   // in words
	only    []string // volumes that have no other replica
}

func (l loss) String() string {
	text := "this would delete " + l.what
	if len(l.only) > 0 {
		text += ", and with it the only replica of " + strings.Join(l.only, ", ")
	}
	return text
}

// lossOf says what a data directory holds. Members and volumes are as of when the agent last ran.
func (f *wipeFlags) lossOf(fsys disk.FS) (loss, error) {
	m, err := replica.Inspect(fsys)
	switch {
	case errors.Is(err, replica.ErrNoIdentity):
		left, err := replica.Leftovers(fsys)
		if err != nil || !left {
			return loss{nothing: err == nil}, err
		}
		return loss{word: f.yes, what: "what an interrupted init, join or wipe left in " + f.dataDir}, nil
	case m.Node == "":
		// There is data, and nobody can say whose: the whole path has to be typed.
		return loss{word: f.dataDir, what: "all data in " + f.dataDir + ", whose node is not known (" + err.Error() + ")"}, nil
	}
	here := []string{}
	l := loss{word: m.Node}
	for _, v := range m.Volumes {
		if !slices.Contains(v.Replicas, m.ID) {
			continue
		}
		here = append(here, v.Name)
		if len(v.Replicas) == 1 {
			l.only = append(l.only, v.Name)
		}
	}
	l.what = fmt.Sprintf("node %s of cluster %s in %s, with its replicas of %s", m.Node, m.Cluster, f.dataDir, volumesText(here))
	if err != nil { // the identity is good, the cluster's state is not: what else holds the volumes is unknown
		l.only = []string{"volumes that cannot be listed (" + err.Error() + ")"}
	} else if len(m.Members) <= 1 {
		l.what += ", the only node that it knows of its cluster"
	}
	return l, nil
}

func volumesText(names []string) string {
	if len(names) == 0 {
		return "no volumes"
	}
	return strings.Join(names, ", ")
}
