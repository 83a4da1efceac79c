package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"trinas/packaging/e2e/ask"
	"trinas/packaging/lab"
	"trinas/packaging/lab/guest"
)

// maxLineBytes bounds a line that a host program prints.
const maxLineBytes = 64 << 10

// actor runs a scenario's script in a guest, or its program on the host.
type actor struct {
	name string    // of the node that a guest is plugged into, else "guest" or "host"
	node *lab.Node // nil: none
	*transcript
}

// cast returns those who play a scenario, in the order in which their checks are compared.
func (r *runner) cast(s *scenario) []*actor {
	add := func(name, prefix string, node *lab.Node) *actor {
		label := s.Name
		if prefix != "" {
			label += "/" + name
		}
		return &actor{name: name, node: node, transcript: newTranscript(label, prefix, r.verbose)}
	}
	switch {
	case s.Where == onHost:
		return []*actor{add("host", "", nil)}
	case s.Guests == guestOutside, s.Disk > 0:
		return []*actor{add("guest", "", nil)}
	case s.Guests == guestOne:
		return []*actor{add(r.lab.Nodes[0].Name, "", r.lab.Nodes[0])}
	}
	var all []*actor
	for _, n := range r.lab.Nodes {
		all = append(all, add(n.Name, n.Name+": ", n))
	}
	return all
}

// env is what every script and program of a scenario finds in its environment. The actor's own node
// is 127.0.0.1 in NODES.
func (r *runner) env(s *scenario, a *actor) []string {
	addresses := make([]string, len(r.lab.Nodes))
	for i, n := range r.lab.Nodes {
		addresses[i] = n.Addr
		if n == a.node {
			addresses[i] = "127.0.0.1"
		}
	}
	quick := ""
	if r.quick {
		quick = "1"
	}
	return []string{"VOLUME=" + s.Name, "NODES=" + strings.Join(addresses, " "), "NODE=" + a.name, "QUICK=" + quick}
}

// runGuest runs the script in a guest. kit is the folder with what the script needs; request gets
// what it asks for.
func (r *runner) runGuest(ctx context.Context, s *scenario, a *actor, kit string, request func(share, line string)) error {
	env := r.env(s, a)
	if a.node != nil {
		options, err := a.node.MountOptions(ctx, s.Name)
		if err != nil {
			return err
		}
		env = append(env, "MOUNT_OPTIONS="+options)
	}
	m := &guest.Machine{
		Init: r.init, Memory: s.Memory, Limit: s.limit, Disk: r.disk,
		Modules: append([]string{"nfsv3"}, s.Modules...),
		Args:    []string{"bash", scriptFile},
		Env:     env,
	}
	m.Line = func(line string) { a.hear(line, m.Share(), request) }
	status, err := r.lab.RunGuest(ctx, m, a.node, func() error { return os.CopyFS(m.Share(), os.DirFS(kit)) })
	if err == nil && status != 0 {
		err = fmt.Errorf("%s ended with status %d", scriptFile, status)
	}
	return err
}

// hear takes a line that a guest or a program has printed.
func (a *actor) hear(line, share string, request func(share, line string)) {
	if asked, ok := strings.CutPrefix(line, requestMark); ok {
		request(share, asked)
		return
	}
	a.line(line)
}

// runHost runs the scenario's program on the host, in its copy of the kit. Its process group is
// killed when it has ended.
func (r *runner) runHost(ctx context.Context, s *scenario, a *actor, kit string, request func(share, line string)) error {
	var nodes []ask.Node
	for _, n := range r.lab.Nodes {
		nodes = append(nodes, ask.Node{Name: n.Name, Address: n.Addr, Namespace: n.NS, Socket: n.Socket(), DataDir: n.DataDir(),
			Log: n.LogFile(), PID: n.PID()})
	}
	described, err := json.Marshal(nodes)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.limit, fmt.Errorf("not done within %v", s.limit))
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(kit, s.Name))
	cmd.Dir = kit
	cmd.Env = append(os.Environ(), append(r.env(s, a), "LAB="+string(described), "BINARY="+r.binary, "KERNEL="+r.kernel)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = in, in
	err = cmd.Start()
	in.Close()
	if err != nil {
		return err
	}
	heard := make(chan error, 1)
	go func() {
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, maxLineBytes)
		for lines.Scan() {
			a.hear(lines.Text(), kit, request)
		}
		heard <- lines.Err()
	}()
	err = cmd.Wait()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it has left behind, which holds the pipe
	err = errors.Join(err, <-heard)
	if err != nil {
		err = errors.Join(err, context.Cause(ctx))
	}
	return err
}
