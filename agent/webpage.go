package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"trinas/agent/control"
	"trinas/agent/web"
	"trinas/replica"
)

const webStopTimeout = time.Second

// servePage serves the web page. That it cannot is a warning: nothing depends on it.
func (d *daemon) servePage(node *replica.Node) {
	if d.config.Web.Listen == "" {
		return
	}
	if err := d.openPage(node); err != nil {
		d.log.Warn("the web page cannot be served", "event", "web-failed", "cause", err)
	}
}

func (d *daemon) openPage(node *replica.Node) error {
	certificate, err := node.Certificate()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", d.config.Web.Listen)
	if err != nil {
		return fmt.Errorf("web.listen: %w", err)
	}
	server, err := web.Serve(l, web.Options{Certificate: certificate, API: d.control.Handler(), Log: d.log.With("node", node.Name())})
	if err != nil {
		return errors.Join(err, l.Close())
	}
	d.setPage(server)
	return nil
}

func (d *daemon) setPage(server *web.Server) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.page = server
}

func (d *daemon) pageServer() *web.Server {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.page
}

func (d *daemon) stopPage(ctx context.Context) {
	server := d.pageServer()
	if server == nil {
		return
	}
	d.setPage(nil)
	ctx, cancel := context.WithTimeout(ctx, webStopTimeout)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		d.log.Debug("stop the web page", "err", err) // a browser's request under way
	}
}

// Web makes a token for the web page.
func (d *daemon) Web() (control.WebLogin, error) {
	server, node := d.pageServer(), d.currentNode()
	switch {
	case d.config.Web.Listen == "":
		return control.WebLogin{}, &control.Error{Text: "this agent has no web page", Hint: "set web.listen in trinas.toml, then systemctl restart trinas"}
	case node == nil:
		return control.WebLogin{}, replica.ErrNoIdentity
	case server == nil:
		return control.WebLogin{}, &control.Error{Text: "the web page is not served", Hint: "see web-failed in trinas events"}
	}
	certificate, err := node.Certificate()
	if err != nil {
		return control.WebLogin{}, err
	}
	token := server.Token()
	address := "https://" + webHost(d.config.Web.Listen, node.Known().Node.Address) + "/"
	return control.WebLogin{Address: address, Token: token, Link: address + "login#" + token, Until: time.Now().Add(web.TokenLife),
		Fingerprint: fingerprint(certificate.Certificate[0])}, nil
}

// webHost is where a browser finds an address that is listened on: when that is every address, the
// one that the other nodes use.
func webHost(listen, peer string) string {
	at, err := netip.ParseAddrPort(listen)
	if err != nil || !at.Addr().IsUnspecified() {
		return listen
	}
	host, _, err := net.SplitHostPort(peer)
	if err != nil {
		return listen
	}
	return net.JoinHostPort(host, fmt.Sprint(at.Port()))
}

// fingerprint is a certificate's SHA-256 as browsers show it: pairs of hexadecimal digits.
func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return strings.ReplaceAll(fmt.Sprintf("% X", sum[:]), " ", ":")
}
