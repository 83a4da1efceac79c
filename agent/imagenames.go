package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"trinas/agent/image"
	"trinas/replica"
	"trinas/replica/volume"
)

// imageNames names files for the load keeper. Where this node has no replica of a volume it asks the
// volume's primary for the guests' images, in the background and seldom.
type imageNames struct {
	node *replica.Node
	log  *slog.Logger

	listing sync.WaitGroup

	mu     sync.Mutex
	listed map[volume.ID]imageList
	end    context.CancelFunc // of the listing that is under way; nil: none
}

// imageList is a volume's images at some moment.
type imageList struct {
	when  time.Time
	paths map[volume.FileID]string
}

const (
	listEvery = time.Minute // one volume's images
	listLimit = 10 * time.Second
	maxListed = 4 // volumes whose images are remembered; the oldest goes
)

// of gives a file's volume and its path; "file N" while the path is not known here.
func (n *imageNames) of(vol volume.ID, file volume.FileID) (volumeName, path string) {
	volumeName, path, known := n.node.FileName(vol, file)
	if known {
		return volumeName, path
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	list := n.listed[vol]
	if p := list.paths[file]; p != "" {
		return volumeName, p
	}
	if n.end == nil && time.Since(list.when) >= listEvery {
		ctx, cancel := context.WithTimeout(context.Background(), listLimit)
		n.end = cancel
		n.listing.Go(func() { n.list(ctx, vol) })
	}
	return volumeName, path
}

// list takes in the paths of a volume's images.
func (n *imageNames) list(ctx context.Context, vol volume.ID) {
	images, err := image.List(ctx, n.node, vol, image.Folder, "")
	if err != nil {
		n.log.Debug("cannot list the images of a volume", "err", err)
	}
	list := imageList{when: time.Now(), paths: map[volume.FileID]string{}}
	for _, i := range images {
		list.paths[i.File] = i.Path
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.end()
	n.end = nil
	if n.listed == nil {
		n.listed = map[volume.ID]imageList{}
	}
	n.listed[vol] = list
	if len(n.listed) > maxListed {
		oldest := vol
		for other, l := range n.listed {
			if l.when.Before(n.listed[oldest].when) {
				oldest = other
			}
		}
		delete(n.listed, oldest)
	}
}

// stop ends a listing that is under way.
func (n *imageNames) stop() {
	n.mu.Lock()
	if n.end != nil {
		n.end()
	}
	n.mu.Unlock()
	n.listing.Wait()
}
