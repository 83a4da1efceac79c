package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"trinas/packaging/lab"
)

// glusterPrepare makes a volume of three bricks on one host and starts it: as Debian's packages are, with
// the options that the project advises for images of machines, but without shards, so that an image
// is one file as it is with the others. GlusterFS refuses loopback addresses. $1: folder, $2: address.
const glusterPrepare = `mkdir -p "$1/lib" "$1/log" /run/gluster
cp -a /var/lib/glusterd/groups "$1/lib"
mount --bind "$1/lib" /var/lib/glusterd
mount --bind "$1/log" /var/log/glusterfs
glusterd -p /run/glusterd.pid
until gluster volume list >/dev/null 2>&1; do sleep 0.1; done
run() { gluster --mode=script volume "$@" >/dev/null; }
run create bench replica 3 "$2:$1/one" "$2:$1/two" "$2:$1/three" force
run set bench group virt
run set bench features.shard off
run start bench`

// startGluster has ganesha export a GlusterFS volume of three copies on the lab's disk.
func startGluster(ctx context.Context, l *lab.Lab) (*ganesha, error) {
	dir := filepath.Join(l.Dir, "gluster")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("gluster: %w", err)
	}
	host, addr, err := l.AddHost(ctx, "gluster")
	if err != nil {
		return nil, err
	}
	g := &ganesha{server: &server{name: "gluster", host: host, addr: addr, export: "/bench"}}
	g.pids = func() (pids []int) { // glusterd, bricks, heal daemon, ganesha
		out, _ := exec.Command("ip", "netns", "pids", host.NS).Output() // fails with the lab gone: no processes
		for _, field := range strings.Fields(string(out)) {
			if pid, err := strconv.Atoi(field); err == nil {
				pids = append(pids, pid)
			}
		}
		return pids
	}
	return g, g.start(ctx, dir, fmt.Sprintf("Name = GLUSTER; Hostname = %q; Volume = \"bench\";", addr), glusterPrepare)
}
