// Command copyright prints debian/copyright (DEP-5): the licence of trinas and of everything that is
// linked into its static binary, read from the sources that the go command would build it from.
//
// It must never leave a module out or guess a licence: what it does not know is an error.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	dir := flag.String("C", ".", "`directory` of the module trinas")
	flag.Parse()
	text, err := debianCopyright(*dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "copyright:", err)
		os.Exit(1)
	}
	fmt.Print(text)
}
