package wal

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"time"

	"trinas/replica/disk"
)

// Open opens the log in fs, which is its own folder (made when it is not there), and recovers what
// is durable. ErrDamaged: something is lost in its middle; ErrNewerFormat. Nothing is changed
// before the whole log has been found good.
func Open(files disk.FS, opt Options, logger *slog.Logger) (*Log, error) {
	opt, err := opt.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("open write-ahead log %s: %w", files.Path("."), err)
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	l := &Log{
		fs: files, opt: opt, logger: logger,
		opened: time.Now(),
		done:   make(chan struct{}), stopped: make(chan struct{}), prepared: make(chan struct{}),
		groups: map[uint64]*Group{},
	}
	l.work.L, l.prepare.L, l.room.L = &l.mu, &l.mu, &l.mu
	if err := l.recover(); err != nil {
		return nil, errors.Join(fmt.Errorf("open write-ahead log %s: %w", files.Path("."), err), l.closeFiles())
	}
	go l.run()
	go l.runPreparer()
	return l, nil
}

// recover makes the Log what the files say, and the files ready to be written.
func (l *Log) recover() error {
	if err := l.fs.MkdirAll("."); err != nil {
		return err
	}
	if err := l.openSegments(); err != nil {
		return err
	}
	r := replay{log: l}
	unread := l.loadIndex()
	if unread != nil {
		l.logger.Debug("the log is read whole", "path", l.fs.Path(indexName), "err", unread)
		if err := r.run(); err != nil {
			return err
		}
	}
	if err := l.checkGroups(); err != nil {
		return err
	}
	if err := errors.Join(l.dropIndex(), l.tidy()); err != nil {
		return err
	}
	if l.w.tail != nil {
		if unread != nil {
			if err := r.rewriteLast(); err != nil {
				return err
			}
		}
		l.w.freed = true
		l.freeSegments()
		return nil
	}
	if l.id == 0 {
		l.id = newLogID()
	}
	if len(l.segments) == 0 { // now rather than later: whoever opens the log hears of a full disk
		return l.create()
	}
	return nil
}

// newLogID draws a log's id, never 0.
func newLogID() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return binary.LittleEndian.Uint64(b[:]) | 1
}

// openSegments opens all files, and makes sure that the directory is durable as it is seen now:
// the run before may have ended between a rename and its sync.
func (l *Log) openSegments() error {
	names, err := l.fs.List(".")
	if err != nil {
		return err
	}
	if err := l.fs.SyncDir("."); err != nil {
		return err
	}
	for _, name := range names {
		num, ours := segmentNumber(name)
		if !ours {
			continue
		}
		if n := len(l.segments); n > 0 && num != l.segments[n-1].num+1 {
			return fmt.Errorf("segment %s is missing: %w", segmentName(l.segments[n-1].num+1), ErrDamaged)
		}
		file, err := l.fs.Open(name, disk.ReadWrite)
		if err != nil {
			return err
		}
		s := &segment{num: num, file: file}
		l.segments = append(l.segments, s)
		info, err := file.Stat()
		if err != nil {
			return err
		}
		s.size = info.SizeBytes &^ (disk.BlockBytes - 1)
		if s.size > 4<<30-disk.BlockBytes { // places in a ref have 32 bits
			return fmt.Errorf("segment %s has %d bytes, the log's format allows 4 GiB: %w",
				name, info.SizeBytes, ErrDamaged)
		}
	}
	return nil
}

// tidy removes what is of no use: spares of another size, a half-made segment. From the highest
// number down, each removal durable before the next, so that no gap can come to be.
func (l *Log) tidy() error {
	err := l.fs.Remove(newName)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for {
		i := slices.IndexFunc(l.segments, func(s *segment) bool {
			return s.num > l.tail && s.size != l.opt.SegmentBytes
		})
		if i < 0 {
			return nil
		}
		last := l.segments[len(l.segments)-1]
		if err := l.fs.Remove(segmentName(last.num)); err != nil {
			return err
		}
		if err := l.fs.SyncDir("."); err != nil {
			return err
		}
		l.segments = l.segments[:len(l.segments)-1]
		if err := last.file.Close(); err != nil {
			return err
		}
	}
}

// checkGroups makes sure that every entry that is still needed is there, and readies the groups
// for the writer.
func (l *Log) checkGroups() error {
	for _, g := range l.allGroups(nil) {
		if g.first-1 > g.base {
			return fmt.Errorf("entries %d to %d of group %d are missing, segments before %s with them: %w",
				g.base+1, g.first-1, g.id, segmentName(l.segments[0].num), ErrDamaged)
		}
		g.next = next{hard: g.hard, last: g.last()}
	}
	return nil
}
