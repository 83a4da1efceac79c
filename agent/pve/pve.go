// Package pve reads Proxmox VE's cluster file system (pmxcfs, usually /etc/pve), and keeps
// trinas's invitations, and which nodes it has had evacuated, in the part of it that only root may read. A folder made the same way serves
// as well. It must never put a secret where anybody but root can read it.
//
// pmxcfs holds the same small files on every node of a Proxmox cluster; without quorum writes fail
// with "permission denied", and while it is stopped its folders are not there.
//
// Floor 0: imports nothing of trinas.
package pve

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Dir is where the cluster file system is mounted.
type Dir string

// maxFileBytes bounds what is read: pmxcfs takes no larger file.
const maxFileBytes = 1 << 20

const invitationFormat = 1

// Invitation lets one node join a trinas cluster by itself. Its token is a secret.
type Invitation struct {
	Format      int       `json:"format"`
	Cluster     string    `json:"cluster"` // its id
	ClusterName string    `json:"cluster_name"`
	Node        string    `json:"node"`      // whom it is for
	Addresses   []string  `json:"addresses"` // host:port of members, to be asked in turn
	Token       string    `json:"token"`     // names the cluster's authority too
	Expires     time.Time `json:"expires"`
}

// nodeName is what Proxmox allows a node to be called.
var nodeName = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$`)

// Present tells whether the cluster file system is there. "" is never there.
func (d Dir) Present() bool {
	if d == "" {
		return false
	}
	for _, sub := range []string{"nodes", "priv"} {
		if info, err := os.Stat(filepath.Join(string(d), sub)); err != nil || !info.IsDir() {
			return false
		}
	}
	return true
}

// Nodes are the names of the Proxmox cluster's nodes, sorted.
func (d Dir) Nodes() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(string(d), "nodes"))
	if err != nil {
		return nil, fmt.Errorf("list the nodes of Proxmox: %w", err)
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() && nodeName.MatchString(e.Name()) {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

func (d Dir) folder() string { return filepath.Join(string(d), "priv", "trinas") }

func (d Dir) file(node string) (string, error) {
	if !nodeName.MatchString(node) {
		return "", fmt.Errorf("invitation for %q: no name of a node", node)
	}
	return filepath.Join(d.folder(), strings.ToLower(node)+".json"), nil
}

// Invitation reads the one for node. fs.ErrNotExist when there is none.
func (d Dir) Invitation(node string) (Invitation, error) {
	path, err := d.file(node)
	if err != nil {
		return Invitation{}, err
	}
	f, err := os.Open(path)
	if err != nil {
		return Invitation{}, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxFileBytes))
	if err != nil {
		return Invitation{}, err
	}
	var inv Invitation
	if err := json.Unmarshal(raw, &inv); err != nil {
		return Invitation{}, fmt.Errorf("decode %s: %w", path, err)
	}
	if inv.Format != invitationFormat || !strings.EqualFold(inv.Node, node) {
		return Invitation{}, fmt.Errorf("%s has format %d and is for node %q: it is another version's, or was copied; "+
			"remove it, a member writes a new one", path, inv.Format, inv.Node)
	}
	return inv, nil
}

// Invite writes an invitation in place of the former one for its node. Readers see the one or the
// other, whole.
func (d Dir) Invite(inv Invitation) error {
	path, err := d.file(inv.Node)
	if err != nil {
		return err
	}
	if err := d.private(); err != nil {
		return err
	}
	inv.Format = invitationFormat
	raw, err := json.MarshalIndent(inv, "", " ")
	if err != nil {
		return err
	}
	next := path + ".new"
	if err := os.WriteFile(next, append(raw, '\n'), 0o600); err != nil {
		return fmt.Errorf("write an invitation: %w (without quorum of the Proxmox cluster nothing can be written: pvecm status)", err)
	}
	if err := os.Rename(next, path); err != nil {
		return errors.Join(fmt.Errorf("write an invitation: %w", err), os.Remove(next))
	}
	return nil
}

// private makes the folder, and refuses one that others than root may look into.
func (d Dir) private() error {
	priv := filepath.Dir(d.folder())
	info, err := os.Stat(priv)
	if err != nil {
		return fmt.Errorf("root's part of the Proxmox cluster: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%s has mode %04o and must be root's alone: nothing of trinas is written there", priv, mode)
	}
	if err := os.Mkdir(d.folder(), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the folder for invitations: %w", err)
	}
	return nil
}

// Withdraw removes the invitation for node, where there is one.
func (d Dir) Withdraw(node string) error {
	path, err := d.file(node)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("withdraw an invitation: %w", err)
	}
	return nil
}

// evacuated is the file that says of a node that trinas has had HA evacuate it. It is not on the node
// itself, whose disk may be what failed.
func (d Dir) evacuated(node string) string {
	return filepath.Join(d.folder(), strings.ToLower(node)+".evacuated")
}

// Evacuated reports whether SetEvacuated has said so of the node.
func (d Dir) Evacuated(node string) (bool, error) {
	_, err := os.Stat(d.evacuated(node))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// SetEvacuated remembers that the node was evacuated by trinas, or forgets it.
func (d Dir) SetEvacuated(node string, yes bool) error {
	if !nodeName.MatchString(node) {
		return fmt.Errorf("evacuation of %q: no name of a node", node)
	}
	if !yes {
		if err := os.Remove(d.evacuated(node)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget the evacuation of %s: %w", node, err)
		}
		return nil
	}
	err := d.private()
	if err == nil {
		err = os.WriteFile(d.evacuated(node), nil, 0o600)
	}
	if err != nil {
		return fmt.Errorf("remember the evacuation of %s: %w", node, err)
	}
	return nil
}

// Invited are the nodes, in lower case, for which there is an invitation, whoever's.
func (d Dir) Invited() ([]string, error) {
	entries, err := os.ReadDir(d.folder())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list invitations: %w", err)
	}
	var out []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".json"); ok && nodeName.MatchString(name) {
			out = append(out, name)
		}
	}
	return out, nil
}
