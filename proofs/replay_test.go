package proofs_test

import (
	"crypto/sha256"
	"encoding/binary"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/proofs"
)

func replayKey(n int) [32]byte {
	return sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n)))
}

func TestReplayBehavesLikeAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, model := proofs.NewReplay(100_000), map[int]identity.Instant{}
		at := identity.Instant(1000)
		for range rapid.IntRange(1, 400).Draw(t, "steps") {
			at += identity.Instant(rapid.IntRange(0, 40).Draw(t, "passes"))
			n := rapid.IntRange(0, 60).Draw(t, "key")
			until := at + identity.Instant(rapid.IntRange(-5, 300).Draw(t, "lasts"))
			fresh, full := r.Seen(replayKey(n), until, at)
			require.False(t, full)
			require.Equal(t, until > at && model[n] <= at, fresh)
			if fresh {
				model[n] = until
			}
		}
	})
}

func TestFullReplayTurnsAwayWhatItCanNotRemember(t *testing.T) {
	r := proofs.NewReplay(10_000)
	require.GreaterOrEqual(t, r.Cap(), 10_000)
	accepted, refused := 0, 0
	for n := range 3 * r.Cap() {
		fresh, full := r.Seen(replayKey(n), now+minute, now)
		require.NotEqual(t, fresh, full)
		if fresh {
			accepted++
		} else {
			refused++
		}
	}
	require.Equal(t, r.Cap(), accepted)
	require.Equal(t, r.Cap(), r.Len())
	require.Positive(t, refused)
	for n := range 3 * r.Cap() {
		fresh, _ := r.Seen(replayKey(n), now+minute, now)
		require.False(t, fresh, "what was accepted once is never fresh again, and what was turned away stays so while all is full")
	}
	requireReason(t, proofs.ReasonReplayFull, (&proofs.Assertion{ClientID: "c", JTI: "j", Expires: now + minute}).Once(fullReplay(), now))

	// Once they have expired there is room again, within a second.
	fresh := 0
	for n := range r.Cap() {
		if ok, _ := r.Seen(replayKey(1_000_000+n), now+3*minute, now+minute+1000); ok {
			fresh++
		}
	}
	require.Greater(t, fresh, r.Cap()*9/10, "shards fill unevenly, but not by much")
}

func fullReplay() *proofs.Replay {
	r := proofs.NewReplay(1)
	for n := range 100 * r.Cap() {
		r.Seen(replayKey(n), now+minute, now)
	}
	return r
}

// A full shard lets go of what has expired even if it is full of other things again and again.
func TestReplayKeepsUpWithSteadyLoad(t *testing.T) {
	r := proofs.NewReplay(20_000)
	turned := 0
	for n := range 200_000 { // 200 a second, each for 60 s: 12,000 at a time
		at := now + identity.Instant(n)*5
		fresh, full := r.Seen(replayKey(n), at+minute, at)
		if full {
			turned++
			continue
		}
		require.True(t, fresh)
		if n%17 == 0 {
			fresh, full = r.Seen(replayKey(n), at+minute, at)
			require.False(t, fresh)
			require.False(t, full)
		}
	}
	require.Zero(t, turned)
}

func TestOneOfManyIsFresh(t *testing.T) {
	r := proofs.NewReplay(100_000)
	const keys, callers = 5000, 8
	var fresh [keys]atomic.Int32
	var calling sync.WaitGroup
	for c := range callers {
		calling.Go(func() {
			for i := range keys {
				n := (i*7919 + c*613) % keys
				if ok, full := r.Seen(replayKey(n), now+minute, now); ok {
					fresh[n].Add(1)
				} else if full {
					t.Error("full")
				}
			}
		})
	}
	calling.Wait()
	for n := range fresh {
		require.EqualValues(t, 1, fresh[n].Load())
	}
}

func TestReplayCostsFewBytesAnEntry(t *testing.T) {
	if testing.Short() {
		t.Skip("it fills memory")
	}
	const entries = 1 << 18
	before := heap()
	r := proofs.NewReplay(2 * entries)
	for n := range entries {
		r.Seen(replayKey(n), now+minute, now)
	}
	perEntry := float64(heap()-before) / entries
	t.Logf("%.1f bytes an entry, %d entries", perEntry, r.Len())
	require.Less(t, perEntry, 66.0)
	require.Equal(t, entries, r.Len())
	runtime.KeepAlive(r)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
