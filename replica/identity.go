package replica

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"trinas/replica/disk"
	"trinas/replica/transport"
	"trinas/replica/wal"
)

// identity is node.json: who this data directory is. Written last by Init and Join: without it
// the directory belongs to nobody.
type identity struct {
	Format      int      `json:"format"`
	Cluster     string   `json:"cluster"` // 32 hex digits
	ClusterName string   `json:"cluster_name"`
	Node        uint64   `json:"node"`
	Name        string   `json:"name"`
	CA          string   `json:"ca"`
	Cert        string   `json:"cert"`
	Key         string   `json:"key"`
	Peers       []Member `json:"peers"` // as of joining; the cluster's own list replaces it
}

const (
	identityFormat = 1
	firstNode      = 1 // the node that made the cluster
)

// unfinishedFile is in a data directory while Init, Join or Wipe is at work there. Without an
// identity beside it nothing in the directory counts: the next Init or Join clears it away.
const unfinishedFile = "unfinished"

func readIdentity(fsys disk.FS) (identity, error) {
	raw, err := readFile(fsys, identityFile)
	if errors.Is(err, fs.ErrNotExist) {
		return identity{}, ErrNoIdentity
	}
	if err != nil {
		return identity{}, fmt.Errorf("read the node's identity: %w", err)
	}
	path := fsys.Path(identityFile)
	var id identity
	if err := json.Unmarshal(raw, &id); err != nil {
		return identity{}, fmt.Errorf("decode %s: %w; bring the file back from a backup, or join again with an empty data directory", path, err)
	}
	if id.Format != identityFormat {
		return identity{}, fmt.Errorf("%s has format %d, this version knows %d: install the trinas version that wrote it", path, id.Format, identityFormat)
	}
	if err := id.transport().Validate(); err != nil {
		return identity{}, fmt.Errorf("%s: %w", path, err)
	}
	return id, nil
}

func (id identity) transport() transport.Identity {
	t := transport.Identity{Node: id.Node, CA: []byte(id.CA), Cert: []byte(id.Cert), Key: []byte(id.Key)}
	hex.Decode(t.Cluster[:], []byte(id.Cluster)) // a bad one does not fit the certificate: Validate
	return t
}

// write makes the data directory this identity's. prepare has come before.
func (id identity) write(opt Options) error {
	raw, err := json.MarshalIndent(id, "", " ")
	if err != nil {
		return err
	}
	if err := replaceFile(opt.Disk, identityFile, append(raw, '\n')); err != nil {
		return fmt.Errorf("write the node's identity: %w", err)
	}
	return finish(opt.Disk)
}

// unused fails unless the data directory is nobody's.
func unused(opt Options) error {
	id, err := readIdentity(opt.Disk)
	if err == nil {
		return fmt.Errorf("data directory %s belongs to node %q of cluster %q already: use an empty one (data_dir), "+
			"or see trinas wipe", opt.Disk.Path("."), id.Name, id.ClusterName)
	}
	if errors.Is(err, ErrNoIdentity) {
		err = noOrphan(opt.Disk)
	}
	return err
}

// noOrphan fails when a directory without an identity has data that may be somebody's all the same.
func noOrphan(fsys disk.FS) error {
	names, err := fsys.List(".")
	if errors.Is(err, fs.ErrNotExist) || slices.Contains(names, unfinishedFile) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the data directory: %w", err)
	}
	for _, name := range []string{logDir, clusterDir, volumesDir} {
		if slices.Contains(names, name) {
			return fmt.Errorf("data directory %s has data (%s) but no identity (%s): bring that file back from a backup; "+
				"trinas rescue reads the volumes, trinas wipe removes them", fsys.Path("."), name, identityFile)
		}
	}
	return nil
}

// prepare makes an unused directory ready for an identity: what an Init, Join or Wipe that was cut
// short left behind goes, and an empty log is made, so that a later start can tell a lost log from
// a new node. It comes before the cluster is asked: a disk that refuses is found out in time.
func prepare(opt Options) error {
	if err := begin(opt.Disk); err != nil {
		return err
	}
	if err := clearData(opt.Disk); err != nil {
		return err
	}
	l, err := wal.Open(opt.Disk.Sub(logDir), wal.Options{SegmentBytes: opt.SegmentBytes}, opt.Log)
	if err != nil {
		return fmt.Errorf("make the log: %w", err)
	}
	if err := l.Close(); err != nil {
		return fmt.Errorf("make the log: %w", err)
	}
	if err := opt.Disk.SyncDir("."); err != nil {
		return fmt.Errorf("make the log: %w", err)
	}
	return nil
}

// undo takes back what prepare made, after err, which it returns.
func undo(opt Options, err error) error {
	if clearErr := errors.Join(clearData(opt.Disk), finish(opt.Disk)); clearErr != nil {
		return fmt.Errorf("%w (and %s could not be cleared, which the next attempt does: %v)", err, opt.Disk.Path("."), clearErr)
	}
	return err
}

func begin(fsys disk.FS) error {
	if err := fsys.MkdirAll("."); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	f, err := fsys.Open(unfinishedFile, disk.Create)
	if err == nil {
		err = errors.Join(f.Close(), fsys.SyncDir("."))
	}
	if err != nil {
		return fmt.Errorf("write to the data directory: %w", err)
	}
	return nil
}

func finish(fsys disk.FS) error {
	err := fsys.Remove(unfinishedFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = fsys.SyncDir(".")
	}
	if err != nil {
		return fmt.Errorf("write to the data directory: %w", err)
	}
	return nil
}

// clearData removes all that a node ever keeps in its directory, but for unfinishedFile.
func clearData(fsys disk.FS) error {
	for _, name := range []string{identityFile, identityFile + ".new", volumesDir, rebuildsDir, clusterDir, logDir} {
		if err := fsys.RemoveAll(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("clear the data directory: %w", err)
		}
		if name == identityFile {
			// Gone for good before anything that it vouches for.
			if err := fsys.SyncDir("."); err != nil {
				return fmt.Errorf("clear the data directory: %w", err)
			}
		}
	}
	if err := fsys.SyncDir("."); err != nil {
		return fmt.Errorf("clear the data directory: %w", err)
	}
	return nil
}

// Leftovers tells whether a directory without an identity has what an Init, Join or Wipe that was
// cut short left behind. Nothing of it counts.
func Leftovers(fsys disk.FS) (bool, error) {
	names, err := fsys.List(".")
	if err != nil {
		return false, fmt.Errorf("read the data directory: %w", err)
	}
	return slices.Contains(names, unfinishedFile), nil
}

// Wipe removes everything that a node has kept in its data directory: identity, log and replicas.
// Nobody else may use the directory meanwhile. Cut short at any point it leaves the node as it was,
// or a directory that Init and Join take for an empty one; another Wipe goes on.
func Wipe(fsys disk.FS) error {
	if err := begin(fsys); err != nil {
		return err
	}
	if err := clearData(fsys); err != nil {
		return err
	}
	return finish(fsys)
}
