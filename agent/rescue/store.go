// Package rescue reads a stopped node's data directory with no cluster and no agent: it lists,
// copies out and serves what the node's replicas hold. It must never change the directory: what
// replaying the log writes stays in an overlay. It must never pass off as committed what is not
// known to be.
//
// Floor 4: imports replica, replica/disk, replica/wal, replica/volume and agent/datadir.
package rescue

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"slices"
	"strconv"

	"go.etcd.io/raft/v3/raftpb"

	"trinas/agent/datadir"
	"trinas/replica"
	"trinas/replica/disk"
	"trinas/replica/volume"
	"trinas/replica/wal"
)

// Options say how to read a data directory.
type Options struct {
	// Uncommitted also replays entries that the node had in its log but did not know to be
	// committed: the cluster may have refused them to their clients, or replaced them.
	Uncommitted bool
	// WithoutLog reads the last checkpoints alone, for a log that is damaged. Files then have
	// the names, sizes and owners of the checkpoint, over bytes that may be newer.
	WithoutLog bool
	// Scratch is the directory for changed blocks, at most about as many bytes as the log has.
	// "": the system's directory for temporary files.
	Scratch string
	Log     *slog.Logger
}

// Store is an open data directory. Safe for concurrent reading once Open has returned.
type Store struct {
	Dir     string
	volumes []*Volume
	lock    *datadir.Lock
	overlay *Overlay
	log     *wal.Log
}

// Volume is one replica of a data directory.
type Volume struct {
	Dir  string // its directory's name: the volume's id in hexadecimal
	Name string // "" when it could not be read
	// Err says why the volume cannot be read; everything below is then zero.
	Err error

	Checkpoint uint64 // log index that the last checkpoint holds
	Committed  uint64 // last log index that is known to be committed
	Last       uint64 // last log index that the node has
	Applied    uint64 // log index that is shown
	Files      uint64
	UsedBytes  uint64
	Unfinished bool // a resync of this replica stopped half-way
	replica    *volume.Volume
}

// Uncommitted is how many entries the node holds beyond what it knew to be committed.
func (v *Volume) Uncommitted() uint64 {
	if v.Last <= v.Committed {
		return 0
	}
	return v.Last - v.Committed
}

// Open locks dir against agents, opens its log and replays every volume's committed entries over
// its checkpoint. A volume that cannot be read has Err set and does not hinder the others.
func Open(dir string, opt Options) (*Store, error) {
	s := &Store{Dir: dir}
	if err := s.open(opt); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Store) open(opt Options) error {
	var err error
	if s.lock, err = datadir.Shared(s.Dir); err != nil {
		if errors.Is(err, datadir.ErrInUse) {
			return fmt.Errorf("%w: an agent runs on it: stop it first (systemctl stop trinas)", err)
		}
		return err
	}
	base := disk.OS(s.Dir)
	volumesDir := path.Dir(replica.VolumeDir(0))
	if info, err := base.Stat(volumesDir); err != nil || !info.Dir {
		return fmt.Errorf("%s is no data directory of trinas: it has no directory %q", s.Dir, volumesDir)
	}
	if s.overlay, err = NewOverlay(base, opt.Scratch); err != nil {
		return err
	}
	if !opt.WithoutLog {
		s.log, err = wal.Open(s.overlay.Sub(replica.LogDir), wal.Options{}, opt.Log)
		if err != nil {
			return fmt.Errorf("%w (--without-log reads the last checkpoints alone)", err)
		}
	}
	names, err := s.overlay.List(volumesDir)
	if err != nil {
		return fmt.Errorf("list volumes: %w", err)
	}
	for _, name := range names {
		v := &Volume{Dir: name}
		if err := v.open(s, opt); err != nil {
			v.Err = err
		}
		s.volumes = append(s.volumes, v)
	}
	slices.SortStableFunc(s.volumes, func(a, b *Volume) int { return cmp.Compare(a.Name, b.Name) })
	return nil
}

func (v *Volume) open(s *Store, opt Options) error {
	n, err := strconv.ParseUint(v.Dir, 16, 64)
	id := volume.ID(n)
	dir := replica.VolumeDir(id)
	if err != nil || path.Base(dir) != v.Dir {
		return fmt.Errorf("%q is not a volume's id in 16 hexadecimal digits", v.Dir)
	}
	v.replica, err = volume.Open(s.overlay.Sub(dir), volume.Options{Rescue: true, Log: opt.Log})
	if err != nil {
		return err
	}
	info := v.replica.Info()
	if info.ID != id {
		return fmt.Errorf("%s holds volume %016x: it was moved here by hand", s.overlay.Path(dir), uint64(info.ID))
	}
	v.Name = info.Name
	if v.Unfinished, err = v.replica.Unfinished(); err != nil {
		return err
	}
	v.Checkpoint, _ = v.replica.Applied()
	v.Committed, v.Last = v.Checkpoint, v.Checkpoint
	if s.log != nil {
		if err := v.replay(s.log.Group(n), opt.Uncommitted); err != nil {
			return fmt.Errorf("volume %q: %w", v.Name, err)
		}
	}
	v.Applied, _ = v.replica.Applied()
	stats := v.replica.Stat()
	v.Files, v.UsedBytes = uint64(stats.Files), stats.UsedBytes
	return nil
}

// maxReplayBytes is how much of the log is in memory at once during replay.
const maxReplayBytes = 4 << 20

// replay applies the log's entries after the checkpoint: those known to be committed, or all.
//
// The log's commit index may lag behind the checkpoint (it rides with later writes), and a
// checkpoint only ever holds committed entries: what is known to be committed is the larger.
func (v *Volume) replay(g *wal.Group, uncommitted bool) error {
	last, err := g.LastIndex()
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	v.Last = max(last, v.Checkpoint)
	v.Committed = max(min(g.HardState().GetCommit(), last), v.Checkpoint)
	end := v.Committed
	if uncommitted {
		end = v.Last
	}
	for next := v.Checkpoint + 1; next <= end; {
		entries, err := g.Entries(next, end+1, maxReplayBytes)
		if err != nil {
			return fmt.Errorf("read entry %d of the log: %w (--without-log shows the checkpoint, at %d)",
				next, err, v.Checkpoint)
		}
		for _, e := range entries {
			if err := v.apply(e); err != nil {
				return err
			}
		}
		next += uint64(len(entries))
	}
	return nil
}

// apply applies one entry. A change of the Raft group's members means nothing to a reader.
func (v *Volume) apply(e *raftpb.Entry) error {
	data := e.GetData()
	if e.GetType() != raftpb.EntryNormal {
		data = nil
	}
	if _, err := v.replica.Apply(e.GetIndex(), e.GetTerm(), data); err != nil {
		return fmt.Errorf("replay entry %d of the log: %w", e.GetIndex(), err)
	}
	return nil
}

// Volumes lists the replicas, by name; those that cannot be read come first.
func (s *Store) Volumes() []*Volume { return s.volumes }

// Volume finds a readable volume by its name.
func (s *Store) Volume(name string) (*Volume, error) {
	var unread error
	for _, v := range s.volumes {
		if v.Err == nil && v.Name == name {
			return v, nil
		}
		if v.Err != nil && (v.Name == name || v.Dir == name) {
			unread = v.Err
		}
	}
	if unread != nil {
		return nil, unread
	}
	return nil, fmt.Errorf("%s holds no volume %q: %w: trinas rescue list shows which it holds", s.Dir, name, fs.ErrNotExist)
}

// Close gives everything back. It may be called twice.
func (s *Store) Close() error {
	var errs []error
	for _, v := range s.volumes {
		if v.replica != nil {
			errs = append(errs, v.replica.Close())
			v.replica = nil
		}
	}
	if s.log != nil {
		errs = append(errs, s.log.Close())
		s.log = nil
	}
	if s.overlay != nil {
		errs = append(errs, s.overlay.Close())
		s.overlay = nil
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Release())
		s.lock = nil
	}
	return errors.Join(errs...)
}
