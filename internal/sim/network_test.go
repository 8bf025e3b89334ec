package sim

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/internal/virtualtime"
)

// pair is two nodes on a network; b answers with the number of requests that it has seen.
func pair(t *testing.T, test func(n *network, a, b *port, seen *atomic.Int64)) {
	t.Helper()
	virtualtime.Test(t, func(t *testing.T) {
		n := newNetwork(newSource(1, 1))
		var seen atomic.Int64
		a := n.open("a", func(context.Context, string, any) (any, error) { return nil, nil })
		b := n.open("b", func(context.Context, string, any) (any, error) {
			return seen.Add(1), nil
		})
		test(n, a, b, &seen)
		n.close()
		a.close()
		b.close()
		time.Sleep(drain)
	})
}

func ring(p *port, to string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err := p.call(ctx, to, "hello")
	return err
}

func TestACutDirectionSwallowsMessagesAndTheOtherDoesNot(t *testing.T) {
	pair(t, func(n *network, a, b *port, seen *atomic.Int64) {
		require.NoError(t, ring(a, "b"))
		n.cut(route{"b", "a"})
		require.Error(t, ring(a, "b"), "the answer is lost")
		require.Equal(t, int64(2), seen.Load(), "the request is not")
		n.cut(route{"b", "a"}, route{"a", "b"})
		require.Error(t, ring(a, "b"))
		require.Equal(t, int64(2), seen.Load())
		n.mend(route{"b", "a"}, route{"a", "b"})
		require.Error(t, ring(a, "b"), "another fault still cuts it")
		n.mend(route{"b", "a"})
		require.NoError(t, ring(a, "b"))
	})
}

func TestAMessageThatIsUnderWayWhenItsWayIsCutIsLost(t *testing.T) {
	pair(t, func(n *network, a, b *port, seen *atomic.Int64) {
		n.spoil(weather{least: 100 * time.Millisecond, most: 100 * time.Millisecond}, route{"a", "b"})
		done := make(chan error, 1)
		go func() { done <- ring(a, "b") }()
		time.Sleep(50 * time.Millisecond)
		n.cut(route{"a", "b"})
		require.Error(t, <-done)
		require.Zero(t, seen.Load())
	})
}

func TestWhatAHeldNodeIsToldWaitsForIt(t *testing.T) {
	pair(t, func(n *network, a, b *port, seen *atomic.Int64) {
		n.hold("b")
		require.ErrorIs(t, ring(a, "b"), errSilence)
		require.Zero(t, seen.Load())
		n.release("b")
		time.Sleep(100 * time.Millisecond)
		require.Equal(t, int64(1), seen.Load(), "it hears it all the same")
		require.NoError(t, ring(a, "b"))
	})
}

func TestMessagesOvertakeEachOther(t *testing.T) {
	pair(t, func(n *network, a, b *port, _ *atomic.Int64) {
		var (
			mu    sync.Mutex
			order []int
		)
		b.serve = func(_ context.Context, _ string, request any) (any, error) {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, request.(int))
			return nil, nil
		}
		n.spoil(weather{most: 50 * time.Millisecond}, route{"a", "b"})
		for i := range 20 {
			go func() { _, _ = a.call(context.Background(), "b", i) }()
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		mu.Lock()
		defer mu.Unlock()
		require.Len(t, order, 20)
		require.False(t, slices.IsSorted(order))
	})
}

func TestAnEndedProcessNeitherHearsNorIsHeard(t *testing.T) {
	pair(t, func(n *network, a, b *port, seen *atomic.Int64) {
		b.close()
		require.ErrorIs(t, ring(a, "b"), errRefused)
		a.close()
		require.ErrorIs(t, ring(a, "b"), errClosed)
		time.Sleep(time.Second)
		require.Zero(t, seen.Load())
	})
}
