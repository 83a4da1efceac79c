package main

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"trinas/agent/rescue"
)

// rescueFlags are what all rescue commands take.
type rescueFlags struct {
	*cli
	opt rescue.Options
}

func (c *cli) rescueCommand() *cobra.Command {
	f := &rescueFlags{cli: c}
	cmd := &cobra.Command{
		Use:   "rescue",
		Short: "Read a stopped node's data directory, without cluster or agent",
		Long: "Reads the data directory of a node whose agent is stopped. The directory is never changed, and may\n" +
			"be on a disk that is mounted read-only. Shown is what the node knew to be committed; a node that was\n" +
			"behind may hold less than the cluster had.",
		Args: cobra.NoArgs,
		RunE: help,
	}
	flags := cmd.PersistentFlags()
	flags.BoolVar(&f.opt.Uncommitted, "uncommitted", false, "also replay log entries that are not known to be committed")
	flags.BoolVar(&f.opt.WithoutLog, "without-log", false, "read the last checkpoints alone (for a damaged log)")
	flags.StringVar(&f.opt.Scratch, "scratch", "", "`directory` for temporary data (default: $TMPDIR or /tmp)")
	cmd.MarkFlagsMutuallyExclusive("uncommitted", "without-log")
	cmd.AddCommand(f.listCommand(), f.copyCommand(), f.serveCommand())
	return cmd
}

// open opens the data directory and warns of everything that is not shown.
func (f *rescueFlags) open(dir string) (*rescue.Store, error) {
	f.opt.Log = slog.New(slog.NewTextHandler(f.errOut, &slog.HandlerOptions{Level: slog.LevelWarn}))
	s, err := rescue.Open(dir, f.opt)
	if err != nil {
		return nil, err
	}
	for _, v := range s.Volumes() {
		f.warn(v)
	}
	return s, nil
}

func (f *rescueFlags) warn(v *rescue.Volume) {
	if v.Unfinished {
		fmt.Fprintf(f.errOut, "trinas: volume %s: this node was being brought up to date and stopped half-way: its files mix "+
			"bytes of different times; use another node's directory if there is one\n", v.Name)
	}
	switch {
	case v.Err != nil:
		fmt.Fprintf(f.errOut, "trinas: volume directory %s cannot be read: %v; use another node's directory if there is one\n", v.Dir, v.Err)
	case f.opt.WithoutLog:
		fmt.Fprintf(f.errOut, "trinas: volume %s is shown as of its checkpoint at entry %d, without the log: "+
			"bytes of files may be newer than their sizes and names\n", v.Name, v.Checkpoint)
	case v.Uncommitted() > 0 && f.opt.Uncommitted:
		fmt.Fprintf(f.errOut, "trinas: volume %s is shown with the log's last %d entries, which this node did not know to "+
			"be committed: the cluster may have dropped or replaced them\n", v.Name, v.Uncommitted())
	case v.Uncommitted() > 0:
		fmt.Fprintf(f.errOut, "trinas: volume %s: the log's last %d entries are not shown, since this node did not know "+
			"them to be committed: look at the other nodes' directories too, or add --uncommitted\n", v.Name, v.Uncommitted())
	}
}

func (f *rescueFlags) listCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list DATADIR [VOLUME[/PATH]]",
		Short: "List the volumes of a data directory, or files of a volume",
		Args:  cobra.RangeArgs(1, 2),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := f.open(args[0])
			if err != nil {
				return err
			}
			defer s.Close()
			if len(args) == 1 {
				return f.print(rescuedVolumes(s), rescueTable(s))
			}
			v, path, err := locate(s, args[1])
			if err != nil {
				return err
			}
			entries, err := v.List(path)
			if err != nil {
				return err
			}
			return f.print(entries, listing(entries))
		},
	}
}

// rescuedVolume is a line of trinas rescue list in JSON. Indexes are of the volume's log.
type rescuedVolume struct {
	Name       string `json:"name"`
	Dir        string `json:"dir"`
	Error      string `json:"error,omitempty"`
	Files      uint64 `json:"files"`
	UsedBytes  uint64 `json:"used_bytes"`
	Checkpoint uint64 `json:"checkpoint"`
	Committed  uint64 `json:"committed"`
	Last       uint64 `json:"last"`
	Shown      uint64 `json:"shown"`
}

func rescuedVolumes(s *rescue.Store) []rescuedVolume {
	out := []rescuedVolume{}
	for _, v := range s.Volumes() {
		r := rescuedVolume{Name: v.Name, Dir: v.Dir, Files: v.Files, UsedBytes: v.UsedBytes,
			Checkpoint: v.Checkpoint, Committed: v.Committed, Last: v.Last, Shown: v.Applied}
		if v.Err != nil {
			r.Error = v.Err.Error()
		}
		out = append(out, r)
	}
	return out
}

func rescueTable(s *rescue.Store) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "VOLUME\tFILES\tUSED\tCHECKPOINT\tCOMMITTED\tLAST\tSHOWN")
	for _, v := range s.Volumes() {
		if v.Err != nil {
			fmt.Fprintf(w, "%s\tcannot be read\n", v.Dir)
			continue
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%d\t%d\t%d\n", v.Name, v.Files, bytesText(v.UsedBytes),
			v.Checkpoint, v.Committed, v.Last, v.Applied)
	}
	w.Flush() // a strings.Builder takes everything
	return b.String()
}

// listing is what ls -l would print.
func listing(entries []rescue.Entry) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 1, ' ', 0)
	for _, e := range entries {
		name := printable(e.Name)
		if e.Target != "" {
			name += " -> " + printable(e.Target)
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%s\t%s\n", e.Mode, e.Links, e.UID, e.GID, e.SizeBytes, timeText(e.Modified), name)
	}
	w.Flush()
	return b.String()
}

// printable keeps a name from steering the terminal: control characters appear as Go escapes.
func printable(name string) string {
	if quoted := fmt.Sprintf("%q", name); quoted != `"`+name+`"` {
		return quoted
	}
	return name
}

// locate finds VOLUME/PATH.
func locate(s *rescue.Store, arg string) (*rescue.Volume, string, error) {
	name, path, _ := strings.Cut(strings.Trim(arg, "/"), "/")
	v, err := s.Volume(name)
	return v, path, err
}

func (f *rescueFlags) copyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "copy DATADIR VOLUME[/PATH] DEST",
		Short: "Copy a file or a directory out of a data directory",
		Long: "Copies a file, or a directory with everything in it, to DEST; into it when DEST is a directory.\n" +
			"Zeros become holes. Mode, times and, for root, owners are kept. Nothing is overwritten.\n\n" +
			"A file that cannot be read whole does not hinder the others: what can be read of it gets a name that ends\n" +
			"in " + rescue.DamagedSuffix + ", with zeros for the rest, and the exit status is not 0.",
		Args: cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := f.open(args[0])
			if err != nil {
				return err
			}
			defer s.Close()
			v, path, err := locate(s, args[1])
			if err != nil {
				return err
			}
			began := time.Now()
			progress := f.progress()
			cp := &rescue.Copier{Volume: v, Progress: progress.show, Skipped: func(name, reason string) {
				progress.end()
				fmt.Fprintf(f.errOut, "trinas: %s is left out: %s\n", name, reason)
			}, Damaged: func(name, reason string) {
				progress.end()
				fmt.Fprintf(f.errOut, "trinas: %s cannot be read whole: %s\n", name, reason)
			}}
			err = cp.Copy(cmd.Context(), path, args[2])
			progress.end()
			if err != nil {
				return err
			}
			text := fmt.Sprintf("Copied %d files, %s, in %s.\n", cp.Files, bytesText(cp.DataBytes), time.Since(began).Round(time.Millisecond))
			if cp.SkippedFiles > 0 {
				text += fmt.Sprintf("Left out %d files.\n", cp.SkippedFiles)
			}
			err = f.print(map[string]any{"files": cp.Files, "bytes": cp.DataBytes, "skipped": cp.SkippedFiles, "damaged": cp.DamagedFiles}, text)
			if err == nil && cp.DamagedFiles > 0 {
				err = fmt.Errorf("%d files cannot be read whole: what can be read of them is at their names with %s behind, with zeros for the rest; "+
					"use another node's directory if there is one", cp.DamagedFiles, rescue.DamagedSuffix)
			}
			return err
		},
	}
}

// progressLine is one line on a terminal that is written over and over; elsewhere nothing.
type progressLine struct {
	out   *os.File // nil: no terminal
	last  time.Time
	shown bool
}

func (f *rescueFlags) progress() *progressLine {
	if out, ok := f.errOut.(*os.File); ok && !f.json && term.IsTerminal(int(out.Fd())) {
		return &progressLine{out: out}
	}
	return &progressLine{}
}

func (p *progressLine) show(name string, done, size uint64) {
	if p.out == nil || time.Since(p.last) < 200*time.Millisecond {
		return
	}
	p.last, p.shown = time.Now(), true
	percent := 100 * float64(done) / float64(max(size, 1))
	fmt.Fprintf(p.out, "\r\x1b[K%3.0f %%  %s of %s  %s", percent, bytesText(done), bytesText(size), printable(name))
}

func (p *progressLine) end() {
	if p.shown {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.shown = false
	}
}

func (f *rescueFlags) serveCommand() *cobra.Command {
	var listen string
	var anyPort bool
	cmd := &cobra.Command{
		Use:   "serve DATADIR",
		Short: "Serve a data directory read-only over NFS, until a signal",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := f.open(args[0])
			if err != nil {
				return err
			}
			defer s.Close()
			l, err := net.Listen("tcp", listen)
			if err != nil {
				return fmt.Errorf("--listen: %w: set another address", err)
			}
			if err := f.print(served(s, l.Addr())); err != nil {
				return err
			}
			return s.Serve(cmd.Context(), l, rescue.ServeOptions{PrivilegedPorts: !anyPort})
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:20490", "`address` and port to listen on")
	cmd.Flags().BoolVar(&anyPort, "any-port", false, "serve clients from source ports above 1023 too: any local user can then read everything")
	return cmd
}

// served says how to mount what is served, as JSON and as text.
func served(s *rescue.Store, addr net.Addr) (any, string) {
	host, port, _ := net.SplitHostPort(addr.String()) // a TCP listener's address has both
	commands := []string{}
	var text strings.Builder
	for _, v := range s.Volumes() {
		if v.Err != nil {
			continue
		}
		c := fmt.Sprintf("mount -t nfs -o ro,vers=3,proto=tcp,mountproto=tcp,nolock,port=%s,mountport=%s %s:/%s /mnt", port, port, host, v.Name)
		commands = append(commands, c)
		fmt.Fprintf(&text, "%s\n", c)
	}
	return map[string]any{"address": addr.String(), "mount": commands}, text.String()
}
