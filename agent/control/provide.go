package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"trinas/replica"
)

// Bounds of a request to provide a volume: whoever asks holds the lock of Proxmox's storage.cfg.
const (
	provideTimeout = 20 * time.Second
	maxNodes       = 256
)

// provide makes sure that a volume can be a storage of a Proxmox cluster: every node of it has an agent
// that answers and is new enough, the volume is there, and so are its folders.
func (s *Server) provide(w http.ResponseWriter, r *http.Request) {
	var req provideRequest
	if !read(w, r, &req) {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), provideTimeout)
	defer cancel()
	s.withCluster(w, func(c Cluster) (any, error) {
		name := r.PathValue("name")
		if err := everyNode(ctx, c, req.Nodes); err != nil {
			return nil, err
		}
		service, err := c.AwaitService(ctx, name)
		if errors.Is(err, replica.ErrNoVolume) && req.Create {
			if _, err := c.CreateVolume(ctx, name, 0); err != nil {
				return nil, err
			}
			service, err = c.AwaitService(ctx, name)
		}
		switch {
		case err != nil:
			return nil, err
		case !service.Serving:
			return nil, &Error{Text: service.Reason, Hint: "see trinas status"}
		}
		return s.withMount(service), c.MakeFolders(ctx, name, req.Folders)
	})
}

// everyNode says which of Proxmox's nodes lack what the storage plugin needs.
func everyNode(ctx context.Context, c Cluster, nodes []string) error {
	if len(nodes) > maxNodes {
		return fmt.Errorf("more than %d nodes", maxNodes)
	}
	status, peers := c.Status(ctx), c.Present(ctx)
	var lacking []string
	for _, node := range nodes {
		if why := lacks(status, peers, node); why != "" {
			lacking = append(lacking, node+": "+why)
		}
	}
	if lacking == nil {
		return nil
	}
	return &Error{
		Text: "every node of Proxmox needs trinas, and an agent that answers: " + strings.Join(lacking, "; "),
		Hint: "a node without the plugin would remove the storage when it saves storage.cfg",
	}
}

// lacks says what keeps a node of Proxmox from using volumes; "" for nothing.
func lacks(status replica.Status, peers []replica.PeerProbe, node string) string {
	member := slices.IndexFunc(status.Nodes, func(n replica.NodeStatus) bool { return !n.Joining && strings.EqualFold(n.Name, node) })
	peer := slices.IndexFunc(peers, func(p replica.PeerProbe) bool { return strings.EqualFold(p.Node, node) })
	switch {
	case strings.EqualFold(status.Node.Name, node):
		return ""
	case member < 0 || peer < 0:
		return "not in this trinas cluster (apt install trinas there, see trinas status)"
	case peers[peer].Error != "":
		return "does not answer (" + peers[peer].Error + ")"
	case peers[peer].Level < pluginLevel:
		return fmt.Sprintf("has trinas %s, which is too old (upgrade it there)", peers[peer].Version)
	}
	return ""
}
