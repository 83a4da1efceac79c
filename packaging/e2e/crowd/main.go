// Command crowd is one guest's part in scenario crowd: eight mounts of the volume, while two other
// guests do the same on theirs. See README.md.
//
// Floor 6: imports packaging/e2e/ask.
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"

	"trinas/packaging/e2e/ask"
)

// mounts is how many there are in a guest: /mnt/0 and so on.
const mounts = 8

// nodes are those that guests are plugged into, in the order of their mounts' numbers.
var nodes = []string{"n1", "n2", "n3"}

// runner is where checks.sh has its line to the runner.
var runner = &ask.Runner{Out: os.NewFile(3, "runner"), Answers: "/guest/answers"}

// guest is the one that the program runs in.
type guest struct {
	number int // of its node in nodes
}

func main() {
	rounds := flag.Int("rounds", 0, "how often each node writes and the others read, for rounds")
	files := flag.Int("files", 0, "how many files in all, for create, sample, remove")
	flag.Parse()
	g := &guest{number: slices.Index(nodes, os.Getenv("NODE"))}
	var err error
	switch {
	case g.number < 0:
		err = fmt.Errorf("NODE is %q, not one of %v", os.Getenv("NODE"), nodes)
	case flag.Arg(0) == "rounds":
		err = g.rounds(*rounds)
	case flag.Arg(0) == "create":
		err = g.create(*files)
	case flag.Arg(0) == "sample":
		err = g.sample(*files)
	case flag.Arg(0) == "sums":
		for i := range *files {
			fmt.Println(base(i), size(i))
		}
	case flag.Arg(0) == "remove":
		err = g.remove(*files)
	default:
		err = fmt.Errorf("usage: crowd -rounds N rounds, crowd -files N create|sample|sums|remove")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, strings.ReplaceAll(err.Error(), "\n", "; "))
		os.Exit(1)
	}
}

// mount is the folder of a mount of this guest.
func mount(number int) string { return fmt.Sprintf("/mnt/%d", number%mounts) }
