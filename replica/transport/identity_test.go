package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestIdentity_Validate(t *testing.T) {
	ours, theirs := newAuthority(t, 1), newAuthority(t, 9)
	good, other, foreign := ours.identity(3), ours.identity(4), theirs.identity(3)
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func(*Identity){
		"node":           func(id *Identity) { id.Node = 4 },
		"no node":        func(id *Identity) { id.Node = 0 },
		"cluster":        func(id *Identity) { id.Cluster = theirs.cluster },
		"CA":             func(id *Identity) { id.CA = theirs.cert },
		"CA and cluster": func(id *Identity) { id.CA, id.Cluster = theirs.cert, theirs.cluster },
		"certificate":    func(id *Identity) { id.Cert = other.Cert },
		"key":            func(id *Identity) { id.Key = other.Key },
		"foreign pair":   func(id *Identity) { id.Cert, id.Key = foreign.Cert, foreign.Key },
		"garbage":        func(id *Identity) { id.Cert = []byte("garbage") },
		"no CA":          func(id *Identity) { id.CA = nil },
		"CA is a node's": func(id *Identity) { id.CA = other.Cert },
		"CA as node":     func(id *Identity) { id.Cert, id.Key = ours.cert, ours.key },
	} {
		id := good
		f(&id)
		if err := id.Validate(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestSignNode_Refused(t *testing.T) {
	ours, theirs := newAuthority(t, 1), newAuthority(t, 9)
	_, csr, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	damaged := strings.Replace(string(csr), "\n-----END", "AAAA\n-----END", 1)
	for name, f := range map[string]func() ([]byte, error){
		"node 0":        func() ([]byte, error) { return SignNode(ours.cert, ours.key, csr, 0, ours.cluster) },
		"other key":     func() ([]byte, error) { return SignNode(ours.cert, theirs.key, csr, 1, ours.cluster) },
		"other cluster": func() ([]byte, error) { return SignNode(ours.cert, ours.key, csr, 1, theirs.cluster) },
		"no request":    func() ([]byte, error) { return SignNode(ours.cert, ours.key, nil, 1, ours.cluster) },
		"damaged":       func() ([]byte, error) { return SignNode(ours.cert, ours.key, []byte(damaged), 1, ours.cluster) },
	} {
		if _, err := f(); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	if len(Fingerprint(ours.cert)) != 64 || Fingerprint(ours.cert) == Fingerprint(theirs.cert) || Fingerprint(nil) != "" {
		t.Error("fingerprints are wrong")
	}
}

// Goal: nobody but the expected node is let in, whichever side dials. Method: a node that claims
// to be the peer, with every wrong certificate; both logs name the cause.
func TestTrust_Refused(t *testing.T) {
	ours, theirs := newAuthority(t, 1), newAuthority(t, 9)
	sameID := newAuthority(t, 1) // another CA that claims the same cluster
	for _, c := range []struct {
		name   string
		other  Identity
		dialer string // in the log of the node that dials it
	}{
		{"wrong cluster", theirs.identity(2), "certificate is not of this cluster"},
		{"wrong CA", sameID.identity(2), "certificate is not of this cluster"},
		{"wrong node", ours.identity(3), "certificate is node 3's, not node 2's"},
	} {
		t.Run(c.name, func(t *testing.T) {
			one := startNode(t, ours.identity(1))
			other := startNode(t, c.other)
			other.SetPeers(map[NodeID]string{1: one.addr()})
			one.SetPeers(map[NodeID]string{2: other.addr()})
			one.seen.awaitLog(t, c.dialer)
			if c.other.Node == 2 {
				one.seen.awaitLog(t, "closed a connection")
			} else {
				one.seen.awaitLog(t, "node 3 has a certificate of this cluster but is not a member")
			}
			other.seen.awaitLog(t, "cannot connect to node")
			if len(one.seen.events)+len(other.seen.events) > 0 || one.Connected(2) {
				t.Errorf("connected: %q %q", one.seen.events, other.seen.events)
			}
		})
	}
}

// Goal: a member that says in its hello what its certificate does not is refused; garbage after
// a good handshake, and without one, closes the connection with a line in the log.
func TestAccept_Garbage(t *testing.T) {
	ca := newAuthority(t, 1)
	one := startNode(t, ca.identity(1))
	two, err := newTrust(ca.identity(2))
	if err != nil {
		t.Fatal(err)
	}
	one.SetPeers(map[NodeID]string{2: "127.0.0.1:1"})
	one.seen.awaitLog(t, "cannot connect to node")

	plain := rawTCP(t, one.addr())
	plain.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	one.seen.awaitLog(t, "TLS handshake")
	awaitEnd(t, plain)

	good := hello{min: 1, max: 1, lane: bulkLane, cluster: ca.cluster, node: 2}
	change := func(f func(*hello)) []byte {
		h := good
		f(&h)
		return h.append(nil)
	}
	long := appendRaftHead(nil, appMessage(1, nil), planOf(appMessage(1, nil)))
	long[3] = 0xff
	call := good
	call.lane = callLane
	excess := call.append(nil)
	for id := range uint64(maxCalls + maxServing + 1) {
		excess = append(excess, appendCallHead(nil, kindRequest, id, 0)...)
	}
	block := make(chan struct{})
	one.seen.set(func(r *recorder) {
		r.onCall = func(_ context.Context, _ NodeID, _, reply []byte) ([]byte, error) {
			<-block
			return reply, nil
		}
	})
	defer close(block)
	for _, c := range []struct {
		name  string
		bytes []byte
		log   string
	}{
		{"no hello", make([]byte, helloBytes), "garbage instead of a hello"},
		{"version", change(func(h *hello) { h.min, h.max = 7, 9 }), "speaks versions 7 to 9"},
		{"lane", change(func(h *hello) { h.lane = 9 }), "unknown lane 9"},
		{"node", change(func(h *hello) { h.node = 3 }), "says that it is node 3"},
		{"cluster", change(func(h *hello) { h.cluster[0] = 7 }), "it is of cluster 07"},
		{"frame", append(good.append(nil), "frames look different"...), "garbage in a frame"},
		{"oversize", append(good.append(nil), long...), "garbage in a frame: length"},
		{"answer", append(call.append(nil), appendCallHead(nil, kindAnswer, 1, 0)...), "kind 17"},
		{"oversize call", append(call.append(nil), appendCallHead(nil, kindRequest, 1, MaxFrameBytes)...), "garbage in a frame: length"},
		{"too many calls", excess, "more calls than it may"},
	} {
		t.Run(c.name, func(t *testing.T) {
			one.seen.set(func(r *recorder) { r.logged.Reset() })
			peer := tls.Client(rawTCP(t, one.addr()), two.dialConfig(1))
			if _, err := peer.Write(c.bytes); err != nil {
				t.Fatal(err)
			}
			one.seen.awaitLog(t, c.log)
			awaitEnd(t, peer)
			if n := strings.Count(one.seen.logged.String(), "\n"); n != 1 {
				t.Errorf("%d log lines:\n%s", n, one.seen.logged.String())
			}
		})
	}
}

func awaitEnd(t *testing.T, c net.Conn) {
	t.Helper()
	b := make([]byte, 1000)
	for {
		_, err := c.Read(b)
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			t.Fatal("the connection stays open")
		}
		if err != nil {
			return
		}
	}
}

func TestJoin(t *testing.T) {
	ours, theirs := newAuthority(t, 1), newAuthority(t, 9)
	var busy sync.WaitGroup
	busy.Add(maxJoins)
	release := make(chan struct{})
	one := startNode(t, ours.identity(1), func(o *Options) {
		o.Join = func(ctx context.Context, remote net.Addr, request []byte) ([]byte, error) {
			switch string(request) {
			case "bad":
				return nil, errors.New("the token was used before")
			case "slow":
				busy.Done()
				<-release
			case "long":
				return make([]byte, MaxJoinAnswerBytes+1), nil
			}
			if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > joinTimeout {
				t.Error("a join has no time limit")
			}
			return append([]byte("welcome "), request...), nil
		}
	})
	ctx := t.Context()
	ask := func(fingerprint, request string) (string, error) {
		b, err := RequestJoin(ctx, one.addr(), fingerprint, JoinRequest{Body: []byte(request)})
		return string(b), err
	}
	trusted := Fingerprint(ours.cert)
	for _, request := range []string{"", "me", strings.Repeat("x", MaxJoinBytes)} {
		if got, err := ask(trusted, request); err != nil || got != "welcome "+request {
			t.Fatalf("join: %d bytes, %v", len(got), err)
		}
	}
	if got, err := ask(strings.ToUpper(trusted), "me"); err != nil || got != "welcome me" {
		t.Errorf("fingerprint in capitals: %q, %v", got, err)
	}
	var remote *RemoteError
	if _, err := ask(trusted, "bad"); !errors.As(err, &remote) || remote.Error() != "the token was used before" {
		t.Errorf("refused join: %v", err)
	}
	if _, err := ask(trusted, "long"); !errors.As(err, &remote) {
		t.Errorf("oversize answer: %v", err)
	}
	if _, err := ask(trusted, strings.Repeat("x", MaxJoinBytes+1)); err == nil {
		t.Error("oversize request was sent")
	}
	if _, err := ask(Fingerprint(theirs.cert), "me"); err == nil || !strings.Contains(err.Error(), "another fingerprint") {
		t.Errorf("another CA: %v", err)
	}
	if _, err := ask("abc", "me"); err == nil {
		t.Error("a broken fingerprint was accepted")
	}

	var all sync.WaitGroup
	for range maxJoins {
		all.Go(func() {
			if _, err := ask(trusted, "slow"); err != nil {
				t.Error(err)
			}
		})
	}
	busy.Wait()
	if _, err := ask(trusted, "me"); !errors.As(err, &remote) || !strings.Contains(remote.Text, "try again") {
		t.Errorf("one join too many: %v", err)
	}
	close(release)
	all.Wait()

	none := startNode(t, ours.identity(2))
	if _, err := RequestJoin(ctx, none.addr(), trusted, JoinRequest{}); !errors.As(err, &remote) {
		t.Errorf("join at a node that takes none: %v", err)
	}
}

// Goal: nobody gets in as a node without a certificate, and the CA's fingerprint is not enough:
// the chain must really end there. Method: a server that shows another leaf with the right CA.
func TestJoin_Impostor(t *testing.T) {
	ours, theirs := newAuthority(t, 1), newAuthority(t, 9)
	impostor, err := newTrust(theirs.identity(1))
	if err != nil {
		t.Fatal(err)
	}
	real, err := newTrust(ours.identity(1))
	if err != nil {
		t.Fatal(err)
	}
	impostor.own.Certificate[1] = real.own.Certificate[1]
	listener, err := tls.Listen("tcp", "127.0.0.1:0", impostor.listenConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	got := make(chan error, 1)
	go func() {
		c, err := listener.Accept()
		if err == nil {
			_, err = c.Read(make([]byte, 1))
			c.Close()
		}
		got <- err
	}()
	if _, err := RequestJoin(t.Context(), listener.Addr().String(), Fingerprint(ours.cert), JoinRequest{Body: []byte("secret token")}); err == nil {
		t.Error("joined an impostor")
	}
	if err := <-got; err == nil {
		t.Error("the impostor got bytes of the request")
	}

	one := startNode(t, ours.identity(1))
	config := baseConfig(peerALPN)
	config.InsecureSkipVerify = true
	peer := tls.Client(rawTCP(t, one.addr()), config)
	peer.Write(hello{min: 1, max: 1, lane: bulkLane, cluster: ours.cluster, node: 2}.append(nil))
	if _, err := peer.Read(make([]byte, 1)); err == nil {
		t.Error("a node without a certificate was answered")
	}
	one.seen.awaitLog(t, "closed a connection")
}
