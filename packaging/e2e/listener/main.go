// Command listener is what the host runs of scenario listener: clients of the worst kind, in n1's
// namespace, against n1's agent, while a neighbour of theirs goes on working.
//
// It must never report a check that it did not make, and must stay within the bounds of the crowd
// (crowd.go): it shares the machine.
//
// Floor 6: imports nfsgw/nfs3, nfsgw/rpc, packaging/e2e/ask and packaging/lab.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"trinas/packaging/e2e/ask"
)

const nfsPort = "2049" // on 127.0.0.1 and on the node's address

func main() {
	if err := run(); err != nil {
		fmt.Printf("not ok listener: %v\n", err)
		os.Exit(1)
	}
	if failed {
		os.Exit(1)
	}
}

func run() error {
	nodes, err := ask.Nodes()
	if err == nil {
		err = ask.Enter(nodes[0].Namespace)
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	s := &scenario{ctx: ctx, agent: nodes[0], quick: os.Getenv("QUICK") != ""}
	closeHosts, err := openHosts(ctx)
	if err == nil {
		s.volume, err = s.openVolume(os.Getenv("VOLUME"))
	}
	if err == nil {
		err = s.play()
	}
	return errors.Join(err, closeHosts())
}

// failed is set by the first check that fails. Checks are reported by one goroutine.
var failed bool

// report reports a check.
func report(name string, err error) {
	if err == nil {
		fmt.Println("ok", name)
		return
	}
	failed = true
	fmt.Printf("not ok %s: %s\n", name, strings.ReplaceAll(err.Error(), "\n", "; "))
}
