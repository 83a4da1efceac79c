// Command once runs in the guest of scenario once: it makes calls whose replies are lost while
// something happens to the nodes, and checks that each was carried out once.
//
// It must never report a call whose reply was not lost, or that was not sent again.
//
// Floor 6: imports nfsgw/nfs3, nfsgw/rpc and packaging/e2e/ask.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"trinas/packaging/e2e/ask"
)

// Where guest.sh has mounted the volume: through the relay, and directly through each node.
const (
	mounted  = "/mnt/relay"
	meddlers = "/mnt/n2" // another client, which sees and does things in between
)

// runner does something to the nodes (e2e/events.go).
var runner = ask.Here()

func observers() []string { return []string{"/mnt/n1", "/mnt/n2", "/mnt/n3"} }

func main() {
	relay := flag.String("relay", "", "the relay's address")
	volume := flag.String("volume", "", "the volume's name")
	quick := flag.Bool("quick", false, "two rounds only")
	flag.Parse()

	all := operations(raw{*relay, *volume})
	wrong := make([][]string, len(all)) // what was wrong with each, in which round
	for i, r := range rounds() {
		if *quick && !r.quick {
			continue
		}
		begun := time.Now()
		errs, err := r.play(fmt.Sprintf("round%d", i), all)
		if err != nil {
			fmt.Printf("not ok %s: %v\n", r.name, err)
			os.Exit(1)
		}
		calls := 0
		for i, err := range errs {
			if err != nil {
				wrong[i] = append(wrong[i], fmt.Sprintf("%s: %v", r.name, err))
				continue
			}
			calls++
		}
		fmt.Printf("%s: %d of %d calls were carried out once; %.1f s\n", r.name, calls, len(all), time.Since(begun).Seconds())
	}
	status := 0
	for i, op := range all {
		if wrong[i] == nil {
			fmt.Printf("ok %s\n", op.call)
			continue
		}
		status = 1
		fmt.Printf("not ok %s: %s\n", op.call, strings.ReplaceAll(strings.Join(wrong[i], "; "), "\n", "; "))
	}
	os.Exit(status)
}
