package cluster

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// benchNode is one bootstrapped node; what takes a *testing.T in the harness is done by hand.
func benchNode(b *testing.B, inMemory bool) *Node {
	b.Helper()
	f := newTable()
	key, err := NewNodeKey()
	require.NoError(b, err)
	n, err := New(Options{
		NodeID: "n1", DataDir: b.TempDir(), InMemory: inMemory, ClusterBind: "127.0.0.1:0", GossipBind: "127.0.0.1:0",
		Key: key, FSM: f, Directory: f, Applied: f, Tuning: testTuning(),
	})
	require.NoError(b, err)
	n.Handle("echo", func(_ context.Context, _ Member, body []byte) ([]byte, error) { return body, nil })
	require.NoError(b, n.Start(b.Context()))
	b.Cleanup(func() { require.NoError(b, n.Stop(context.Background())) })
	require.NoError(b, n.Bootstrap(b.Context()))
	m := n.self
	for {
		if _, err := n.Propose(b.Context(), encodeCommand(tableCommand{Admit: &m})); err == nil {
			return n
		}
	}
}

// BenchmarkCall is one call over a real connection, from the node to itself.
func BenchmarkCall(b *testing.B) {
	n := benchNode(b, true)
	body := make([]byte, 512)
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, err := n.client.call(b.Context(), "n1", "echo", body)
			require.NoError(b, err)
		}
	})
	b.Run("many", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(64)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := n.client.call(b.Context(), "n1", "echo", body); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}

// BenchmarkPropose is one command through the log on disk of a single voter.
func BenchmarkPropose(b *testing.B) {
	n := benchNode(b, false)
	var last atomic.Uint64
	b.Run("one", func(b *testing.B) {
		for b.Loop() {
			_, err := n.Propose(b.Context(), encodeCommand(tableCommand{Remove: strconv.FormatUint(last.Add(1), 10)}))
			require.NoError(b, err)
		}
	})
	b.Run("many", func(b *testing.B) {
		b.SetParallelism(256)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := n.Propose(b.Context(), encodeCommand(tableCommand{Remove: strconv.FormatUint(last.Add(1), 10)})); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}
