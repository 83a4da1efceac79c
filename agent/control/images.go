package control

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"trinas/agent/image"
	"trinas/replica"
)

// The part of the server that the Proxmox storage plugin uses.

// service answers at once, or with ?wait_sec=N once the volume can be used here or cannot.
func (s *Server) service(w http.ResponseWriter, r *http.Request) {
	s.withCluster(w, func(c Cluster) (any, error) {
		name, ask := r.PathValue("name"), c.Service
		ctx := r.Context()
		if sec, err := strconv.Atoi(r.URL.Query().Get("wait_sec")); err == nil && sec > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, time.Duration(sec)*time.Second)
			defer cancel()
			ask = c.AwaitService
		}
		service, err := ask(ctx, name)
		return s.withMount(service), err
	})
}

func (s *Server) withMount(service replica.Service) Service {
	return Service{Service: service, Mount: mountOf(s.agent.About().NFS, service.Volume)}
}

// mountOf is how to mount a volume from the first loopback address of an NFS server's, which have commas
// between; nil when it has none. nconnect: requests of many guests at once are not to wait for each other
// in one connection. retry=0: whoever mounts tries again by himself. nolock: there is no NLM; a volume's
// images are kept apart by activation.
func mountOf(addresses, volume string) *Mount {
	for address := range strings.SplitSeq(addresses, ",") {
		a, err := netip.ParseAddrPort(address)
		if err != nil || !a.Addr().IsLoopback() && !a.Addr().IsUnspecified() {
			continue
		}
		host, proto := a.Addr().String(), "tcp"
		switch {
		case a.Addr().IsUnspecified(): // with Go's [::] also 127.0.0.1's
			host = "127.0.0.1"
		case a.Addr().Is6():
			host, proto = "["+host+"]", "tcp6"
		}
		return &Mount{
			Source: host + ":/" + volume,
			Options: fmt.Sprintf("vers=3,proto=%s,mountproto=%[1]s,port=%d,mountport=%[2]d,nolock,hard,nconnect=4,retry=0",
				proto, a.Port()),
		}
	}
	return nil
}

func (s *Server) images(w http.ResponseWriter, r *http.Request) {
	s.withCluster(w, func(c Cluster) (any, error) {
		name := r.PathValue("name")
		service, err := c.Service(r.Context(), name)
		if err != nil {
			return nil, err
		}
		folder := r.URL.Query().Get("folder")
		if folder == "" {
			folder = image.Folder
		}
		found, err := image.List(r.Context(), c, service.ID, folder, r.URL.Query().Get("vmid"))
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

// file describes one file of a volume, at ?path=.
func (s *Server) file(w http.ResponseWriter, r *http.Request) {
	s.withCluster(w, func(c Cluster) (any, error) {
		name, path := r.PathValue("name"), r.URL.Query().Get("path")
		service, err := c.Service(r.Context(), name)
		if err != nil {
			return nil, err
		}
		out, found, err := image.Stat(r.Context(), c, service.ID, path)
		if err == nil && !found {
			err = fmt.Errorf("file %s of volume %q: %w", path, name, replica.ErrNoImage)
		}
		return out, err
	})
}

func (s *Server) activate(w http.ResponseWriter, r *http.Request) {
	s.changeImage(w, r, func(ctx context.Context, c Cluster, volume string, paths []string) (any, error) {
		var out Activation
		for i, path := range paths {
			already, err := c.Claim(ctx, volume, path)
			if err != nil {
				return nil, err
			}
			out.WasActive = already && (i == 0 || out.WasActive)
		}
		return out, nil
	})
}

func (s *Server) deactivate(w http.ResponseWriter, r *http.Request) {
	s.changeImage(w, r, func(ctx context.Context, c Cluster, volume string, paths []string) (any, error) {
		for _, path := range paths {
			if err := c.Deactivate(ctx, volume, path); err != nil {
				return nil, err
			}
		}
		return struct{}{}, nil
	})
}

func (s *Server) changeImage(w http.ResponseWriter, r *http.Request,
	change func(ctx context.Context, c Cluster, volume string, paths []string) (any, error)) {
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
		name, paths := r.PathValue("name"), []string{req.Path}
		if req.Chain {
			service, err := c.AwaitService(ctx, name)
			switch {
			case err != nil:
				return nil, err
			case service.CutOff:
				return nil, fmt.Errorf("image %s: %w: %s", req.Path, replica.ErrCutOff, service.Reason)
			}
			if paths, err = image.Chain(ctx, c, service.ID, req.Path); err != nil {
				return nil, err
			}
		}
		return change(ctx, c, name, paths)
	})
}
