package volume

import (
	"container/list"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"sync"

	"trinas/replica/disk"
)

const objectsDir = "objects"

// objectPath is where a file's bytes are: objects/<2 hex>/<16 hex>, by the id's low byte.
func objectPath(id FileID) string { return fmt.Sprintf("%s/%016x", objectDir(id), uint64(id)) }

func objectDir(id FileID) string { return fmt.Sprintf("%s/%02x", objectsDir, uint8(id)) }

// objects keeps the objects' files: which are open, and what of them is not known to be durable.
// Only Apply changes objects; Query reads them; Checkpoint syncs them.
//
// An object that is dirty stays open until it has been synced, through the very descriptor that
// was written to: after a failed write-back the kernel may forget error and pages alike once the
// last descriptor is closed.
type objects struct {
	fs         disk.FS
	maxClean   int         // open objects with nothing to sync; more are closed, the least recently used first
	maxDirty   int         // dirty objects; one more has the least recently used synced at once
	dropSynced func() bool // Options.DropSynced

	mu          sync.Mutex // guards below; not held across I/O
	open        map[FileID]*object
	clean       list.List // of *object, most recently used first
	dirty       list.List
	changedDirs map[string]struct{} // had objects made or removed since the last capture
	flushDirs   map[string]struct{} // before it, and not synced yet
	dirtyBytes  int64
	closed      bool
}

// object is one open object.
type object struct {
	id   FileID
	file disk.File

	// Guarded by objects.mu.
	refs  int
	gone  bool // removed, or evicted: the last to release it closes it
	place *list.Element
	// Dirty bytes by extent, at most ExtentBytes each: since the last capture, and before it.
	// Both nil: clean.
	since, flush map[uint32]uint32
}

// newObjects takes the objects as an earlier run has left them. It may have been killed after it had made or removed
// some, without a crash of the machine: the names are there, and not known to be durable. So the first capture takes
// all directories.
func newObjects(fsys disk.FS, opt Options) (*objects, error) {
	s := &objects{
		fs: fsys, maxClean: opt.OpenObjects, maxDirty: opt.DirtyObjects, dropSynced: opt.DropSynced,
		open:        make(map[FileID]*object),
		changedDirs: make(map[string]struct{}),
		flushDirs:   make(map[string]struct{}),
	}
	dirs, err := fsys.List(objectsDir)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	s.changedDirs[objectsDir] = struct{}{}
	for _, dir := range dirs {
		if id, err := strconv.ParseUint(dir, 16, 8); err == nil && objectDir(FileID(id)) == objectsDir+"/"+dir {
			s.changedDirs[objectsDir+"/"+dir] = struct{}{}
		}
	}
	return s, err
}

// acquire opens an object, or gives the open one; release gives it back. One that does not exist
// is made if create is set, else the error is fs.ErrNotExist.
func (s *objects) acquire(id FileID, create bool) (*object, error) {
	s.mu.Lock()
	if o := s.use(id); o != nil {
		s.mu.Unlock()
		return o, nil
	}
	s.mu.Unlock()
	file, err := s.openFile(id, create)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	if o := s.use(id); o != nil { // somebody else was quicker
		s.mu.Unlock()
		_ = file.Close() // nothing was written to it
		return o, nil
	}
	if s.closed {
		s.mu.Unlock()
		_ = file.Close() // nothing was written to it
		return nil, ErrClosed
	}
	o := &object{id: id, file: file, refs: 1}
	s.open[id] = o
	o.place = s.clean.PushFront(o)
	idle := s.evictClean()
	s.mu.Unlock()
	closeAll(idle)
	return o, nil
}

// use gives an object that is open. Called with mu held.
func (s *objects) use(id FileID) *object {
	o := s.open[id]
	if o != nil {
		o.refs++
		s.listOf(o).MoveToFront(o.place)
	}
	return o
}

func (s *objects) openFile(id FileID, create bool) (disk.File, error) {
	path := objectPath(id)
	file, err := s.fs.Open(path, disk.ReadWrite)
	if err == nil || !create || !errors.Is(err, fs.ErrNotExist) {
		return file, err
	}
	if err := s.fs.MkdirAll(objectDir(id)); err != nil {
		return nil, err
	}
	if file, err = s.fs.Open(path, disk.Create); err != nil {
		return nil, err
	}
	s.dirChanged(id)
	return file, nil
}

func (s *objects) dirChanged(id FileID) {
	s.mu.Lock()
	s.changedDirs[objectDir(id)] = struct{}{}
	s.changedDirs[objectsDir] = struct{}{}
	s.mu.Unlock()
}

// evictClean takes clean objects beyond the bound out; the caller closes them without mu.
func (s *objects) evictClean() (idle []disk.File) {
	for e := s.clean.Back(); e != nil && s.clean.Len() > s.maxClean; {
		o, next := e.Value.(*object), e.Prev()
		if o.refs == 0 {
			idle = append(idle, s.forget(o))
		}
		e = next
	}
	return idle
}

// forget takes an object out of the lists and gives its file, to be closed, if nobody uses it.
func (s *objects) forget(o *object) disk.File {
	s.listOf(o).Remove(o.place)
	delete(s.open, o.id)
	s.dirtyBytes -= sum(o.since) + sum(o.flush)
	o.since, o.flush, o.gone = nil, nil, true
	if o.refs == 0 {
		return o.file
	}
	return nil
}

func (s *objects) listOf(o *object) *list.List {
	if o.since != nil || o.flush != nil {
		return &s.dirty
	}
	return &s.clean
}

func (s *objects) release(o *object) {
	s.mu.Lock()
	o.refs--
	last := o.gone && o.refs == 0
	s.mu.Unlock()
	if last {
		_ = o.file.Close() // removed or synced: nothing can get lost
	}
}

// wrote notes that n bytes from off on have changed, which lie in one object of Apply's.
func (s *objects) wrote(o *object, off, n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.gone {
		return
	}
	if from := s.listOf(o); o.since == nil {
		o.since = make(map[uint32]uint32)
		if from == &s.clean {
			s.clean.Remove(o.place)
			o.place = s.dirty.PushFront(o)
		}
	}
	for end := off + n; off < end; {
		num := uint32(off / ExtentBytes)
		stop := min(end, (uint64(num)+1)*ExtentBytes)
		had := o.since[num]
		has := min(had+uint32(stop-off), ExtentBytes)
		o.since[num] = has
		s.dirtyBytes += int64(has - had)
		off = stop
	}
}

// settle syncs and closes the least recently used dirty objects beyond the bound. Apply calls it
// after a change, being the only one that makes objects dirty.
func (s *objects) settle() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := s.dirty.Back(); e != nil && s.dirty.Len() > s.maxDirty; e = s.dirty.Back() {
		o := e.Value.(*object)
		o.refs++
		s.mu.Unlock()
		err := o.file.Sync()
		s.mu.Lock()
		o.refs--
		if err != nil {
			return fmt.Errorf("sync object %s: %w", s.fs.Path(objectPath(o.id)), err)
		}
		if o.gone {
			continue
		}
		if file := s.forget(o); file != nil {
			s.mu.Unlock()
			_ = file.Close() // synced: nothing can get lost
			s.mu.Lock()
		}
	}
	return nil
}

// readAt fills p from the object; what it has not is zeros. got counts the bytes it had;
// missing says that there is no object.
func (s *objects) readAt(id FileID, p []byte, off int64) (got int, missing bool, err error) {
	o, err := s.acquire(id, false)
	if errors.Is(err, fs.ErrNotExist) {
		clear(p)
		return 0, true, nil
	}
	if err != nil {
		return 0, false, err
	}
	got, err = o.file.ReadAt(p, off)
	s.release(o)
	if err != nil && !errors.Is(err, io.EOF) {
		return got, false, err
	}
	clear(p[got:])
	return got, false, nil
}

// truncate cuts the object, if there is one. Called by Apply.
func (s *objects) truncate(id FileID, size uint64) error {
	o, err := s.acquire(id, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // replay: a later entry has removed it already
	}
	if err != nil {
		return err
	}
	defer s.release(o)
	if err := o.file.Truncate(int64(size)); err != nil {
		return err
	}
	s.wrote(o, size, 0)
	return s.settle()
}

// remove takes the object away, if there is one. Called by Apply.
func (s *objects) remove(id FileID) error {
	s.drop(id)
	if err := s.fs.Remove(objectPath(id)); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // replay
		}
		return err
	}
	s.dirChanged(id)
	return nil
}

// change does something to bytes [off, off+n) of an object, which is then dirty. Without create an object that is
// not there stays so. Called by Apply and Restore.
func (s *objects) change(id FileID, off, n uint64, create bool, do func(disk.File) error) error {
	o, err := s.acquire(id, create)
	if errors.Is(err, fs.ErrNotExist) && !create {
		return nil
	}
	if err != nil {
		return err
	}
	err = do(o.file)
	s.wrote(o, off, n)
	s.release(o)
	if err != nil {
		return err
	}
	return s.settle()
}

// reopenLost closes an object that is open and has lost its name, by somebody else's hand: what is
// written to it would be gone at its close.
func (s *objects) reopenLost(id FileID) error {
	if _, err := s.fs.Stat(objectPath(id)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.drop(id)
	return nil
}

// drop closes an object whose file is gone.
func (s *objects) drop(id FileID) {
	s.mu.Lock()
	var file disk.File
	if o := s.open[id]; o != nil {
		file = s.forget(o)
	}
	s.mu.Unlock()
	if file != nil {
		_ = file.Close() // the file is removed
	}
}

func (s *objects) close() error {
	s.mu.Lock()
	s.closed = true
	var files []disk.File
	for _, o := range s.open {
		if file := s.forget(o); file != nil {
			files = append(files, file)
		}
	}
	s.mu.Unlock()
	var errs []error
	for _, file := range files {
		errs = append(errs, file.Close())
	}
	return errors.Join(errs...)
}

// closeAll closes clean objects' files.
func closeAll(files []disk.File) {
	for _, file := range files {
		if file != nil {
			_ = file.Close() // synced: nothing can get lost
		}
	}
}

func sum(dirty map[uint32]uint32) (n int64) {
	for _, bytes := range dirty {
		n += int64(bytes)
	}
	return n
}

// stats gives the numbers of open and dirty objects and the dirty bytes.
func (s *objects) stats() (open, dirty int, dirtyBytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open), s.dirty.Len(), s.dirtyBytes
}

func sortedKeys[K uint32 | string, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
