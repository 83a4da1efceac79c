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

// ganesha is an nfs-ganesha with a configuration, an rpcbind and a network namespace of its own.
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
    FSAL { %[3]s }
}
`

// ganeshaScript runs in a mount namespace of its own (ip-netns(8) makes one): rpcbind and ganesha
// meet at a socket below /run, where the machine's own rpcbind may be. prepare comes between them.
const ganeshaScript = `set -e
mount -t tmpfs tmpfs /run
mkdir /run/rpcbind /run/ganesha
rpcbind -w
%s
exec ganesha.nfsd -F -f "$1/ganesha.conf" -L "$1/ganesha.log" -N NIV_EVENT -p /run/ganesha.pid`

// syncedPrepare puts a file system under the export that has everything on the disk before a call returns, names and
// attributes too: RFC 1813 §4.8 wants a server to answer then only, and ganesha's VFS leaves it to the file system.
const syncedPrepare = `truncate -s 8G "$1/disk.img"
mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 "$1/disk.img"
mount -o loop,sync,dirsync "$1/disk.img" "$1/export"`

// startGanesha has ganesha export a folder of the lab's, through the plain file system; prepare is a part of
// ganeshaScript.
func startGanesha(ctx context.Context, l *lab.Lab, name, prepare string) (*ganesha, error) {
	dir := filepath.Join(l.Dir, name)
	export := filepath.Join(dir, "export")
	if err := os.MkdirAll(export, 0o777); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	host, addr, err := l.AddHost(ctx, name)
	if err != nil {
		return nil, err
	}
	g := &ganesha{server: &server{name: name, host: host, addr: addr, export: export}}
	g.pids = func() []int { return []int{g.cmd.Process.Pid} } // the shell has become it
	return g, g.start(ctx, dir, "Name = VFS;", prepare)
}

// start runs ganesha with this FSAL, to serve its own host and the nodes' network, and returns once it
// serves. dir gets its files; prepare is a part of the script.
func (g *ganesha) start(ctx context.Context, dir, fsal, prepare string) error {
	g.url, g.mountPort, g.done = g.host.URL(g.export, imageName), ganeshaMountPort, make(chan struct{})
	config := fmt.Sprintf(ganeshaConfig, g.export, ganeshaMountPort, fsal)
	if err := os.WriteFile(filepath.Join(dir, "ganesha.conf"), []byte(config), 0o644); err != nil {
		return fmt.Errorf("%s: %w", g.name, err)
	}
	g.cmd = g.host.Command(context.WithoutCancel(ctx), "sh", "-c", fmt.Sprintf(ganeshaScript, prepare), "sh", dir, g.addr)
	var said strings.Builder
	g.cmd.Stdout, g.cmd.Stderr = &said, &said
	if err := g.cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", g.name, err)
	}
	go func() {
		_ = g.cmd.Wait() // its end is noticed by whoever asks it
		close(g.done)
	}()
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		_, err := g.host.Output(ctx, "qemu-img", "create", "-q", "-f", "raw", g.url, "4096")
		if err == nil {
			return nil
		}
		select {
		case <-g.done:
			return fmt.Errorf("%s has ended: %s; see %s", g.name, said.String(), filepath.Join(dir, "ganesha.log"))
		case <-ctx.Done():
			g.close()
			return fmt.Errorf("%s does not serve: %w; see %s", g.name, err, filepath.Join(dir, "ganesha.log"))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// close kills ganesha. What else runs on its host goes with the lab's.
func (g *ganesha) close() {
	_ = g.cmd.Process.Kill() // fails when it has ended
	<-g.done
}
