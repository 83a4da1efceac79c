package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"trinas/packaging/lab"
)

const readyTimeout = 60 * time.Second

// fillByte is what is written: zeros would become holes.
const fillByte = 165

// server is one of the two that are compared.
type server struct {
	name string
	host *lab.Host // qemu-img runs here
	url  string
	pids func() []int // its processes

	// ready, if there is one, makes it as it is to be measured, before each run.
	ready func(ctx context.Context) error

	// What a kernel mounts, from the nodes' network.
	addr, export string
	mountPort    int
}

// startCluster makes three agents with a volume, whose primary is the node that is measured at.
func startCluster(ctx context.Context, l *lab.Lab) (*server, error) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := l.Form(ctx); err != nil {
		return nil, err
	}
	if err := l.CreateVolume(ctx, volume); err != nil {
		return nil, err
	}
	// On a loaded disk the primary goes elsewhere, and n1 would be measured as a secondary.
	ready := func(ctx context.Context) error { return l.SetPrimary(ctx, volume, l.Nodes[0]) }
	pids := func() (all []int) {
		for _, n := range l.Nodes {
			all = append(all, n.PID())
		}
		return all
	}
	n1 := l.Nodes[0]
	return &server{name: "trinas", host: n1.Host, url: n1.URL("/"+volume, imageName), pids: pids, ready: ready,
		addr: n1.Addr, mountPort: 2049, export: "/" + volume}, nil
}

// processorTime is what the server's processes have used so far.
func (s *server) processorTime() (time.Duration, error) {
	var sum time.Duration
	for _, pid := range s.pids() {
		t, err := lab.CPU(pid)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", s.name, err)
		}
		sum += t
	}
	return sum, nil
}

// create makes the image and fills it: with something, since zeros would become holes.
func (s *server) create(ctx context.Context, sizeBytes int64) error {
	_, err := s.fill(ctx, sizeBytes, 16)
	return err
}

// fill is create with so many writes of 1 MiB between two flushes; it returns how long the writes took.
func (s *server) fill(ctx context.Context, sizeBytes int64, flush int) (time.Duration, error) {
	if _, err := s.host.Output(ctx, "qemu-img", "create", "-q", "-f", "raw", s.url, strconv.FormatInt(sizeBytes, 10)); err != nil {
		return 0, fmt.Errorf("%s: %w", s.name, err)
	}
	return s.bench(ctx, pattern{size: 1 << 20, depth: 4, write: true, flush: flush, step: 1 << 20}, int(sizeBytes>>20))
}

// of is the server as one of another image.
func (s *server) of(image string) *server {
	other := *s
	other.url = strings.TrimSuffix(s.url, imageName) + image
	return &other
}

// verify copies the image out to path and checks every byte: all that was ever written is fillByte,
// everywhere. Speed with other bytes in it is none.
func (s *server) verify(ctx context.Context, path string, sizeBytes int64) error {
	if err := s.host.Convert(ctx, s.url, path); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	defer os.Remove(path)
	defer f.Close()
	buf, want := make([]byte, 1<<20), bytes.Repeat([]byte{fillByte}, 1<<20)
	for offset := int64(0); ; {
		n, err := io.ReadFull(f, buf)
		if !bytes.Equal(buf[:n], want[:n]) {
			return fmt.Errorf("%s: the image holds wrong bytes between %d and %d", s.name, offset, offset+int64(n))
		}
		offset += int64(n)
		if err != nil { // its end, or a failure that leaves it short
			if offset != sizeBytes {
				return fmt.Errorf("%s: read %d of the image's %d bytes: %w", s.name, offset, sizeBytes, err)
			}
			return nil
		}
	}
}

var completed = regexp.MustCompile(`Run completed in ([0-9.]+) seconds`)

// bench has qemu-img make count requests and returns how long they took.
func (s *server) bench(ctx context.Context, p pattern, count int) (time.Duration, error) {
	args := []string{"bench", "-f", "raw", "-t", "none", "-c", strconv.Itoa(count), "-d", strconv.Itoa(p.depth),
		"-s", strconv.Itoa(p.size), "-S", strconv.Itoa(p.step)}
	if p.write {
		args = append(args, "-w", "--pattern="+strconv.Itoa(fillByte))
	}
	if p.flush > 0 {
		args = append(args, "--flush-interval="+strconv.Itoa(p.flush))
	}
	out, err := s.host.Output(ctx, "qemu-img", append(args, s.url)...)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", s.name, err)
	}
	m := completed.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("%s: qemu-img bench says no time: %s", s.name, out)
	}
	seconds, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil || seconds <= 0 {
		return 0, fmt.Errorf("%s: qemu-img bench says %q seconds", s.name, m[1])
	}
	return time.Duration(seconds * float64(time.Second)), nil
}
