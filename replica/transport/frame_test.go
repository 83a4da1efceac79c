package transport

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"reflect"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// encodeFrame is what raftQueue does with one message.
func encodeFrame(tb testing.TB, m Message) []byte {
	tb.Helper()
	p := planOf(m)
	if p.proto {
		b, err := appendProto(nil, m, p)
		if err != nil {
			tb.Fatal(err)
		}
		return b
	}
	b := appendRaftHead(nil, m, p)
	for _, e := range m.Raft.Entries {
		b = append(appendEntryHead(b, e), e.Data...)
	}
	if len(b) != p.bytes {
		tb.Fatalf("planned %d bytes, encoded %d", p.bytes, len(b))
	}
	return b
}

func decodeFrame(b []byte) (Message, int, error) {
	return readRaft(bufio.NewReaderSize(bytes.NewReader(b), 4096))
}

func sameMessage(a, b Message) bool {
	if !proto.Equal(a.Raft, b.Raft) || a.Group != b.Group || a.Round != b.Round || a.Free != b.Free {
		return false
	}
	if (a.Raft.Context == nil) != (b.Raft.Context == nil) {
		return false
	}
	for i, e := range a.Raft.Entries {
		if (e.Data == nil) != (b.Raft.Entries[i].Data == nil) {
			return false
		}
	}
	return true
}

// sampleMessages has every field both there and not, nil and empty.
func sampleMessages() []Message {
	kind := func(k raftpb.MessageType) *raftpb.MessageType { return &k }
	return []Message{
		{Raft: &raftpb.Message{Type: kind(raftpb.MessageType_MsgTimeoutNow)}},
		{Group: 1<<64 - 1, Round: -5, Free: 1 << 63, Raft: &raftpb.Message{
			Type: kind(raftpb.MessageType_MsgHeartbeatResp), To: new(uint64(0)), From: new(uint64(1 << 63)),
			Context: []byte{},
		}},
		{Raft: &raftpb.Message{Type: kind(raftpb.MessageType_MsgVote), Vote: new(uint64(4)), Context: []byte("CampaignTransfer")}},
		{Raft: &raftpb.Message{Type: kind(raftpb.MessageType_MsgAppResp), Reject: new(false), RejectHint: new(uint64(0))}},
		{Raft: &raftpb.Message{Type: kind(raftpb.MessageType_MsgAppResp), Reject: new(true), RejectHint: new(uint64(9)), LogTerm: new(uint64(2))}},
		{Raft: &raftpb.Message{Type: kind(raftpb.MessageType_MsgReadIndex), Entries: []*raftpb.Entry{{Data: []byte("ctx")}}}},
		{Raft: &raftpb.Message{Type: kind(raftpb.MessageType_MsgApp), Entries: []*raftpb.Entry{
			{}, {Data: []byte{}}, {Type: raftpb.EntryType_EntryConfChangeV2.Enum(), Term: new(uint64(0)), Index: new(uint64(0))},
			{Type: raftpb.EntryType_EntryNormal.Enum(), Term: new(uint64(5)), Index: new(uint64(6)), Data: bytes.Repeat([]byte("x"), 9000)},
		}}},
		{Group: 3, Raft: &raftpb.Message{Type: kind(raftpb.MessageType_MsgSnap), Snapshot: &raftpb.Snapshot{
			Data: []byte("where"), Metadata: &raftpb.SnapshotMetadata{
				Index: new(uint64(8)), Term: new(uint64(2)), ConfState: &raftpb.ConfState{Voters: []uint64{1, 2, 3}, AutoLeave: new(false)},
			},
		}}},
		{Raft: &raftpb.Message{Type: kind(raftpb.MessageType_MsgApp), Snapshot: &raftpb.Snapshot{}}},
		appMessage(17, []byte("payload")),
		manyEntries(3*entryChunk + 5),
	}
}

func manyEntries(count int) Message {
	m := appMessage(1, nil)
	for i := range uint64(count) {
		m.Raft.Entries = append(m.Raft.Entries, &raftpb.Entry{Index: new(i + 2), Data: []byte{byte(i)}})
	}
	return m
}

// Goal: what Raft sent is what Raft gets, nil and zero told apart. Method: messages with every
// field in every state, one after the other through one reader.
func TestFrame_RoundTrip(t *testing.T) {
	var stream []byte
	for _, m := range sampleMessages() {
		stream = append(stream, encodeFrame(t, m)...)
	}
	r := bufio.NewReaderSize(bytes.NewReader(stream), 4096)
	for i, want := range sampleMessages() {
		got, n, err := readRaft(r)
		if err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		if !sameMessage(want, got) {
			t.Errorf("message %d: sent %v, got %v", i, want, got)
		}
		if n != planOf(want).bytes {
			t.Errorf("message %d: size %d, planned %d", i, n, planOf(want).bytes)
		}
	}
	if _, _, err := readRaft(r); err != io.EOF {
		t.Fatalf("at the end: %v", err)
	}
}

// Goal: the mask covers every field that raftpb has, so that a new version of the library with a
// new field does not lose it silently.
func TestFrame_CoversRaftpb(t *testing.T) {
	if n := exported(reflect.TypeFor[raftpb.Message]()); n != 14 {
		t.Errorf("raftpb.Message has %d fields, the frame knows 14", n)
	}
	if n := exported(reflect.TypeFor[raftpb.Entry]()); n != 4 {
		t.Errorf("raftpb.Entry has %d fields, the frame knows 4", n)
	}
}

func exported(typ reflect.Type) (n int) {
	for i := range typ.NumField() {
		if typ.Field(i).IsExported() {
			n++
		}
	}
	return n
}

// Goal: a frame that is cut or changed anywhere gives an error or another message, never a panic,
// and allocates no more than a frame may have.
func TestFrame_Damaged(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for i, m := range sampleMessages() {
		whole := encodeFrame(t, m)
		for cut := range min(len(whole), 300) {
			if _, _, err := decodeFrame(whole[:cut]); err == nil {
				t.Fatalf("message %d cut to %d of %d bytes was accepted", i, cut, len(whole))
			}
		}
		for range 300 {
			b := bytes.Clone(whole)
			b[random.IntN(min(len(b), 200))] ^= byte(1 + random.IntN(255))
			decodeFrame(b)
		}
	}
}

func TestFrame_Refused(t *testing.T) {
	whole := encodeFrame(t, appMessage(4, []byte("data")))
	change := func(f func(b []byte)) []byte {
		b := bytes.Clone(whole)
		f(b)
		return b
	}
	for name, b := range map[string][]byte{
		"oversize":       change(func(b []byte) { b[3] = 1 }), // 16 MiB and more
		"short":          change(func(b []byte) { b[0] = 3 }),
		"local message":  change(func(b []byte) { b[5] = byte(raftpb.MessageType_MsgHup) }),
		"unknown kind":   change(func(b []byte) { b[4] = kindRequest }),
		"unknown field":  change(func(b []byte) { b[7] |= 0x80 }),
		"entry too long": change(func(b []byte) { b[raftHead+6*8+4+4+2] = 1 }),
		"bytes after":    append(change(func(b []byte) { b[0]++ }), 0),
	} {
		if _, _, err := decodeFrame(b); !errors.Is(err, errGarbage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzFrame(f *testing.F) {
	for _, m := range sampleMessages() {
		f.Add(encodeFrame(f, m))
	}
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	// An unknown field of protocol buffers.
	f.Add([]byte(" \x00\x00\x00\x02\x0300000000000000000000000000\b\x032\x00"))
	f.Add(bytes.Repeat([]byte{0xff}, 64))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, n, err := decodeFrame(b)
		if err != nil {
			return
		}
		if n > len(b) {
			t.Fatalf("read %d of %d bytes", n, len(b))
		}
		again, _, err := decodeFrame(encodeFrame(t, m))
		if err != nil || !sameMessage(m, again) {
			t.Fatalf("%v came back as %v, %v", m, again, err)
		}
	})
}

func FuzzCallHead(f *testing.F) {
	f.Add(appendCallHead(nil, kindRequest, 5, 100))
	f.Add(appendCallHead(nil, kindCancel, 1<<63, 0))
	f.Add([]byte("\xff\xff\xff\xff0123456789abcdef"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &conn{in: bufio.NewReader(bytes.NewReader(b))}
		kind, id, size, err := c.readCallHead()
		if err == nil && !bytes.Equal(appendCallHead(nil, kind, id, size)[8:], b[8:callHead]) {
			t.Fatalf("kind %d id %d size %d from % x", kind, id, size, b)
		}
		if err == nil && (size < 0 || size > maxBodyBytes) {
			t.Fatalf("body of %d bytes", size)
		}
	})
}

func FuzzHello(f *testing.F) {
	f.Add(hello{min: 1, max: 1, lane: callLane, cluster: ClusterID{1, 2}, node: 3}.append(nil))
	f.Add(hello{min: 1, max: 9, lane: beatLane, status: notMember, node: 1 << 63}.append(nil))
	f.Add(hello{min: 2, max: 3, lane: bulkLane}.append(nil))
	f.Add(bytes.Repeat([]byte{0xff}, helloBytes))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHello(b)
		if err != nil {
			return
		}
		if again, err := parseHello(h.append(nil)); err != nil || again != h {
			t.Fatalf("%+v came back as %+v, %v", h, again, err)
		}
	})
}

func TestHello_Versions(t *testing.T) {
	for _, c := range []struct {
		min, max uint16
		ok       bool
	}{{1, 1, true}, {1, 5, true}, {0, 1, true}, {2, 5, false}, {0, 0, false}, {5, 1, false}} {
		_, err := parseHello(hello{min: c.min, max: c.max, lane: beatLane, node: 1}.append(nil))
		if (err == nil) != c.ok {
			t.Errorf("versions %d to %d: %v", c.min, c.max, err)
		}
	}
}
