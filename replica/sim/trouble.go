package sim

import (
	"strings"
	"sync"
	"syscall"
	"time"
)

// trouble is what is wrong with a node's disk. The zero trouble is none.
type trouble struct {
	mu       sync.Mutex
	sync     time.Duration // what each sync of the log takes
	log      bool          // writes of the log fail
	read     string        // reads of files whose names begin so fail; "": none
	objects  error         // of writes of objects and checkpoints
	write    time.Duration // what each write of an object or a checkpoint takes
	hangs    chan struct{} // if not nil the disk hangs from the next write of an object on, until it is closed
	hanging  bool          // it does
	standing chan struct{} // everything waits; closed when it goes on
}

// hook is for disk.Mem.OnOp.
func (t *trouble) hook(op, name string, _, _ int64) error {
	t.mu.Lock()
	delay, write, standing := t.sync, t.write, t.standing
	isLog := strings.HasPrefix(name, "log/")
	var err error
	switch {
	case t.read != "" && op == "read" && strings.HasPrefix(name, t.read):
		err = syscall.EIO
	case op != "write" && op != "writesync":
	case isLog && t.log:
		err = syscall.EIO
	case strings.HasPrefix(name, "volumes/"):
		err = t.objects
	}
	t.hanging = t.hangs != nil && (t.hanging || op == "write" && strings.HasPrefix(name, "volumes/"))
	if t.hanging && (op == "write" || op == "writesync" || op == "sync") {
		standing = t.hangs
	}
	t.mu.Unlock()
	if standing != nil {
		<-standing
	}
	if delay > 0 && op == "writesync" && isLog {
		time.Sleep(delay)
	}
	if write > 0 && op == "write" && !isLog {
		time.Sleep(write)
	}
	return err
}

func (t *trouble) pause() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.standing == nil {
		t.standing = make(chan struct{})
	}
}

func (t *trouble) resume() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.standing != nil {
		close(t.standing)
		t.standing = nil
	}
}

// set changes what is wrong.
func (t *trouble) set(change func(t *trouble)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(t)
}

// fails reports whether something is wrong that makes operations fail.
func (t *trouble) fails() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.log || t.read != "" || t.objects != nil
}

// clear ends all but a pause.
func (t *trouble) clear() {
	t.set(func(t *trouble) { t.sync, t.log, t.read, t.objects, t.write = 0, false, "", nil, 0 })
}
