package web

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

// serve runs a server over an API that answers with what it was asked, and a browser without a session.
func serve(t *testing.T) (s *Server, address string, browser *http.Client) {
	t.Helper()
	return serveAPI(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "secret %s %s", r.Method, r.URL) }))
}

func serveAPI(t *testing.T, api http.Handler) (s *Server, address string, browser *http.Client) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err = Serve(l, Options{Certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, API: api, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser = &http.Client{Jar: jar, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	t.Cleanup(func() {
		browser.CloseIdleConnections()
		if err := s.Shutdown(t.Context()); err != nil && t.Context().Err() == nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	return s, "https://" + l.Addr().String(), browser
}

func ask(t *testing.T, browser *http.Client, method, address string, form url.Values) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := browser.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

// Goal: without a session every path, existing or not, and every method but the log-in's gets 401 and
// the same bytes, which name nothing; what is open to all names nothing either.
func TestServer_NothingWithoutSession(t *testing.T) {
	s, address, browser := serve(t)
	_, first := ask(t, browser, "GET", address+"/nothing", nil)
	for _, path := range append(Readable(), "/", "/index.html", "/page.js", "/v1/volumes", "/v1/web", "/login", "/logout", "/../page.js") {
		for _, method := range []string{"GET", "POST", "DELETE"} {
			resp, body := ask(t, browser, method, address+path, nil)
			if resp.StatusCode != http.StatusUnauthorized || body != first {
				t.Errorf("%s %s: %s, %d bytes", method, path, resp.Status, len(body))
			}
		}
	}
	for _, path := range []string{"/login.js", "/page.css"} {
		if resp, body := ask(t, browser, "GET", address+path, nil); resp.StatusCode != 200 || strings.Contains(body, "/v1/") {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	for _, cookie := range []string{"", "x", s.Token()} { // a token is no session
		req, err := http.NewRequestWithContext(t.Context(), "GET", address+"/v1/status", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.AddCookie(&http.Cookie{Name: cookieName, Value: cookie})
		resp, err := browser.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("cookie %q: %s", cookie, resp.Status)
		}
	}
	version := regexp.MustCompile(`\d+\.\d+`)
	if strings.Contains(first, "secret") || version.MatchString(strings.ReplaceAll(first, "=1", "")) {
		t.Errorf("the log-in page says too much:\n%s", first)
	}
}

// Goal: a token logs in once, by a cookie that scripts and other sites cannot have; the session reads
// what the page reads and can do nothing else; logging out ends it. Every answer has the headers.
func TestServer_Session(t *testing.T) {
	s, address, browser := serve(t)
	token := s.Token()
	resp, _ := ask(t, browser, "POST", address+"/login", url.Values{"token": {token}})
	cookie := resp.Header.Get("Set-Cookie")
	if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/" {
		t.Fatalf("log-in: %s", resp.Status)
	}
	for _, want := range []string{"__Host-trinas=", "Path=/", "HttpOnly", "Secure", "SameSite=Strict"} {
		if !strings.Contains(cookie, want) || strings.Contains(cookie, token) {
			t.Errorf("cookie %q: no %q, or the token in it", cookie, want)
		}
	}
	resp, page := ask(t, browser, "GET", address+"/", nil)
	csp := resp.Header.Get("Content-Security-Policy")
	if resp.StatusCode != 200 || !strings.Contains(page, "/page.js") || !strings.HasPrefix(csp, "default-src 'none'; script-src 'self';") ||
		strings.Contains(csp, "unsafe") || resp.Header.Get("X-Content-Type-Options") != "nosniff" || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("page: %s, %v", resp.Status, resp.Header)
	}
	for _, path := range Readable() {
		if resp, body := ask(t, browser, "GET", address+path+"?x=1", nil); resp.StatusCode != 200 || body != "secret GET "+path+"?x=1" {
			t.Errorf("GET %s: %s, %q", path, resp.Status, body)
		}
	}
	for _, change := range []string{"POST /v1/status", "DELETE /v1/volumes/vm", "POST /v1/token", "GET /v1/volumes", "POST /v1/web", "GET /v1/status/x"} {
		method, path, _ := strings.Cut(change, " ")
		if resp, body := ask(t, browser, method, address+path, nil); resp.StatusCode < 400 || strings.Contains(body, "secret") {
			t.Errorf("%s: %s", change, resp.Status)
		}
	}
	if resp, _ := ask(t, &http.Client{Transport: browser.Transport}, "POST", address+"/login", url.Values{"token": {token}}); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("the token again: %s", resp.Status)
	}
	at, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	cookies := browser.Jar.Cookies(at)
	ask(t, browser, "POST", address+"/logout", nil)
	browser.Jar.SetCookies(at, cookies) // somebody has kept them
	if resp, _ := ask(t, browser, "GET", address+"/v1/status", nil); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("after logging out: %s", resp.Status)
	}
}

// Goal: tokens and sessions end by themselves, their numbers and those of attempts are bounded, and
// one host's failures shut only that host out.
func TestDoor(t *testing.T) {
	d, now := newDoor(), time.Unix(1e9, 0)
	token := d.token(now)
	if _, ok := d.enter("192.0.2.1:5", token, now.Add(TokenLife)); ok {
		t.Error("a token that is over")
	}
	session, ok := d.enter("192.0.2.2:5", d.token(now), now)
	if !ok || !d.open(session, now.Add(SessionLife-1)) || d.open(session, now.Add(SessionLife)) || d.open("", now) {
		t.Error("session")
	}
	first := d.token(now)
	for range maxTokens {
		d.token(now)
	}
	if _, ok := d.enter("192.0.2.3:5", first, now); ok {
		t.Error("more tokens than the bound")
	}
	for i := range maxFailures {
		d.enter(fmt.Sprintf("[2001:db8::%d]:5", i), "wrong", now)
	}
	if _, ok := d.enter("[2001:db8::99]:5", d.token(now), now); ok {
		t.Error("a good token from a network that failed too often")
	}
	if _, ok := d.enter("[2001:db8:1::1]:5", d.token(now), now); !ok {
		t.Error("another network's")
	}
	if _, ok := d.enter("[2001:db8::99]:5", d.token(now), now.Add(failureTime)); !ok {
		t.Error("after a while")
	}
	for i := range 10 * maxHosts {
		d.enter(fmt.Sprintf("10.0.%d.%d:5", i/256, i%256), "wrong", now)
	}
	for range 2 * maxSessions {
		if _, ok := d.enter("192.0.2.2:5", d.token(now.Add(failureTime)), now.Add(failureTime)); !ok {
			t.Fatal("many sessions")
		}
	}
	if len(d.failures) > maxHosts+1 || len(d.sessions) > maxSessions || len(d.tokens) > maxTokens {
		t.Errorf("%d hosts, %d sessions, %d tokens", len(d.failures), len(d.sessions), len(d.tokens))
	}
}

// Goal: pages obey the policy that they are sent with: no inline script, style or handler, nothing from
// elsewhere.
func TestPages_Policy(t *testing.T) {
	for _, name := range []string{"index.html", "login.html", "page.js", "login.js", "page.css"} {
		b, err := files.ReadFile("page/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{`<script>`, `<style`, `\sstyle=`, `\son[a-z]+=`, `javascript:`, `innerHTML`, `eval\(`, `@import`, `url\(`} {
			if found := regexp.MustCompile(bad).Find(b); found != nil {
				t.Errorf("%s has %q", name, found)
			}
		}
		for _, link := range regexp.MustCompile(`https?://[^"]*`).FindAllString(string(b), -1) {
			if link != "http://www.w3.org/2000/svg" { // a name, not an address
				t.Errorf("%s names %s", name, link)
			}
		}
	}
}
