package transport

import (
	"context"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

// Goal: the time from a leader's Send of one 4 KiB entry to the follower's response, and what
// both ends allocate for it.
func BenchmarkAppend4KiB(b *testing.B) {
	one, two := startPair(b)
	response := []Message{plainMessage(raftpb.MessageType_MsgAppResp, 1)}
	two.seen.set(func(r *recorder) {
		r.silent = true
		r.onRaft = func([]Message) { two.Send(1, response) }
	})
	answered := make(chan struct{}, 1)
	one.seen.set(func(r *recorder) {
		r.silent = true
		r.onRaft = func([]Message) { answered <- struct{}{} }
	})
	request := []Message{appMessage(9, make([]byte, 4096))}
	b.SetBytes(4096)
	b.ReportAllocs()
	for b.Loop() {
		one.Send(2, request)
		<-answered
	}
}

// Goal: throughput of large entries, eight on their way at a time.
func BenchmarkAppend1MiB(b *testing.B) {
	one, two := startPair(b)
	credit := make(chan struct{}, 8)
	two.seen.set(func(r *recorder) {
		r.silent = true
		r.onRaft = func(ms []Message) {
			for range ms {
				<-credit
			}
		}
	})
	request := []Message{appMessage(9, make([]byte, 1<<20))}
	b.SetBytes(1 << 20)
	b.ReportAllocs()
	for b.Loop() {
		credit <- struct{}{}
		if one.Send(2, request) {
			b.Fatal("dropped")
		}
	}
	for range cap(credit) {
		credit <- struct{}{}
	}
}

func BenchmarkCall4KiB(b *testing.B)      { benchmarkCall(b, 100, 4096) }
func BenchmarkCall1MiB(b *testing.B)      { benchmarkCall(b, 100, 1<<20) }
func BenchmarkCallWrite4KiB(b *testing.B) { benchmarkCall(b, 4096, 100) }

func answerWith(data []byte) func(context.Context, NodeID, []byte, []byte) ([]byte, error) {
	return func(_ context.Context, _ NodeID, _, reply []byte) ([]byte, error) {
		return append(reply, data...), nil
	}
}

func benchmarkCall(b *testing.B, requestBytes, answerBytes int) {
	one, two := startPair(b)
	data := make([]byte, answerBytes)
	two.seen.set(func(r *recorder) { r.onCall = answerWith(data) })
	request := make([]byte, requestBytes)
	ctx := context.Background()
	b.SetBytes(int64(requestBytes + answerBytes))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := one.Call(ctx, 2, request); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCallParallel4KiB(b *testing.B) {
	one, two := startPair(b)
	data := make([]byte, 4096)
	two.seen.set(func(r *recorder) { r.onCall = answerWith(data) })
	request := make([]byte, 100)
	b.SetParallelism(8) // 16 goroutines on two cores
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := one.Call(context.Background(), 2, request); err != nil {
				b.Fatal(err)
			}
		}
	})
}
