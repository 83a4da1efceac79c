package ask

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// Node is what a program on the host is told of a node, in LAB.
type Node struct {
	Name      string `json:"name"`
	Address   string `json:"address"`   // on the nodes' network
	Namespace string `json:"namespace"` // for ip netns exec
	Socket    string `json:"socket"`    // the agent's control socket
	DataDir   string `json:"data_dir"`
	Log       string `json:"log"`
	PID       int    `json:"pid"` // of the agent when the scenario began
}

// Nodes are the lab's, as the runner has described them.
func Nodes() ([]Node, error) {
	var nodes []Node
	if err := json.Unmarshal([]byte(os.Getenv("LAB")), &nodes); err != nil || len(nodes) != 3 {
		return nil, errors.Join(errors.New("LAB does not describe three nodes; this runs by make e2e only"), err)
	}
	return nodes, nil
}

// Here is the runner of a program whose standard output it reads, in the folder that it was started in.
func Here() *Runner { return &Runner{Out: os.Stdout, Answers: "answers"} }

// insideEnv names the network namespace that the process was started again in.
const insideEnv = "E2E_INSIDE"

// Enter has this program run in a network namespace: it starts it again, in this process, and returns only
// in there, or with an error.
func Enter(namespace string) error {
	if os.Getenv(insideEnv) == namespace {
		return nil
	}
	ip, err := exec.LookPath("ip")
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return syscall.Exec(ip, []string{"ip", "netns", "exec", namespace, self}, append(os.Environ(), insideEnv+"="+namespace))
}
