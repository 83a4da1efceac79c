//go:build !manual

// Command trinas is both the agent that runs on every node and the command line that talks to it.
//
// It holds the order in which the agent starts and stops, and the words that users read. It must
// never decide what replica, nfsgw or rescue decide: it only puts them together.
//
// Floor 5: imports everything below.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks; a second one ends the process as it would without us.
	context.AfterFunc(ctx, stop)
	err := newCommand(os.Stdout, os.Stderr).ExecuteContext(ctx)
	if status := exitStatus(0); errors.As(err, &status) {
		os.Exit(int(status))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "trinas:", err)
		os.Exit(1)
	}
}
