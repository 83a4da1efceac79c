// Command listener is what the host runs of scenario listener: clients of the worst kind, in n1's
// namespace, against n1's agent, while a neighbour of theirs goes on working.
//
// It must never report a check that it did not make, and must stay within the bounds of the crowd
// (crowd.go): it shares the machine.
//
// Floor 6: imports nfsgw/nfs3, nfsgw/rpc and packaging/lab.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

const nfsPort = "2049" // on 127.0.0.1 and on the node's address

// insideEnv marks the process that is in n1's namespace already.
const insideEnv = "LISTENER_INSIDE"

// node is what the runner says of a node in LAB, as far as it is needed.
type node struct {
	Address   string `json:"address"`
	Namespace string `json:"namespace"`
	Log       string `json:"log"`
	PID       int    `json:"pid"`
}

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
	var nodes []node
	if err := json.Unmarshal([]byte(os.Getenv("LAB")), &nodes); err != nil || len(nodes) == 0 {
		return errors.Join(errors.New("LAB does not describe the nodes; this runs by make e2e only"), err)
	}
	if os.Getenv(insideEnv) == "" {
		return enter(nodes[0].Namespace)
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

// enter starts this program again in a network namespace, in this process.
func enter(namespace string) error {
	ip, err := exec.LookPath("ip")
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return syscall.Exec(ip, []string{"ip", "netns", "exec", namespace, self}, append(os.Environ(), insideEnv+"=1"))
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
