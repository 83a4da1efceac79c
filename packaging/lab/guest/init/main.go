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
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "init: this is the first process of a guest machine and runs nowhere else")
		os.Exit(2)
	}
	guest.Init()
}
