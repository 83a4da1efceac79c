// Command powerloss is scenario powerloss: see its README.
//
// Floor 6: imports packaging/e2e/rounds.
package main

import (
	"os"

	"trinas/packaging/e2e/rounds"
)

func main() { os.Exit(rounds.Main(rounds.PowerCuts(), 200, true)) }
