package replica

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"trinas/replica/volume"
)

// ErrNoImage: there is no such file in the volume, or it is none that a guest could have as its
// disk.
var ErrNoImage = errors.New("no such image")

// ErrCutOff: this node has not reached a majority of a volume's replicas for a while, and others may
// be serving it.
var ErrCutOff = errors.New("this node is cut off")

// ErrUnfit: this node's health is Unfit, and others can serve.
var ErrUnfit = errors.New("this node is unfit")

// Image is a file that nodes have activated.
type Image struct {
	Path    string   `json:"path"`    // from the volume's root
	Writers []string `json:"writers"` // the nodes where it is active, and that may write it
	Barred  []string `json:"barred"`  // the nodes that may not write it until they activate it again
}

// Activate makes this node one that may write the image at path. Nodes that have it active stay so if
// they are in touch with the primary (sessionTime), as in a live migration; others are shut out:
// what they still have to write is refused, also when they come back. Returns once a majority has
// synced that. It waits while the volume has no primary, but not on a node that is cut off from a
// majority (Service); and one that is Unfit takes nothing new while others could. Errors: ErrNoVolume, ErrNoImage,
// ErrCutOff, ErrUnfit, ctx's.
func (n *Node) Activate(ctx context.Context, volumeName, path string) error {
	_, err := n.Claim(ctx, volumeName, path)
	return err
}

// Claim is Activate, and tells whether this node had the image active already.
func (n *Node) Claim(ctx context.Context, volumeName, path string) (already bool, err error) {
	if why := n.unfitFor(volumeName); why != "" && !n.hasActive(volumeName, path) {
		return false, fmt.Errorf("image %s: %w: %s", path, ErrUnfit, why)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel(nil)
	watching.Go(func() { n.watchCutOff(ctx, volumeName, cancel) })
	already, err = n.changeImage(ctx, volume.Activate, volumeName, path)
	if cause := context.Cause(ctx); errors.Is(cause, ErrCutOff) && err != nil {
		return false, fmt.Errorf("image %s: %w", path, cause)
	}
	return already, err
}

// unfitFor gives why this node is Unfit while another that keeps the volume is not; "" when it may take new guests.
func (n *Node) unfitFor(volumeName string) string {
	health, why := n.ownHealth()
	state := n.cluster.view()
	v := state.volume(volumeName)
	if health != Unfit || v == nil {
		return ""
	}
	for _, id := range v.Replicas {
		if m := state.node(id); m != nil && id != n.id {
			if other, _ := n.healthOf(m); other != Unfit {
				return why
			}
		}
	}
	return ""
}

// hasActive reports whether an image is active on this node, as its own replica knows it.
func (n *Node) hasActive(volumeName, path string) bool {
	path = strings.Join(slices.Collect(names(path)), "/")
	images, _ := n.Images(volumeName) // an error: not known here
	return slices.ContainsFunc(images, func(i Image) bool {
		return i.Path == path && slices.Contains(i.Writers, n.identity.Name)
	})
}

// watchCutOff ends ctx by cancel when this node is cut off from the volume.
func (n *Node) watchCutOff(ctx context.Context, volumeName string, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(n.opt.Heartbeat)
	defer tick.Stop()
	for {
		state := n.cluster.view()
		if v := state.volume(volumeName); v != nil {
			var s Service
			if n.judge(&s, v); s.CutOff {
				cancel(fmt.Errorf("%w: %s", ErrCutOff, s.Reason))
				return
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Deactivate ends what Activate has begun: this node has no guest any more that uses the image.
// Errors as with Activate.
func (n *Node) Deactivate(ctx context.Context, volumeName, path string) error {
	_, err := n.changeImage(ctx, volume.Deactivate, volumeName, path)
	return err
}

// changeImage has kind done to an image; was tells whether it was active on this node before.
func (n *Node) changeImage(ctx context.Context, kind volume.Kind, volumeName, path string) (was bool, err error) {
	fail := func(err error) (bool, error) {
		return false, fmt.Errorf("image %s of volume %q: %w", path, volumeName, err)
	}
	v, err := n.findVolume(ctx, volumeName)
	if err != nil {
		return fail(err)
	}
	op := volume.Op{File: volume.RootID, Gen: 1}
	var res volume.Result
	for name := range names(path) {
		if name == "." || name == ".." {
			return fail(fmt.Errorf("%w: give its path from the volume's root", ErrNoImage))
		}
		op.Kind, op.Name = volume.Lookup, name
		if err := n.Do(ctx, v.ID, &op, &res); err != nil {
			return fail(err)
		}
		if res.Err != volume.OK {
			return fail(fmt.Errorf("%w: %q is not there (errno %d)", ErrNoImage, name, res.Err))
		}
		op.File, op.Gen = res.Obj.After.File, res.Obj.After.Gen
	}
	op.Kind, op.Name = kind, ""
	if err := n.Do(ctx, v.ID, &op, &res); err != nil {
		return fail(err)
	}
	if res.Err != volume.OK {
		return fail(fmt.Errorf("%w: it is no regular file (errno %d)", ErrNoImage, res.Err))
	}
	if kind == volume.Deactivate {
		n.log.Info("image is no longer active on this node", "event", "image-inactive", "volume", volumeName, "image", path)
		return true, nil
	}
	n.fenced.forget(v.ID, op.File)
	n.log.Info("image is active on this node", "event", "image-active", "volume", volumeName, "image", path)
	return res.Count == 1, nil
}

// names gives the parts of a path.
func names(path string) iter.Seq[string] {
	return strings.FieldsFuncSeq(path, func(r rune) bool { return r == '/' })
}

// Images lists the images of a volume that nodes have activated, as this node's replica knows them;
// it may lag. Errors: ErrNoVolume, also where this node has no replica that works.
func (n *Node) Images(volumeName string) ([]Image, error) {
	s := n.cluster.view()
	v := s.volume(volumeName)
	if v == nil {
		return nil, fmt.Errorf("volume %q: %w (see trinas volume list)", volumeName, ErrNoVolume)
	}
	g := n.group(uint64(v.ID))
	if g == nil || g.vol == nil {
		return nil, fmt.Errorf("volume %q has no replica in service on this node: ask another node", volumeName)
	}
	images := []Image{}
	for _, i := range g.vol.Images() {
		images = append(images, Image{Path: i.Path, Writers: n.names(i.Writers), Barred: n.names(i.Barred)})
	}
	return images, nil
}

func (n *Node) names(ids []uint16) []string {
	names := []string{}
	for _, id := range ids {
		names = append(names, n.nameOf(uint64(id)))
	}
	return names
}

// inTouch gives the nodes whose guests count as alive: this one, and those that were connected
// within sessionTime (owner).
func (n *Node) inTouch() []uint16 {
	live := append(n.sessions.live(n.opt.Clock()), uint16(n.id))
	slices.Sort(live)
	return live
}

// maxFencedNotes bounds what fencedNotes remembers.
const maxFencedNotes = 1024

// fencedNotes remembers which images this node was refused to write, so that each is said once.
type fencedNotes struct {
	mu   sync.Mutex
	said map[fencedImage]bool
}

type fencedImage struct {
	vol  volume.ID
	file volume.FileID
}

// first reports whether the image is to be told of, and remembers it.
func (f *fencedNotes) first(vol volume.ID, file volume.FileID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := fencedImage{vol, file}
	if f.said[key] {
		return false
	}
	if f.said == nil || len(f.said) >= maxFencedNotes {
		f.said = map[fencedImage]bool{}
	}
	f.said[key] = true
	return true
}

func (f *fencedNotes) forget(vol volume.ID, file volume.FileID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.said, fencedImage{vol, file})
}

// noteFenced tells, once an image, that this node's changes to it are refused.
func (n *Node) noteFenced(vol volume.ID, file volume.FileID) {
	if !n.fenced.first(vol, file) {
		return
	}
	name, path, _ := n.FileName(vol, file)
	n.log.Error("writes to an image are refused: it was activated on another node since; "+
		"end what is left of its guest on this node", "event", "image-fenced", "volume", name, "image", path)
}
