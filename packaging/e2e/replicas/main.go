// Command replicas is what the host runs of scenario replicas: it makes a node come back that was
// away for long, and damages objects under their agents.
//
// It must never touch a file outside of the lab's folder.
//
// Floor 6: imports agent/control, nfsgw/nfs3, packaging/e2e/ask and replica.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"trinas/agent/control"
	"trinas/packaging/e2e/ask"
	"trinas/replica"
)

// runner does something to the nodes (e2e/events.go).
var runner = ask.Here()

// scenario is the lab as this program sees it.
type scenario struct {
	ctx    context.Context
	nodes  []ask.Node
	volume string
	file   *bigFile
}

func main() {
	if err := run(); err != nil {
		fmt.Printf("not ok replicas: %s\n", strings.ReplaceAll(err.Error(), "\n", "; "))
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
	s := &scenario{nodes: nodes, volume: os.Getenv("VOLUME")}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	s.ctx = ctx
	steps := []struct {
		name string
		do   func() error
	}{
		{"the agents have small logs", s.configure},
		{"1 GiB is written", s.write},
		{"16 MiB change while n3 is away", s.change},
		{"n3 copies less than 32 MiB and shows how far it is", s.comeBack},
		{"holes are holes on every node", s.holes},
		{"a verification of whole replicas finds nothing", s.verifyWhole},
		{"damage under a running and a stopped agent is found", s.damage},
		{"it is repaired", s.repair},
		{"all objects are what was written", s.compare},
	}
	for _, step := range steps {
		begun := time.Now()
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		fmt.Printf("%.1f s\n", time.Since(begun).Seconds())
		fmt.Println("ok", step.name)
	}
	return nil
}

// restart ends an agent, has change done while it is down, and starts it again.
func restart(n ask.Node, change func() error) error {
	if _, err := runner.Ask("stop", n.Name); err != nil {
		return err
	}
	if err := change(); err != nil {
		return err
	}
	_, err := runner.Ask("start", n.Name)
	return err
}

// configure gives every agent the smallest log, and a resync that can be watched.
func (s *scenario) configure() error {
	for _, n := range s.nodes {
		err := restart(n, func() error {
			f, err := os.OpenFile(filepath.Join(filepath.Dir(n.DataDir), "trinas.toml"), os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString("[log]\nlimit = \"256MiB\"\nsegment = \"16MiB\"\n[resync]\nrate = \"8MiB\"\n[verify]\nrate = \"0\"\ninterval = \"0s\"\n")
			return errors.Join(err, f.Close())
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// volumeOn is the volume's state as a node's agent knows it.
func (s *scenario) volumeOn(n ask.Node) (replica.VolumeStatus, error) {
	client := control.NewClient(n.Socket)
	defer client.Close()
	vs, err := client.Volumes(s.ctx)
	for _, v := range vs {
		if v.Name == s.volume {
			return v, err
		}
	}
	return replica.VolumeStatus{}, errors.Join(err, fmt.Errorf("%s knows no volume %s", n.Name, s.volume))
}

// trinas runs the command line and returns what it prints and its exit status.
func (s *scenario) trinas(args ...string) (out []byte, status int, err error) {
	cmd := exec.CommandContext(s.ctx, os.Getenv("BINARY"), append(args, "--socket", s.nodes[0].Socket)...)
	out, err = cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() > 0 {
		if exit.ExitCode() == 1 {
			return out, 1, fmt.Errorf("trinas %s: %s", strings.Join(args, " "), exit.Stderr)
		}
		return out, exit.ExitCode(), nil
	}
	return out, 0, err
}

// verify runs trinas verify and returns what it found.
func (s *scenario) verify(args ...string) (st replica.VerifyStatus, status int, err error) {
	out, status, err := s.trinas(append([]string{"verify", s.volume, "--json"}, args...)...)
	if err == nil {
		err = json.Unmarshal(out, &st)
	}
	for _, f := range st.Findings {
		fmt.Printf("found: %s at %d: %s on %s, repaired %v\n", f.Path, f.Offset, f.What, strings.Join(f.Nodes, ","), f.Repaired)
	}
	return st, status, err
}
