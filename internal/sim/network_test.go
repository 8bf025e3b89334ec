package sim

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// pair is two nodes on a network; b answers with the number of requests that it has seen.
func pair(t *testing.T, test func(n *network, a, b *port, seen *int)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(newSource(1, 1))
		seen := 0
		a := n.open("a", func(context.Context, string, any) (any, error) { return nil, nil })
		b := n.open("b", func(context.Context, string, any) (any, error) {
			seen++
			return seen, nil
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
	pair(t, func(n *network, a, b *port, seen *int) {
		require.NoError(t, ring(a, "b"))
		n.cut(route{"b", "a"})
		require.Error(t, ring(a, "b"), "the answer is lost")
		require.Equal(t, 2, *seen, "the request is not")
		n.cut(route{"b", "a"}, route{"a", "b"})
		require.Error(t, ring(a, "b"))
		require.Equal(t, 2, *seen)
		n.mend(route{"b", "a"}, route{"a", "b"})
		require.Error(t, ring(a, "b"), "another fault still cuts it")
		n.mend(route{"b", "a"})
		require.NoError(t, ring(a, "b"))
	})
}

func TestAMessageThatIsUnderWayWhenItsWayIsCutIsLost(t *testing.T) {
	pair(t, func(n *network, a, b *port, seen *int) {
		n.spoil(weather{least: 100 * time.Millisecond, most: 100 * time.Millisecond}, route{"a", "b"})
		done := make(chan error, 1)
		go func() { done <- ring(a, "b") }()
		time.Sleep(50 * time.Millisecond)
		n.cut(route{"a", "b"})
		require.Error(t, <-done)
		require.Zero(t, *seen)
	})
}

func TestWhatAHeldNodeIsToldWaitsForIt(t *testing.T) {
	pair(t, func(n *network, a, b *port, seen *int) {
		n.hold("b")
		require.ErrorIs(t, ring(a, "b"), errSilence)
		require.Zero(t, *seen)
		n.release("b")
		time.Sleep(100 * time.Millisecond)
		require.Equal(t, 1, *seen, "it hears it all the same")
		require.NoError(t, ring(a, "b"))
	})
}

func TestMessagesOvertakeEachOther(t *testing.T) {
	pair(t, func(n *network, a, b *port, _ *int) {
		var order []int
		b.serve = func(_ context.Context, _ string, request any) (any, error) {
			order = append(order, request.(int))
			return nil, nil
		}
		n.spoil(weather{most: 50 * time.Millisecond}, route{"a", "b"})
		for i := range 20 {
			go func() { _, _ = a.call(context.Background(), "b", i) }()
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		require.Len(t, order, 20)
		require.False(t, slices.IsSorted(order))
	})
}

func TestAnEndedProcessNeitherHearsNorIsHeard(t *testing.T) {
	pair(t, func(n *network, a, b *port, seen *int) {
		b.close()
		require.ErrorIs(t, ring(a, "b"), errRefused)
		a.close()
		require.ErrorIs(t, ring(a, "b"), errClosed)
		time.Sleep(time.Second)
		require.Zero(t, *seen)
	})
}
