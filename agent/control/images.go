package control

import (
	"context"
	"net/http"
	"slices"
	"time"

	"trinas/agent/image"
	"trinas/replica"
)

// The part of the server that the Proxmox storage plugin uses.

func (s *Server) service(w http.ResponseWriter, r *http.Request) {
	s.withCluster(w, func(c Cluster) (any, error) {
		service, err := c.Service(r.Context(), r.PathValue("name"))
		return Service{Service: service, NFS: s.agent.About().NFS}, err
	})
}

func (s *Server) images(w http.ResponseWriter, r *http.Request) {
	s.withCluster(w, func(c Cluster) (any, error) {
		name := r.PathValue("name")
		service, err := c.Service(r.Context(), name)
		if err != nil {
			return nil, err
		}
		found, err := image.List(r.Context(), c, service.ID, r.URL.Query().Get("vmid"))
		if err != nil {
			return nil, err
		}
		// A node without a replica knows only what the files say.
		active, _ := c.Images(name)
		out := make([]Image, len(found))
		for i, f := range found {
			out[i] = Image{Image: f, Writers: []string{}, Barred: []string{}}
			if at := slices.IndexFunc(active, func(a replica.Image) bool { return a.Path == f.Path }); at >= 0 {
				out[i].Writers, out[i].Barred = active[at].Writers, active[at].Barred
			}
		}
		return out, nil
	})
}

func (s *Server) activate(w http.ResponseWriter, r *http.Request) {
	s.changeImage(w, r, Cluster.Activate)
}

func (s *Server) deactivate(w http.ResponseWriter, r *http.Request) {
	s.changeImage(w, r, Cluster.Deactivate)
}

func (s *Server) changeImage(w http.ResponseWriter, r *http.Request,
	change func(c Cluster, ctx context.Context, volume, path string) error) {
	var req imageRequest
	if !read(w, r, &req) {
		return
	}
	ctx := r.Context()
	if req.WaitSec > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(req.WaitSec)*time.Second)
		defer cancel()
	}
	s.withCluster(w, func(c Cluster) (any, error) {
		return struct{}{}, change(c, ctx, r.PathValue("name"), req.Path)
	})
}
