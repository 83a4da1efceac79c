// Package web is the agent's web page: what trinas status, load and events show, in a browser. It only
// reads. Everything but the way to log in is behind a session, which a token from the control socket
// begins (trinas web): who may open that socket may look. It must never answer a request without
// a session with anything but 401 and the same page, and never change anything.
//
// Floor 4: imports nothing of trinas.
package web

import (
	"context"
	"crypto/tls"
	"embed"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Bounds.
const (
	maxConns        = 128
	maxRequestBytes = 4 << 10
	maxHeaderBytes  = 16 << 10
)

//go:embed page
var files embed.FS

// Options are what a Server works with.
type Options struct {
	Certificate tls.Certificate
	API         http.Handler // the control API; asked for GET of what Readable names, and nothing else
	Log         *slog.Logger
}

// Readable are the paths of the control API that the page reads.
func Readable() []string { return []string{"/v1/status", "/v1/load", "/v1/events"} }

// Server serves the page.
type Server struct {
	log   *slog.Logger
	http  *http.Server
	door  *door
	files map[string][]byte // by name
	ended chan struct{}
}

// Serve answers on l, by TLS 1.3, until Shutdown, which also closes l.
func Serve(l net.Listener, opt Options) (*Server, error) {
	s := &Server{log: opt.Log, door: newDoor(), files: map[string][]byte{}, ended: make(chan struct{})}
	page, err := fs.Sub(files, "page")
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"index.html", "login.html", "login.js", "page.css", "page.js"} {
		if s.files[name], err = fs.ReadFile(page, name); err != nil {
			return nil, err
		}
	}
	s.http = &http.Server{
		Handler:           http.MaxBytesHandler(secure(s.routes(opt.API)), maxRequestBytes),
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{opt.Certificate}, MinVersion: tls.VersionTLS13},
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(opt.Log.Handler(), slog.LevelDebug), // browsers that do not know the certificate
	}
	go func() {
		defer close(s.ended)
		if err := s.http.ServeTLS(newBounded(l, maxConns), "", ""); !errors.Is(err, http.ErrServerClosed) {
			opt.Log.Warn("the web page ended: restart the agent to have it again", "event", "web-ended", "cause", err)
		}
	}()
	return s, nil
}

// Shutdown takes no more requests and waits for those under way, at most until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		s.http.Close()
	}
	<-s.ended
	return err
}

// Token makes a token that begins one session, once, within TokenLife.
func (s *Server) Token() string { return s.door.token(time.Now()) }

// routes asks for a session before it looks at what is wanted, but for what logs in.
func (s *Server) routes(api http.Handler) http.Handler {
	const html, script = "text/html; charset=utf-8", "text/javascript; charset=utf-8"
	inside := http.NewServeMux()
	file := func(pattern, name, kind string) {
		inside.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) { s.send(w, http.StatusOK, name, kind) })
	}
	file("GET /{$}", "index.html", html)
	file("GET /page.js", "page.js", script)
	for _, path := range Readable() {
		inside.Handle("GET "+path, api)
	}
	inside.HandleFunc("POST /logout", s.logout)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch asked := r.Method + " " + r.URL.Path; {
		case asked == "GET /login.js":
			s.send(w, http.StatusOK, "login.js", script)
		case asked == "GET /page.css":
			s.send(w, http.StatusOK, "page.css", "text/css; charset=utf-8")
		case asked == "POST /login":
			s.login(w, r)
		case r.URL.Path == "/login" || !s.door.open(sessionOf(r), time.Now()):
			s.refuse(w)
		default:
			inside.ServeHTTP(w, r)
		}
	})
}

// secure sets what holds for every answer: nothing but this page's own files, in no frame, kept nowhere.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "+
			"base-uri 'none'; form-action 'self'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

func (s *Server) send(w http.ResponseWriter, code int, name, kind string) {
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(code)
	w.Write(s.files[name]) // the browser may be gone; there is nobody to tell
}

// refuse answers whoever has no session, whatever was asked for.
func (s *Server) refuse(w http.ResponseWriter) {
	s.send(w, http.StatusUnauthorized, "login.html", "text/html; charset=utf-8")
}

// login changes a token for a session.
func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	session, ok := s.door.enter(r.RemoteAddr, r.PostFormValue("token"), time.Now())
	if !ok {
		s.log.Warn("a log-in to the web page was refused", "event", "web-login-refused", "remote", r.RemoteAddr)
		s.refuse(w)
		return
	}
	s.log.Info("somebody has logged in to the web page", "event", "web-login", "remote", r.RemoteAddr)
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: session, Path: "/", MaxAge: int(SessionLife / time.Second),
		Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (s *Server) logout(w http.ResponseWriter, r *http.Request) {
	s.door.leave(sessionOf(r))
	http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1, Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

// cookieName: with __Host- a browser takes it from this host only, by TLS.
const cookieName = "__Host-trinas"

func sessionOf(r *http.Request) string {
	c, err := r.Cookie(cookieName)
	if err != nil {
		return ""
	}
	return c.Value
}
