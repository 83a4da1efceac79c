package main

import (
	"net"
	"testing"
	"time"
)

// pipe is a connection over the loopback, its server's end with keepalive, as Go's are.
func pipe(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp4", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// Goal: the server's end is found by the client's, with its timer and what waits to be sent.
func TestCrowd_Sockets(t *testing.T) {
	client, server := pipe(t)
	other, _ := pipe(t)
	c := &crowd{conns: []net.Conn{client}}
	look := func() socket {
		t.Helper()
		all, err := c.sockets()
		if err != nil {
			t.Fatal(err)
		}
		if _, found := all[other]; found || len(all) > 1 {
			t.Fatalf("found others: %v", all)
		}
		return all[client]
	}
	if k := look(); k.state != stateEstablished || k.timer != timerKeepalive || k.due <= 0 || k.due > time.Minute {
		t.Errorf("idle: %+v", k)
	}
	if err := deafen(client); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Write([]byte("to nobody")); err != nil {
		t.Fatal(err)
	}
	if k := look(); k.queued != len("to nobody") {
		t.Errorf("to a client that has gone: %+v", k)
	}
	if part, err := c.sendingTo(); err != nil || len(part.conns) != 1 {
		t.Errorf("sending to %v, %v", part, err)
	}
	server.Close()
	if k := look(); k.state == stateEstablished {
		t.Errorf("closed: %+v", k)
	}
}

// Goal: a neighbour fails of which more than one request in a hundred was late, or that made hardly any.
func TestNeighbour_Verdict(t *testing.T) {
	quick := make([]time.Duration, 990)
	for name, tt := range map[string]struct {
		late int
		want bool
	}{"nine of a thousand late": {9, true}, "twenty late": {20, false}} {
		n := &neighbour{took: quick}
		for range tt.late {
			n.took = append(n.took, time.Second)
		}
		if err := n.verdict(); (err == nil) != tt.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if (&neighbour{took: quick[:10]}).verdict() == nil {
		t.Error("ten requests are enough")
	}
}
