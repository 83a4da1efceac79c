package drill

import (
	"sync/atomic"
	"time"

	"trinas/replica/disk"
)

// Throttle makes the durable writes below a data directory's log slow for a while. The zero value does
// nothing.
type Throttle struct{ until atomic.Int64 } // nanoseconds since 1970

// Slow slows down until the moment given; one that is past ends it.
func (t *Throttle) Slow(until time.Time) { t.until.Store(until.UnixNano()) }

// Over returns fsys, the log's folder of it (dir) throttled by t.
func (t *Throttle) Over(fsys disk.FS, dir string) disk.FS { return &throttledRoot{fsys, t, dir} }

type throttledRoot struct {
	disk.FS
	throttle *Throttle
	dir      string
}

func (r *throttledRoot) Sub(dir string) disk.FS {
	sub := r.FS.Sub(dir)
	if dir == r.dir {
		return &throttledFS{sub, r.throttle}
	}
	return sub
}

type throttledFS struct {
	disk.FS
	throttle *Throttle
}

func (f *throttledFS) Open(name string, mode disk.Mode) (disk.File, error) {
	file, err := f.FS.Open(name, mode)
	if err != nil {
		return nil, err
	}
	return &throttledFile{file, f.throttle}, nil
}

type throttledFile struct {
	disk.File
	throttle *Throttle
}

// WriteSync is disk.File's: the writes that somebody waits for.
func (f *throttledFile) WriteSync(p []byte, off int64) error {
	began := time.Now()
	err := f.File.WriteSync(p, off)
	if until := f.throttle.until.Load(); until != 0 && began.UnixNano() < until {
		time.Sleep(min((slowFactor-1)*time.Since(began), slowMost))
	}
	return err
}
