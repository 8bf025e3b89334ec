package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/internal/virtualtime"
)

func numbered(i int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(i)) }

func TestDenyQueueKeepsTheNewestInOrder(t *testing.T) {
	t.Parallel()
	q := newDenyQueue(4)
	dropped := 0
	for i := range 10 {
		if q.push(numbered(i)) {
			dropped++
		}
	}
	require.Equal(t, 6, dropped)
	require.Equal(t, 4, q.len())
	for i := 6; i < 10; i++ {
		got, ok := q.next(t.Context())
		require.True(t, ok)
		require.Equal(t, numbered(i), got)
	}
	_, ok := q.pop()
	require.False(t, ok)
	// It goes round.
	for i := range 3 {
		require.False(t, q.push(numbered(i)))
	}
	got, _ := q.pop()
	require.Equal(t, numbered(0), got)
}

func TestDenyQueueWaits(t *testing.T) {
	t.Parallel()
	virtualtime.Test(t, func(t *testing.T) {
		q := newDenyQueue(4)
		ctx, cancel := context.WithCancel(t.Context())
		var got [][]byte
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for {
				message, ok := q.next(ctx)
				if !ok {
					return
				}
				got = append(got, message)
			}
		}()
		virtualtime.Wait()
		q.push(numbered(1))
		q.push(numbered(2))
		virtualtime.Wait()
		q.push(numbered(3))
		virtualtime.Wait()
		cancel()
		<-ended
		require.Equal(t, [][]byte{numbered(1), numbered(2), numbered(3)}, got)
	})
}

func TestPace(t *testing.T) {
	t.Parallel()
	virtualtime.Test(t, func(t *testing.T) {
		p := pace{every: time.Millisecond, atOnce: 10}
		passed := func(count int) time.Duration {
			start := time.Now()
			for range count {
				require.True(t, p.wait(t.Context()))
			}
			return time.Since(start)
		}
		require.Zero(t, passed(10), "after a rest")
		require.Equal(t, 100*time.Millisecond, passed(100))
		time.Sleep(5 * time.Millisecond)
		require.Zero(t, passed(5), "half rested")
		require.Equal(t, time.Millisecond, passed(1))
		time.Sleep(time.Hour)
		require.Equal(t, 10*time.Millisecond, passed(20), "no more is saved up than passes at once")

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.False(t, p.wait(ctx))
	})
}

func TestDenyMemoryIsBoundedAndForgetsTheOldest(t *testing.T) {
	t.Parallel()
	hash := func(i int) denyHash { return sha256.Sum256(numbered(i)) }
	now := time.Unix(1_700_000_000, 0)
	m := newDenyMemory(100, time.Minute)
	for i := range 1000 {
		require.False(t, m.has(hash(i)))
		m.add(hash(i), now)
		require.LessOrEqual(t, m.len(), 200)
		for j := max(0, i-100); j <= i; j++ { // at least as many as a generation holds
			require.True(t, m.has(hash(j)), "%d of %d", j, i)
		}
	}
	require.False(t, m.has(hash(0)))

	m = newDenyMemory(100, time.Minute)
	m.add(hash(1), now)
	m.add(hash(2), now.Add(59*time.Second))
	m.add(hash(3), now.Add(61*time.Second))
	require.True(t, m.has(hash(2)), "two seconds old")
	m.add(hash(4), now.Add(130*time.Second))
	require.False(t, m.has(hash(1)), "what no window lets in again need not be known")
	require.True(t, m.has(hash(3)) && m.has(hash(4)))
}
