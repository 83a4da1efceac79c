package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"trinas/packaging/lab"
)

// ganesha is nfs-ganesha with a configuration, an rpcbind and a network namespace of its own.
type ganesha struct {
	*server
	cmd  *exec.Cmd
	done chan struct{}
}

// ganeshaMountPort is where MOUNT is: ganesha cannot have it on NFS's port.
const ganeshaMountPort = 20048

// ganeshaConfig: NFSv3 without lock manager. NFS and MOUNT cannot share a port.
const ganeshaConfig = `NFS_CORE_PARAM {
    Protocols = 3;
    NFS_Port = 2049;
    MNT_Port = %[2]d;
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

// startGanesha has ganesha export a folder of the lab's, through the plain file system, to its own
// host and to the nodes' network.
func startGanesha(ctx context.Context, l *lab.Lab) (*ganesha, error) {
	dir := filepath.Join(l.Dir, "ganesha")
	export := filepath.Join(dir, "export")
	if err := os.MkdirAll(export, 0o777); err != nil {
		return nil, fmt.Errorf("ganesha: %w", err)
	}
	config := fmt.Sprintf(ganeshaConfig, export, ganeshaMountPort)
	if err := os.WriteFile(filepath.Join(dir, "ganesha.conf"), []byte(config), 0o644); err != nil {
		return nil, fmt.Errorf("ganesha: %w", err)
	}
	host, addr, err := l.AddHost(ctx, "ganesha")
	if err != nil {
		return nil, err
	}
	g := &ganesha{done: make(chan struct{})}
	g.server = &server{name: "ganesha", host: host, url: host.URL(export, imageName), pids: g.pid,
		addr: addr, mountPort: ganeshaMountPort, export: export}
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
			g.close()
			return nil, fmt.Errorf("ganesha does not serve: %w; see %s", err, filepath.Join(dir, "ganesha.log"))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// pid is ganesha's: the shell has become it.
func (g *ganesha) pid() []int { return []int{g.cmd.Process.Pid} }

// close kills ganesha. Its rpcbind, which has a session of its own, goes with the lab's host.
func (g *ganesha) close() {
	_ = g.cmd.Process.Kill() // fails when it has ended
	<-g.done
}
