package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Goal: whatever answers at an address that is no member's, the error says what it is and what to
// do, in one line, and nothing of the request has left this node.
func TestJoin_WrongAddress(t *testing.T) {
	ours := newAuthority(t, 1)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	seen := make(chan []byte, 1)
	plain := answering(t, func(c net.Conn) { // an SSH server greets first
		c.Write([]byte("SSH-2.0-OpenSSH_9.2\r\n"))
		b := make([]byte, 4096)
		n, _ := c.Read(b)
		seen <- b[:n]
	})
	silent := answering(t, func(c net.Conn) {})
	web := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	foreign := startNode(t, newAuthority(t, 9).identity(1))
	for _, tt := range []struct {
		what, addr string
		say        []string
	}{
		{"nobody", closed.Addr().String(), []string{"refused", "not running", "trinas status"}},
		{"no such name", "no-such-host.invalid:7370", []string{"no-such-host.invalid", "IP address"}},
		{"another protocol", plain, []string{"no trinas agent", "trinas status"}},
		{"hangs up", silent, []string{"no trinas agent", "trinas status"}},
		{"a web server", web.Listener.Addr().String(), []string{"no trinas agent", "address"}},
		{"another cluster", foreign.addr(), []string{"another cluster", "trinas token"}},
	} {
		_, err := RequestJoin(t.Context(), tt.addr, Fingerprint(ours.cert), JoinRequest{Body: []byte("secret")})
		if err == nil {
			t.Fatalf("%s: joined", tt.what)
		}
		for _, w := range tt.say {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q does not say %q", tt.what, err, w)
			}
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: more than one line: %q", tt.what, err)
		}
	}
	if got := <-seen; bytes.Contains(got, []byte("secret")) {
		t.Errorf("the request was sent in clear: %q", got)
	}
}

func answering(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serve(c)
			c.Close()
		}
	}()
	return l.Addr().String()
}

// Goal: a node whose clock is years off gets the member's word on it, and the member gets no
// secret. Method: the member's certificates are made in the year 2000, where synctest begins.
func TestJoin_WrongTime(t *testing.T) {
	var member *trust
	var fingerprint string
	synctest.Test(t, func(t *testing.T) {
		past := newAuthority(t, 1)
		var err error
		if member, err = newTrust(past.identity(1)); err != nil {
			t.Fatal(err)
		}
		fingerprint = Fingerprint(past.cert)
	})
	l, err := tls.Listen("tcp", "127.0.0.1:0", member.listenConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan []byte, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		request, _ := readJoin(c)
		got <- request
		writeJoinAnswer(c, nil, errors.New("the clocks differ"))
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err = RequestJoin(ctx, l.Addr().String(), fingerprint, JoinRequest{Body: []byte("secret"), WrongTime: []byte("clock")})
	if err == nil || err.Error() != "the clocks differ" {
		t.Errorf("answer: %v", err)
	}
	if request := <-got; string(request) != "clock" {
		t.Errorf("sent %q, want the request without a secret", request)
	}

	// As a peer, too, it hears about clocks and not about clusters.
	_, err = member.verify([]*x509.Certificate{member.own.Leaf}, 1, x509.ExtKeyUsageServerAuth)
	late := (*WrongTimeError)(nil)
	if !errors.As(err, &late) || !strings.Contains(err.Error(), "set the clocks right") {
		t.Errorf("verify: %v", err)
	}
}
