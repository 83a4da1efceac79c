// Command init is the first process of a lab's guest: see package guest. It must be built without
// cgo, since the guest has no libraries before it runs.
//
// Floor 6: imports packaging/lab/guest.
package main

import (
	"fmt"
	"os"

	"trinas/packaging/lab/guest"
)

func main() {
	switch {
	case os.Getpid() == 1:
		guest.Init()
	case len(os.Args) == 2 && os.Args[1] == "run":
		guest.RunProgram()
	}
	fmt.Fprintln(os.Stderr, "init: this is the first process of a guest machine, or its systemd runs it; it runs nowhere else")
	os.Exit(2)
}
