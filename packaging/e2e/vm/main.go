// Command vm is what the host runs of scenario vm: a QEMU guest whose disk lies on the volume is moved
// live from node to node, loses its node, and is started on another. The same program is the guest's
// first process (inside.go).
//
// It must never report a check that it did not make, nor a figure that it did not measure.
//
// Floor 6: imports agent/control, packaging/e2e/ask, packaging/lab and packaging/lab/vm.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"trinas/agent/control"
	"trinas/packaging/e2e/ask"
	"trinas/packaging/lab"
	"trinas/packaging/lab/vm"
)

const (
	diskName     = "images/100/vm-100-disk-0.raw"
	migratePort  = "4444"
	waitTimeout  = 60 * time.Second // for anything that is waited for
	waitInterval = 20 * time.Millisecond
)

type node struct{ ask.Node }

func (n *node) host() *lab.Host { return &lab.Host{Name: n.Name, NS: n.Namespace} }

// scenario is one run.
type scenario struct {
	ctx    context.Context
	dir    string
	binary string // the trinas program
	volume string
	nodes  []*node
	runner *ask.Runner
	image  *vm.Image
}

func main() {
	if os.Getpid() == 1 {
		inside()
	}
	if err := run(); err != nil {
		report("scenario", err)
	}
	if failed {
		os.Exit(1)
	}
}

func run() error {
	s := &scenario{binary: os.Getenv("BINARY"), volume: os.Getenv("VOLUME"), runner: ask.Here()}
	nodes, err := ask.Nodes()
	if err != nil {
		return err
	}
	for _, n := range nodes {
		s.nodes = append(s.nodes, &node{n})
	}
	var cancel context.CancelFunc
	s.ctx, cancel = context.WithCancel(context.Background())
	defer cancel()
	self, err := os.Executable()
	if err == nil {
		s.dir, err = os.Getwd()
	}
	if err != nil {
		return err
	}
	if s.image, err = vm.Make(os.Getenv("KERNEL"), self, s.dir, "virtio_mmio", "virtio_blk"); err != nil {
		return err
	}
	return s.play()
}

// trinas runs the command line on a node.
func (s *scenario) trinas(n *node, args ...string) (string, error) {
	out, err := exec.CommandContext(s.ctx, s.binary, append(args, "--socket", n.Socket)...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: trinas %s: %w: %s", n.Name, strings.Join(args, " "), err, out)
	}
	return string(out), err
}

func (s *scenario) activate(n *node) error {
	_, err := s.trinas(n, "image", "activate", s.volume, diskName)
	return err
}

func (s *scenario) deactivate(n *node) error {
	_, err := s.trinas(n, "image", "deactivate", s.volume, diskName)
	return err
}

// images asks a node for the volume's images.
func (s *scenario) images(n *node) (images []control.Image, err error) {
	out, err := s.trinas(n, "image", "list", s.volume, "--json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &images)
	}
	return images, err
}

// url is the disk, by a node's own agent.
func (s *scenario) url(n *node) string { return n.host().URL("/"+s.volume, diskName) }

// start starts a machine on a node: to boot as the run given, or to wait for one that moves there.
func (s *scenario) start(n *node, name string, run int, incoming string) (*vm.Machine, error) {
	return s.image.Start(s.ctx, n.host(), vm.Options{Name: name, Dir: s.dir, Disk: s.url(n), Args: fmt.Sprintf("run=%d", run), Incoming: incoming})
}

// await waits until a condition holds.
func (s *scenario) await(what string, holds func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(s.ctx, waitTimeout)
	defer cancel()
	for {
		ok, err := holds()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		case <-time.After(waitInterval):
		}
	}
}

// failed is set by the first check that fails. Checks are reported by one goroutine.
var failed bool

// report reports a check, and whether it passed.
func report(name string, err error) bool {
	if err == nil {
		fmt.Println("ok", name)
		return true
	}
	failed = true
	fmt.Printf("not ok %s: %s\n", name, strings.ReplaceAll(err.Error(), "\n", "; "))
	return false
}
