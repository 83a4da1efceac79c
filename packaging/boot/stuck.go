package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/willscott/go-nfs"

	"trinas/agent/drill"
	"trinas/nfsgw/nfs3"
	"trinas/packaging/lab"
)

// The guests that are said to run on the third machine (ha/etc-pve).
const (
	waitingGuest = 100 // HA's, on the volume, and its I/O waits
	localGuest   = 101 // HA's, on a disk of the node
	ownGuest     = 102 // not HA's, on the volume, and its I/O waits
	idleGuest    = 103 // HA's, on the volume, and does no I/O
)

// poseAsGuest runs a process with QEMU's command line as Proxmox makes it, in a unit of its own, and writes the file with
// its id.
const poseAsGuest = `set -e
test -e /usr/bin/kvm || cp /usr/bin/perl /usr/bin/kvm
mkdir -p /run/qemu-server
systemd-run --quiet --unit="guest-$1" --slice=qemu.slice /usr/bin/kvm -e 'sleep 9 while 1' -- -id "$1" -name posing
systemctl show -P MainPID "guest-$1" >"/run/qemu-server/$1.pid"
chmod 600 "/run/qemu-server/$1.pid"
`

// guestFolder and guestImage are where a guest's image is.
func guestFolder(vmid int) string { return fmt.Sprintf("%s/images/%d", volumeName, vmid) }
func guestImage(vmid int) string  { return fmt.Sprintf("vm-%d-disk-0.raw", vmid) }

// killStuck pulls a node's cable while corosync, as .members has it, goes on: of the guests there exactly the one ends that
// HA can start elsewhere and that needs it. It is started on another node, and what its kernel still had to write is
// refused.
func (t *trial) killStuck(ctx context.Context, m, other *lab.Machine) (err error) {
	if err := makeFolder(ctx, m, volumeName, "images"); err != nil {
		return err
	}
	for vmid := waitingGuest; vmid <= idleGuest; vmid++ {
		if _, err := m.Run(ctx, "sh", "-c", poseAsGuest, "sh", fmt.Sprint(vmid)); err != nil {
			return err
		}
		if vmid == localGuest {
			continue
		}
		err := makeFolder(ctx, m, volumeName+"/images", fmt.Sprint(vmid))
		if err == nil {
			err = write(ctx, m, guestFolder(vmid), guestImage(vmid), 1)
		}
		if err == nil {
			err = activate(ctx, m, vmid)
		}
		if err != nil {
			return err
		}
	}
	waiting, err := openLate(ctx, m, waitingGuest)
	if err != nil {
		return err
	}
	defer waiting.client.Close()
	own, err := openLate(ctx, m, ownGuest)
	if err != nil {
		return err
	}
	defer own.client.Close()
	began := time.Now()
	if err := t.machines.Cut(ctx, m); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.machines.Heal(context.WithoutCancel(ctx), m)) }()
	waiting.write(ctx)
	own.write(ctx)
	soon, cancel := context.WithTimeout(ctx, haWithin)
	defer cancel()
	err = m.Await(soon, "the guest to be killed", func() error {
		out, err := m.Run(soon, "systemctl", "show", "-P", "Result", fmt.Sprintf("guest-%d", waitingGuest))
		if err == nil && strings.TrimSpace(string(out)) != "signal" {
			err = errors.New("it runs")
		}
		return err
	})
	if err != nil {
		return err
	}
	took := time.Since(began)
	report(m.Name+": cut off, the HA guest whose I/O waits is killed after", took, cutOffAfter+stuckAfter+5*time.Second)
	if took < stuckAfter {
		return fmt.Errorf("it was killed after %v", took)
	}
	began = time.Now()
	if err := activate(ctx, m, waitingGuest); err == nil || !strings.Contains(err.Error(), "cut off") {
		return fmt.Errorf("it could have been started on %s again: %w", m.Name, err)
	}
	report(m.Name+": where it was it is refused, after", time.Since(began), time.Second)
	began = time.Now()
	err = activate(ctx, other, waitingGuest)
	if err == nil {
		err = write(ctx, other, guestFolder(waitingGuest), guestImage(waitingGuest), 3)
	}
	if err != nil {
		return err
	}
	report(other.Name+": its image is activated, written and read, after", time.Since(began), time.Second)
	if err := t.machines.Heal(ctx, m); err != nil {
		return err
	}
	if err := <-waiting.result; !drill.IsStatus(err, nfs.NFSStatusIO) {
		return fmt.Errorf("what the killed guest's kernel had to write: %w, not NFS3ERR_IO", err)
	}
	if err := <-own.result; err != nil {
		return fmt.Errorf("what guest %d had to write: %w", ownGuest, err)
	}
	if err := t.settled(ctx); err != nil {
		return err
	}
	for _, vmid := range []int{localGuest, ownGuest, idleGuest} {
		if _, err := m.Run(ctx, "systemctl", "is-active", "--quiet", fmt.Sprintf("guest-%d", vmid)); err != nil {
			return fmt.Errorf("guest %d was to be left alone: %w", vmid, err)
		}
	}
	fmt.Println("stuck guests: one killed, three left alone; what the killed one still had to write is refused after the heal")
	return errors.Join(logged(ctx, m, "guest-killed", 1), logged(ctx, m, "image-fenced", 1))
}

func activate(ctx context.Context, m *lab.Machine, vmid int) error {
	_, err := m.Run(ctx, "trinas", "image", "activate", volumeName, fmt.Sprintf("images/%d/%s", vmid, guestImage(vmid)))
	return err
}

// lateWriter is a guest's image as the NFS client of the node's kernel has it open: it keeps its connection, and waits for
// an answer for as long as it takes.
type lateWriter struct {
	client *nfs3.Client
	handle []byte
	result chan error // of the write
}

// openLate opens a guest's image.
func openLate(ctx context.Context, m *lab.Machine, vmid int) (*lateWriter, error) {
	client, err := m.DialNFS(ctx)
	if err != nil {
		return nil, err
	}
	w := &lateWriter{client: client, result: make(chan error, 1)}
	dir, err := client.Mnt(ctx, "/"+guestFolder(vmid))
	if err == nil {
		w.handle, _, err = client.Lookup(ctx, dir, guestImage(vmid))
	}
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return w, nil
}

// write begins a write. It ends with the connection, if not before.
func (w *lateWriter) write(ctx context.Context) {
	go func() {
		_, _, err := w.client.Write(ctx, w.handle, 0, block(2), nfs3.FileSync)
		w.result <- err
	}()
}
