package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"trinas/agent/control"
	"trinas/agent/drill"
	"trinas/nfsgw/nfs3"
)

// startTimeout is how long an agent may take from its start until it answers on its socket.
const startTimeout = 20 * time.Second

// Node is one host of the lab, on the network, with a folder and, while it runs, an agent process.
type Node struct {
	*Host
	Addr string // the address that the other nodes reach
	Dir  string // configuration, control socket, log and data

	binary  string
	openNFS bool
	config  string // more tables
	control *control.Client

	mu   sync.Mutex
	cmd  *exec.Cmd     // the agent that was started last; nil before
	done chan struct{} // closed when cmd has ended
}

func newNode(host *Host, addr, dir, binary string) *Node {
	n := &Node{Host: host, Addr: addr, Dir: dir, binary: binary}
	n.control = control.NewClient(n.Socket())
	return n
}

// Socket is the path of the agent's control socket.
func (n *Node) Socket() string { return filepath.Join(n.Dir, "control.sock") }

// LogFile is where the agent's messages go.
func (n *Node) LogFile() string { return filepath.Join(n.Dir, "agent.log") }

// DataDir is where the agent keeps its replicas.
func (n *Node) DataDir() string { return filepath.Join(n.Dir, "data") }

// nfsAddress is that of a host's own NFS server.
const nfsAddress = "127.0.0.1:2049"

// NFS is the address of the agent's NFS server, in the node's namespace.
func (n *Node) NFS() string { return nfsAddress }

func (n *Node) configFile() string { return filepath.Join(n.Dir, "trinas.toml") }

// File names a file in a volume's root directory, reached by NFS through the node's gateway.
func (n *Node) File(volume, name string, create bool) *drill.File {
	return drill.NewFile(n.DialNFS, n.Name, volume, name, create)
}

// DialNFS connects to the node's gateway.
func (n *Node) DialNFS(ctx context.Context) (*nfs3.Client, error) { return n.Dial(ctx, n.NFS()) }

// configure writes the agent's configuration: the defaults, but for places and addresses.
func (n *Node) configure() error {
	if err := os.MkdirAll(n.Dir, 0o755); err != nil {
		return fmt.Errorf("node %s: %w", n.Name, err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "data_dir = %q\n", n.DataDir())
	fmt.Fprint(&b, "[pve]\ndir = \"\"\n") // the host's Proxmox is none of the lab's business
	fmt.Fprintf(&b, "[control]\nsocket = %q\n", n.Socket())
	fmt.Fprintf(&b, "[node]\nname = %q\n", n.Name)
	fmt.Fprintf(&b, "[peer]\nlisten = %q\nadvertise = %q\n", n.Addr+":7370", n.Addr+":7370")
	fmt.Fprintf(&b, "[nfs]\nlisten = [%q", n.NFS())
	if n.openNFS {
		fmt.Fprintf(&b, ", %q", n.Addr+":2049")
	}
	b.WriteString("]\n" + n.config)
	if err := os.WriteFile(n.configFile(), []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("node %s: write its configuration: %w", n.Name, err)
	}
	return nil
}

// Start starts the agent and waits until it answers on its control socket. Its end is noticed by
// Wait and Running.
func (n *Node) Start(ctx context.Context) error {
	if err := n.Launch(ctx); err != nil {
		return err
	}
	return n.AwaitStart(ctx)
}

// AwaitStart waits until an agent that was launched answers on its control socket.
func (n *Node) AwaitStart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return n.Await(ctx, "an answer from the agent", func(ctx context.Context) (bool, error) {
		_, err := n.Status(ctx)
		return err == nil, err
	})
}

// Launch starts the agent and does not wait for anything.
func (n *Node) Launch(ctx context.Context) error {
	if n.Running() {
		return fmt.Errorf("node %s: the agent runs already", n.Name)
	}
	log, err := os.OpenFile(n.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("node %s: %w", n.Name, err)
	}
	defer log.Close() // the agent has it open by then
	// Not with ctx: only Kill and Close end an agent. The agent is told that it is started again when it
	// is killed, as systemd does (see Supervise).
	cmd := n.Command(context.WithoutCancel(ctx), "sh", "-c", `SYSTEMD_EXEC_PID=$$ exec "$0" agent --config "$1"`,
		n.binary, n.configFile())
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("node %s: start the agent: %w", n.Name, err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // the exit status is in cmd.ProcessState
		close(done)
	}()
	n.mu.Lock()
	n.cmd, n.done = cmd, done
	n.mu.Unlock()
	return nil
}

// restartPause is how long systemd waits before it starts an agent that was killed (RestartSec=).
const restartPause = 100 * time.Millisecond

// Supervise starts the agent again whenever it was killed, as systemd does, until ctx ends. An error
// is one of starting it.
func (n *Node) Supervise(ctx context.Context) error {
	for {
		select {
		case <-n.ended():
		case <-ctx.Done():
			return nil
		}
		select {
		case <-time.After(restartPause):
		case <-ctx.Done():
			return nil
		}
		if err := n.Start(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// ended is closed when the agent that was started last has ended; nil (never) before the first.
func (n *Node) ended() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.done
}

// Running reports whether the agent process is there.
func (n *Node) Running() bool {
	done := n.ended()
	if done == nil {
		return false
	}
	select {
	case <-done:
		return false
	default:
		return true
	}
}

// PID is the agent's process id; 0 when none was started. ip-netns(8) becomes the agent by exec.
func (n *Node) PID() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd == nil {
		return 0
	}
	return n.cmd.Process.Pid
}

// Kill sends the agent a signal; nothing happens when it does not run.
func (n *Node) Kill(sig syscall.Signal) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd != nil {
		_ = n.cmd.Process.Signal(sig) // fails when it has ended
	}
}

// Wait returns once the agent has ended, with an error unless it exited with status 0.
func (n *Node) Wait(ctx context.Context) error {
	done := n.ended()
	if done == nil {
		return nil
	}
	select {
	case <-done:
	case <-ctx.Done():
		return fmt.Errorf("node %s: waiting for the agent's end: %w", n.Name, ctx.Err())
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if s := n.cmd.ProcessState; !s.Success() {
		return fmt.Errorf("node %s: the agent ended: %s; see %s", n.Name, s, n.LogFile())
	}
	return nil
}

// stop waits for the agent's end, until ctx ends: then it is killed.
func (n *Node) stop(ctx context.Context) {
	n.control.Close()
	if err := n.Wait(ctx); errors.Is(err, context.DeadlineExceeded) {
		n.Kill(syscall.SIGKILL)
		<-n.ended()
	}
}

// CLI runs the trinas command line against the node's agent and returns what it printed.
func (n *Node) CLI(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, n.binary, append(args, "--socket", n.Socket())...)
	detach(cmd)
	return output(cmd, fmt.Sprintf("node %s: trinas %s", n.Name, strings.Join(args, " ")))
}

// Invite asks the node for what another one needs to join.
func (n *Node) Invite(ctx context.Context) (control.Invitation, error) {
	var inv control.Invitation
	out, err := n.CLI(ctx, "token", "--json")
	if err != nil {
		return inv, err
	}
	if err := json.Unmarshal(out, &inv); err != nil {
		return inv, fmt.Errorf("node %s: trinas token: %w", n.Name, err)
	}
	if inv.Address == "" || inv.Token == "" {
		return inv, fmt.Errorf("node %s: trinas token names no address or token", n.Name)
	}
	return inv, nil
}
