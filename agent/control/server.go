package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"trinas/replica"
	"trinas/replica/volume"
)

// Server answers the control API. Made by Serve.
type Server struct {
	agent Agent
	log   *slog.Logger
	http  *http.Server
	slots chan struct{}
	ended chan struct{}
}

// Serve answers requests that come to l until Shutdown, which also closes l.
func Serve(l net.Listener, agent Agent, log *slog.Logger) *Server {
	s := &Server{
		agent: agent,
		log:   log,
		slots: make(chan struct{}, maxRequests),
		ended: make(chan struct{}),
	}
	s.http = &http.Server{
		Handler:           http.MaxBytesHandler(s.fit(s.limit(s.routes())), maxRequestBytes),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      requestTimeout + 10*time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.With("event", "control-trouble").Handler(), slog.LevelWarn),
	}
	go func() {
		defer close(s.ended)
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("control API ended: restart the agent to have it again", "event", "control-ended", "cause", err)
		}
	}()
	return s
}

// Handler answers requests that come another way than by the socket: whoever hands them on has to know
// who asks. The same bounds hold for all.
func (s *Server) Handler() http.Handler { return s.http.Handler }

// Shutdown takes no more requests and waits for those under way, at most until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		s.http.Close()
	}
	<-s.ended
	return err
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", s.status)
	mux.HandleFunc("POST /v1/init", s.init)
	mux.HandleFunc("POST /v1/join", s.join)
	mux.HandleFunc("POST /v1/token", s.token)
	mux.HandleFunc("GET /v1/load", s.load)
	mux.HandleFunc("GET /v1/probe", s.probe)
	mux.HandleFunc("GET /v1/volumes", s.volumes)
	mux.HandleFunc("POST /v1/volumes", s.createVolume)
	mux.HandleFunc("DELETE /v1/volumes/{name}", s.deleteVolume)
	mux.HandleFunc("POST /v1/volumes/{name}/primary", s.setPrimary)
	mux.HandleFunc("POST /v1/volumes/{name}/move", s.moveVolume)
	mux.HandleFunc("POST /v1/volumes/{name}/verify", s.verify)
	mux.HandleFunc("POST /v1/volumes/{name}/retry", s.retryReplica)
	mux.HandleFunc("POST /v1/volumes/{name}/rebuild", s.rebuildReplica)
	mux.HandleFunc("DELETE /v1/nodes/{name}", s.removeNode)
	mux.HandleFunc("POST /v1/nodes/{name}/replace", s.replaceNode)
	mux.HandleFunc("GET /v1/events", s.events)
	mux.HandleFunc("POST /v1/web", s.web)
	mux.HandleFunc("POST /v1/nodes/{name}/ask/{topic}", s.ask)
	mux.HandleFunc("GET /v1/volumes/{name}/service", s.service)
	mux.HandleFunc("GET /v1/volumes/{name}/images", s.images)
	mux.HandleFunc("GET /v1/volumes/{name}/file", s.file)
	mux.HandleFunc("POST /v1/volumes/{name}/provide", s.provide)
	mux.HandleFunc("POST /v1/volumes/{name}/activate", s.activate)
	mux.HandleFunc("POST /v1/volumes/{name}/deactivate", s.deactivate)
	mux.HandleFunc("POST /v1/volumes/{name}/clients", s.allow)
	mux.HandleFunc("DELETE /v1/volumes/{name}/clients/{client...}", s.deny)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, &Error{
			Text: fmt.Sprintf("the agent does not know the request %s %s", r.Method, r.URL.Path),
			Hint: "command line and agent are of different versions; restart the agent",
		})
	})
	return mux
}

// fit tells this agent's level, and refuses requests of programs that do not fit to it, or that are meant
// for another cluster.
func (s *Server) fit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(LevelHeader, strconv.Itoa(Level))
		if code, e := s.misfit(r); e != nil {
			refuse(w, code, e)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) misfit(r *http.Request) (int, *Error) {
	if text := r.Header.Get(LevelHeader); text != "" {
		switch level, err := strconv.Atoi(text); {
		case err != nil || level < oldestLevel:
			return http.StatusUpgradeRequired, &Error{
				Text: fmt.Sprintf("the agent takes requests of level %d and above, and this one is of level %.10q", oldestLevel, text),
				Hint: "the program that asks is older than the agent: on Proxmox, systemctl reload-or-restart pvedaemon pvestatd pve-ha-lrm",
			}
		case level > Level:
			return http.StatusUpgradeRequired, &Error{
				Text: fmt.Sprintf("the agent is of level %d, and level %d is asked for", Level, level),
				Hint: "it is older than the program that asks: upgrade trinas on this node, or systemctl restart trinas",
			}
		}
	}
	if id := r.Header.Get(ClusterHeader); id != "" {
		if c, err := s.agent.Cluster(); err == nil && c.ClusterID() != id {
			return http.StatusConflict, &Error{
				Text: fmt.Sprintf("meant for the trinas cluster %.40s, and this node belongs to %s", id, c.ClusterID()),
				Hint: "see trinas status here and on the other nodes",
			}
		}
	}
	return 0, nil
}

// limit bounds how many requests are worked on at once, and for how long each.
func (s *Server) limit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
		default:
			refuse(w, http.StatusServiceUnavailable, &Error{
				Text: fmt.Sprintf("the agent is busy with %d other requests", maxRequests),
				Hint: "try again",
			})
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	out := Status{Agent: s.agent.About()}
	if cluster, err := s.agent.Cluster(); err == nil {
		st := cluster.Status(r.Context())
		out.Status = &st
	}
	answer(w, out)
}

func (s *Server) init(w http.ResponseWriter, r *http.Request) {
	var req initRequest
	if !read(w, r, &req) {
		return
	}
	inv, err := s.agent.Init(r.Context(), req.Cluster, req.Node)
	finish(w, inv, err)
}

func (s *Server) join(w http.ResponseWriter, r *http.Request) {
	var req joinRequest
	if !read(w, r, &req) {
		return
	}
	finish(w, struct{}{}, s.agent.Join(r.Context(), req.Node, req.Address, req.Token))
}

func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	s.withCluster(w, func(c Cluster) (any, error) {
		token, err := c.NewToken(r.Context(), "")
		if err != nil {
			return nil, err
		}
		return NewInvitation(c.Status(r.Context()), token), nil
	})
}

func (s *Server) probe(w http.ResponseWriter, r *http.Request) {
	s.withCluster(w, func(c Cluster) (any, error) { return c.Probe(r.Context()), nil })
}

func (s *Server) volumes(w http.ResponseWriter, r *http.Request) {
	s.withCluster(w, func(c Cluster) (any, error) {
		out := c.Status(r.Context()).Volumes
		if out == nil {
			out = []replica.VolumeStatus{}
		}
		return out, nil
	})
}

func (s *Server) createVolume(w http.ResponseWriter, r *http.Request) {
	var req volumeRequest
	if !read(w, r, &req) {
		return
	}
	s.withCluster(w, func(c Cluster) (any, error) { return c.CreateVolume(r.Context(), req.Name, req.Replicas) })
}

func (s *Server) deleteVolume(w http.ResponseWriter, r *http.Request) {
	s.withCluster(w, func(c Cluster) (any, error) {
		return struct{}{}, c.DeleteVolume(r.Context(), r.PathValue("name"))
	})
}

func (s *Server) setPrimary(w http.ResponseWriter, r *http.Request) {
	var req primaryRequest
	if !read(w, r, &req) {
		return
	}
	s.withCluster(w, func(c Cluster) (any, error) {
		return struct{}{}, c.Transfer(r.Context(), r.PathValue("name"), req.Node)
	})
}

func (s *Server) allow(w http.ResponseWriter, r *http.Request) {
	var req clientRequest
	if !read(w, r, &req) {
		return
	}
	rule := volume.Rule{ReadOnly: req.ReadOnly, Squash: req.Squash}
	var err error
	if rule.Client, err = volume.ParseClient(req.Client); err == nil {
		err = rule.Check()
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, &Error{Text: err.Error()})
		return
	}
	s.withCluster(w, func(c Cluster) (any, error) {
		return rule, c.Allow(r.Context(), r.PathValue("name"), rule)
	})
}

func (s *Server) deny(w http.ResponseWriter, r *http.Request) {
	client, err := volume.ParseClient(r.PathValue("client"))
	if err != nil {
		refuse(w, http.StatusBadRequest, &Error{Text: err.Error()})
		return
	}
	s.withCluster(w, func(c Cluster) (any, error) {
		return struct{}{}, c.Deny(r.Context(), r.PathValue("name"), client)
	})
}

func (s *Server) moveVolume(w http.ResponseWriter, r *http.Request) {
	var req moveRequest
	if !read(w, r, &req) {
		return
	}
	s.withCluster(w, func(c Cluster) (any, error) {
		return struct{}{}, c.MoveVolume(r.Context(), r.PathValue("name"), req.From, req.To)
	})
}

func (s *Server) verify(w http.ResponseWriter, r *http.Request) {
	var req replica.VerifyRequest
	if !read(w, r, &req) {
		return
	}
	s.withCluster(w, func(c Cluster) (any, error) {
		return struct{}{}, c.Verify(r.Context(), r.PathValue("name"), req)
	})
}

func (s *Server) retryReplica(w http.ResponseWriter, r *http.Request) {
	s.withCluster(w, func(c Cluster) (any, error) {
		return struct{}{}, c.RetryReplica(r.Context(), r.PathValue("name"))
	})
}

func (s *Server) rebuildReplica(w http.ResponseWriter, r *http.Request) {
	var req RebuildRequest
	if !read(w, r, &req) {
		return
	}
	name, node := r.PathValue("name"), req.Node
	s.withCluster(w, func(c Cluster) (any, error) {
		if node == "" {
			return struct{}{}, c.RebuildReplica(r.Context(), name, req.Discard)
		}
		body, err := json.Marshal(RebuildRequest{Volume: name, Discard: req.Discard})
		if err == nil {
			_, err = c.Ask(r.Context(), node, RebuildTopic, body)
		}
		return struct{}{}, err
	})
}

func (s *Server) removeNode(w http.ResponseWriter, r *http.Request) {
	s.withCluster(w, func(c Cluster) (any, error) {
		return struct{}{}, c.RemoveNode(r.Context(), r.PathValue("name"))
	})
}

func (s *Server) replaceNode(w http.ResponseWriter, r *http.Request) {
	s.withCluster(w, func(c Cluster) (any, error) {
		token, err := c.ReplaceToken(r.Context(), r.PathValue("name"))
		if err != nil {
			return nil, err
		}
		return NewInvitation(c.Status(r.Context()), token), nil
	})
}

func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	since, err := time.Parse(time.RFC3339Nano, r.URL.Query().Get("since"))
	if err != nil {
		refuse(w, http.StatusBadRequest, &Error{Text: fmt.Sprintf("since: %v", err), Hint: "give a time by RFC 3339"})
		return
	}
	answer(w, s.agent.Events(r.Context(), since))
}

func (s *Server) web(w http.ResponseWriter, _ *http.Request) {
	login, err := s.agent.Web()
	finish(w, login, err)
}

// ask brings a request, JSON, to the agent of a node and its answer, JSON, back.
func (s *Server) ask(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body) // bounded by maxRequestBytes
	if err != nil {
		refuse(w, http.StatusBadRequest, &Error{Text: fmt.Sprintf("the request's body cannot be read: %v", err)})
		return
	}
	s.withCluster(w, func(c Cluster) (any, error) {
		raw, err := c.Ask(r.Context(), r.PathValue("name"), r.PathValue("topic"), body)
		return json.RawMessage(raw), err
	})
}

func (s *Server) withCluster(w http.ResponseWriter, do func(Cluster) (any, error)) {
	c, err := s.agent.Cluster()
	if err != nil {
		finish(w, nil, err)
		return
	}
	out, err := do(c)
	finish(w, out, err)
}

// read decodes the one JSON object of a request's body, or answers with what is wrong with it.
func read(w http.ResponseWriter, r *http.Request, into any) bool {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if err == nil {
		if _, more := dec.Token(); more != io.EOF {
			err = errors.New("more than one JSON value")
		}
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, &Error{Text: fmt.Sprintf("the request's body cannot be read: %v", err)})
		return false
	}
	return true
}

func finish(w http.ResponseWriter, out any, err error) {
	if err == nil {
		answer(w, out)
		return
	}
	code, e := explain(err)
	refuse(w, code, e)
}

// explain chooses the HTTP status and the next step for an error of the node or the daemon.
func explain(err error) (int, *Error) {
	e := &Error{Text: err.Error()}
	switch {
	case errors.As(err, &e):
		return http.StatusConflict, e
	case errors.Is(err, replica.ErrNoIdentity):
		e.Text = "this node belongs to no cluster yet"
		e.Hint = "trinas init makes a new one, trinas join ADDRESS --token TOKEN enters an existing one"
		return http.StatusConflict, e
	case errors.Is(err, replica.ErrCutOff):
		e.Hint = "see trinas status and the network between the nodes; the others may be serving it"
		return http.StatusServiceUnavailable, e
	case errors.Is(err, replica.ErrUnfit):
		e.Hint = "start the guest on another node (trinas ha status says which could take it); trinas check says what to mend here"
		return http.StatusServiceUnavailable, e
	case errors.Is(err, replica.ErrNoImage):
		return http.StatusNotFound, e
	case errors.Is(err, context.DeadlineExceeded):
		e.Hint = "a majority of nodes has to be up; see trinas status, then try again"
		return http.StatusGatewayTimeout, e
	case errors.Is(err, replica.ErrNoVolume):
		return http.StatusNotFound, e
	}
	return http.StatusInternalServerError, e
}

func answer(w http.ResponseWriter, out any) { write(w, http.StatusOK, out) }

func refuse(w http.ResponseWriter, code int, e *Error) { write(w, code, e) }

func write(w http.ResponseWriter, code int, out any) {
	b, err := json.Marshal(out)
	if err != nil { // no type of this API can fail to be encoded
		code, b = http.StatusInternalServerError, fmt.Appendf(nil, `{"error":%q}`, err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	w.Write(append(b, '\n')) // the client may be gone; there is nobody to tell
}
