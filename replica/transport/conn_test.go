package transport

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

// Goal: all frames that have arrived are known to be there, over the bounds of TLS records, and a
// frame that has arrived in part is not waited for. Method: three records written at once, the
// second ending in the middle of a frame that the third completes; then half a record.
func TestConn_FrameReady(t *testing.T) {
	ca := newAuthority(t, 1)
	one, err := newTrust(ca.identity(1))
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	out := newWire(near, idleReadBytes)
	sender := tls.Client(out, one.dialConfig(1))
	c := newConn(far, readAheadBytes)
	c.tls = tls.Server(c.wire, one.listenConfig())
	c.in = bufio.NewReaderSize(c.tls, readAheadBytes)

	frame := encodeFrame(t, plainMessage(raftpb.MessageType_MsgAppResp, 5))
	half := len(frame) / 2
	go func() {
		sender.Write(frame)
		out.hold()
		sender.Write(frame)
		sender.Write(append(frame[:len(frame):len(frame)], frame[:half]...))
		sender.Write(frame[half:])
		sender.Write(frame)
		whole := out.out
		out.out = nil
		near.Write(whole[:len(whole)-5]) // the last record lacks its end
		near.Write(whole[len(whole)-5:])
	}()
	read := func() {
		t.Helper()
		if m, _, err := readRaft(c.in); err != nil || m.Raft.GetIndex() != 5 {
			t.Fatalf("got %v, %v", m, err)
		}
	}
	read()
	for i, ready := range []bool{true, true, false} {
		read() // after the first frame all but the last arrive in one Read
		if got := c.frameReady(); got != ready {
			t.Fatalf("after frame %d of the three: ready = %v, want %v", i+1, got, ready)
		}
	}
	read()
	near.Close()
	if _, _, err := readRaft(c.in); err != io.EOF {
		t.Fatalf("at the end: %v", err)
	}
}
