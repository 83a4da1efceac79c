package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
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
	if err := l.SetPrimary(ctx, volume, l.Nodes[0]); err != nil {
		return nil, err
	}
	pids := func() (all []int) {
		for _, n := range l.Nodes {
			all = append(all, n.PID())
		}
		return all
	}
	n1 := l.Nodes[0]
	return &server{name: "trinas", host: n1.Host, url: n1.URL("/"+volume, imageName), pids: pids}, nil
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
	size := strconv.FormatInt(sizeBytes, 10)
	if _, err := s.host.Output(ctx, "qemu-img", "create", "-q", "-f", "raw", s.url, size); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	fill := pattern{size: 1 << 20, depth: 4, write: true, flush: 16, step: 1 << 20}
	_, err := s.bench(ctx, fill, int(sizeBytes>>20))
	return err
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

// ganesha is nfs-ganesha with a configuration, an rpcbind and a network namespace of its own.
type ganesha struct {
	*server
	cmd  *exec.Cmd
	done chan struct{}
}

// ganeshaConfig: NFSv3 without lock manager. NFS and MOUNT cannot share a port.
const ganeshaConfig = `NFS_CORE_PARAM {
    Protocols = 3;
    NFS_Port = 2049;
    MNT_Port = 20048;
    Enable_NLM = false;
    Enable_RQUOTA = false;
}
EXPORT {
    Export_Id = 1;
    Path = %[1]q;
    Pseudo = "/export";
    Protocols = 3;
    SecType = sys;
    Access_Type = RW;
    Squash = None;
    FSAL { Name = VFS; }
}
`

// ganeshaScript runs in a mount namespace of its own (ip-netns(8) makes one): rpcbind and ganesha
// meet at a socket below /run, where the machine's own rpcbind may be.
const ganeshaScript = `mount -t tmpfs tmpfs /run && mkdir /run/rpcbind /run/ganesha && rpcbind -w &&
exec ganesha.nfsd -F -f "$1/ganesha.conf" -L "$1/ganesha.log" -N NIV_EVENT -p /run/ganesha.pid`

// startGanesha has ganesha export a folder below dir, through the plain file system.
func startGanesha(ctx context.Context, dir string) (*ganesha, error) {
	export := filepath.Join(dir, "export")
	if err := os.MkdirAll(export, 0o777); err != nil {
		return nil, fmt.Errorf("ganesha: %w", err)
	}
	config := fmt.Sprintf(ganeshaConfig, export)
	if err := os.WriteFile(filepath.Join(dir, "ganesha.conf"), []byte(config), 0o644); err != nil {
		return nil, fmt.Errorf("ganesha: %w", err)
	}
	host, err := lab.OpenHost(ctx, "ganesha")
	if err != nil {
		return nil, err
	}
	g := &ganesha{done: make(chan struct{})}
	g.server = &server{name: "ganesha", host: host, url: host.URL(export, imageName), pids: g.pid}
	g.cmd = host.Command(context.WithoutCancel(ctx), "sh", "-c", ganeshaScript, "sh", dir)
	var said strings.Builder
	g.cmd.Stdout, g.cmd.Stderr = &said, &said
	if err := g.cmd.Start(); err != nil {
		return nil, fmt.Errorf("ganesha: %w", err)
	}
	go func() {
		_ = g.cmd.Wait() // its end is noticed by whoever asks it
		close(g.done)
	}()
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		_, err := host.Output(ctx, "qemu-img", "create", "-q", "-f", "raw", g.url, "4096")
		if err == nil {
			return g, nil
		}
		select {
		case <-g.done:
			return nil, fmt.Errorf("ganesha has ended: %s; see %s", said.String(), filepath.Join(dir, "ganesha.log"))
		case <-ctx.Done():
			_ = g.close()
			return nil, fmt.Errorf("ganesha does not serve: %w; see %s", err, filepath.Join(dir, "ganesha.log"))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// pid is ganesha's: the shell has become it.
func (g *ganesha) pid() []int { return []int{g.cmd.Process.Pid} }

// close kills ganesha and rpcbind, which has its own session, with their namespace.
func (g *ganesha) close() error {
	err := g.host.Close()
	<-g.done
	return err
}
