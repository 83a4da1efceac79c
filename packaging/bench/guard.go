package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"text/tabwriter"
)

// What counts as worse than the saved run: a ratio of two figures of one run drifts less than the
// figures, yet three runs of a second each leave some 20 % between two runs of the same program.
const (
	worseSpeed = 0.7 // of the saved ratio of speeds
	worseCPU   = 1.3 // times the saved ratio of processor times
)

// errWorse says that a ratio has become worse than the saved one.
var errWorse = errors.New("a pattern has become worse than in the saved run")

// guard compares a run with the one saved in path, and saves it there when there is none. Only runs
// of the same machine and length can be compared.
func (f *figures) guard(path string, out io.Writer) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := f.save(path); err != nil {
			return err
		}
		fmt.Fprintf(out, "\nsaved in %s: the next runs are compared with this one\n", path)
		return nil
	}
	var saved figures
	if err == nil {
		err = json.Unmarshal(b, &saved)
	}
	if err != nil {
		return fmt.Errorf("saved run %s: %w", path, err)
	}
	if saved.Machine != f.Machine || saved.Seconds != f.Seconds || saved.ImageBytes != f.ImageBytes {
		return fmt.Errorf("saved run %s is of another machine or length (%s; %g s, %d MiB): remove it to save this one",
			path, saved.Machine, saved.Seconds, saved.ImageBytes>>20)
	}
	return f.compareWith(&saved, out)
}

func (f *figures) save(path string) error {
	b, err := json.MarshalIndent(f, "", "  ")
	if err == nil {
		err = os.WriteFile(path, append(b, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("write figures: %w", err)
	}
	return nil
}

// compareWith prints each pattern's ratios beside the saved ones.
func (f *figures) compareWith(saved *figures, out io.Writer) error {
	old := map[string]row{}
	for _, r := range saved.Rows {
		old[r.Pattern] = r
	}
	fmt.Fprintf(out, "\nbeside the run of %s: ours over ganesha's\n", saved.Date)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "pattern\tspeed\twas\tCPU per request\twas\t\t")
	worse := false
	for _, r := range f.Rows {
		was, ok := old[r.Pattern]
		if !ok {
			continue
		}
		verdict := ""
		if r.ratio() < worseSpeed*was.ratio() || r.cpuRatio() > worseCPU*was.cpuRatio() {
			verdict, worse = "worse", true
		}
		fmt.Fprintf(w, "%s\t%.2f\t%.2f\t%.2f\t%.2f\t%s\t\n", r.Pattern, r.ratio(), was.ratio(), r.cpuRatio(), was.cpuRatio(), verdict)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if worse {
		return errWorse
	}
	return nil
}
