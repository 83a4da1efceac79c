// Command posix checks that a file system behaves as Linux's own do: results, errno, attributes and
// side effects, call by call. Most checks are texts (folder checks); those that need more are Go.
// What is expected is what the kernel gives on ext4, and where NFSv3 cannot carry that, what the
// kernel's client gives on the kernel's server. The scenario runs it on ext4 first: a check that
// fails there is itself wrong.
//
// It must run as root, and never touch anything outside of the folder it is given.
//
// Floor 6: imports nothing of trinas.
package main

import (
	"embed"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

//go:embed checks/*.txt
var texts embed.FS

// check is one thing to be checked. It runs in an empty folder of its own, as root, umask 022.
type check struct {
	name string
	run  func(*world) error
}

func main() {
	dir := flag.String("dir", "", "an empty folder on the file system")
	nfs := flag.Bool("nfs", false, "the file system is NFSv3")
	prefix := flag.String("prefix", "", "what the names of the checks begin with")
	entries := flag.Int("entries", 20000, "how many entries the large directory has")
	only := flag.String("only", "", "only checks whose name holds this")
	flag.Parse()
	checks, err := load(*nfs)
	if err == nil {
		err = os.Chdir(*dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	top, err := os.Getwd()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	status := 0
	checks = append(checks, calls()...)
	checks = append(checks, directories(*entries)...)
	for i, c := range checks {
		if !strings.Contains(c.name, *only) {
			continue
		}
		if err := perform(c, filepath.Join(top, fmt.Sprintf("check%d", i)), *nfs); err != nil {
			fmt.Printf("not ok %s%s: %s\n", *prefix, c.name, strings.ReplaceAll(err.Error(), "\n", "; "))
			status = 1
			continue
		}
		fmt.Printf("ok %s%s\n", *prefix, c.name)
	}
	os.Exit(status)
}

// perform runs a check in a new folder and removes that.
func perform(c check, dir string, nfs bool) (err error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	defer func() {
		if chdirErr := os.Chdir("/"); err == nil {
			err = chdirErr
		}
		if removeErr := os.RemoveAll(dir); err == nil {
			err = removeErr
		}
	}()
	if err := os.Chdir(dir); err != nil {
		return err
	}
	unix.Umask(0o022)
	w := &world{nfs: nfs, held: map[string]int{}, marks: map[string]unix.Stat_t{}}
	defer w.close()
	return c.run(w)
}

// load reads the checks that are texts. A check begins with a line "== NAME"; each line after it is
// a step (steps.go). Lines that begin with # and empty lines are for the reader; a step that begins
// with "nfs:" or "local:" is for that kind of file system only.
func load(nfs bool) ([]check, error) {
	files, err := texts.ReadDir("checks")
	if err != nil {
		return nil, err
	}
	var all []check
	for _, f := range files {
		b, err := texts.ReadFile("checks/" + f.Name())
		if err != nil {
			return nil, err
		}
		subject := strings.TrimSuffix(f.Name(), ".txt")
		var steps []string
		name := ""
		end := func() {
			if name != "" {
				all = append(all, script(subject+": "+name, steps))
			}
			steps = nil
		}
		for line := range strings.Lines(string(b)) {
			line = strings.TrimSpace(line)
			if title, ok := strings.CutPrefix(line, "== "); ok {
				end()
				name = title
				continue
			}
			if kind, step, ok := strings.Cut(line, ": "); ok && (kind == "nfs" || kind == "local") {
				if nfs != (kind == "nfs") {
					continue
				}
				line = step
			}
			if line != "" && !strings.HasPrefix(line, "#") {
				steps = append(steps, line)
			}
		}
		end()
	}
	return all, nil
}

func script(name string, steps []string) check {
	return check{name: name, run: func(w *world) error {
		for _, step := range steps {
			if err := w.step(step); err != nil {
				return fmt.Errorf("%s: %w", step, err)
			}
		}
		return nil
	}}
}
