package cluster_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/cluster"
)

// leaseNode is a node as its lease sees it, in the virtual time of a synctest bubble.
type leaseNode struct {
	started  time.Time
	index    atomic.Uint64
	applied  func(ctx context.Context, index uint64) error
	ask      func(ctx context.Context) (uint64, error)
	removed  atomic.Bool
	clock    func(time.Duration) error
	duration time.Duration
}

func newLeaseNode() *leaseNode {
	n := &leaseNode{started: time.Now(), duration: 10 * time.Second}
	n.ask = func(context.Context) (uint64, error) { return n.index.Add(1), nil }
	n.applied = func(context.Context, uint64) error { return nil }
	return n
}

func (n *leaseNode) lease() *cluster.Lease {
	return cluster.NewLease(cluster.LeaseOptions{
		Ask:         func(ctx context.Context) (uint64, error) { return n.ask(ctx) },
		WaitApplied: func(ctx context.Context, index uint64) error { return n.applied(ctx, index) },
		Member:      func() bool { return !n.removed.Load() },
		CheckClock:  n.clock,
		Duration:    func() time.Duration { return n.duration },
		Now:         func() time.Duration { return time.Since(n.started) },
	})
}

func run(t *testing.T, l *cluster.Lease) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = l.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

func TestIdleClusterStaysFreshForDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeaseNode().lease()
		require.ErrorIs(t, l.Check(), cluster.ErrNoLease)
		run(t, l)
		for range 72 {
			time.Sleep(time.Hour) // virtual
			synctest.Wait()
			require.NoError(t, l.Check())
		}
	})
}

func TestLeaseCountsFromTheQuestionNotTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newLeaseNode()
		n.ask = func(ctx context.Context) (uint64, error) {
			if n.index.Add(1) > 1 {
				<-ctx.Done() // cut off after the first round
				return 0, ctx.Err()
			}
			time.Sleep(4 * time.Second)
			return 1, nil
		}
		l := n.lease()
		run(t, l)

		time.Sleep(9999 * time.Millisecond)
		synctest.Wait()
		require.NoError(t, l.Check())
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		require.ErrorIs(t, l.Check(), cluster.ErrNoLease)
		require.Zero(t, l.Remaining())
	})
}

func TestNodeThatHasNotAppliedTheTickHoldsNoLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newLeaseNode()
		n.applied = func(ctx context.Context, _ uint64) error { <-ctx.Done(); return ctx.Err() }
		l := n.lease()
		run(t, l)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.ErrorContains(t, l.Check(), "behind index")
	})
}

func TestRemovedNodeLosesItsLeaseAtTheNextRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newLeaseNode()
		l := n.lease()
		run(t, l)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		require.NoError(t, l.Check())

		n.removed.Store(true)
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		require.ErrorContains(t, l.Check(), "not a member")
	})
}

func TestLostLeaderIsNamedOnceTheLeaseRanOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newLeaseNode()
		var cutOff atomic.Bool
		n.ask = func(context.Context) (uint64, error) {
			if cutOff.Load() {
				return 0, errors.New("nobody there")
			}
			return n.index.Add(1), nil
		}
		l := n.lease()
		run(t, l)
		time.Sleep(time.Second / 2)
		synctest.Wait()
		require.NoError(t, l.Check())

		cutOff.Store(true)
		time.Sleep(11 * time.Second)
		synctest.Wait()
		require.ErrorContains(t, l.Check(), "nobody there")
	})
}

func TestNodeWithAWrongClockHoldsNoLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newLeaseNode()
		var wrong atomic.Bool
		n.clock = func(time.Duration) error {
			if wrong.Load() {
				return errors.New("the clock is an hour ahead")
			}
			return nil
		}
		l := n.lease()
		run(t, l)
		time.Sleep(time.Second / 2)
		synctest.Wait()
		require.NoError(t, l.Check())

		wrong.Store(true)
		time.Sleep(time.Second)
		synctest.Wait()
		require.ErrorContains(t, l.Check(), "an hour ahead")
	})
}

func TestLeaseRenewedMeanwhileVouchesForNothingReadBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newLeaseNode()
		l := n.lease()
		before := l.Until()
		run(t, l)
		time.Sleep(time.Second / 2)
		synctest.Wait()
		require.NoError(t, l.Check())
		require.ErrorIs(t, l.Holds(before), cluster.ErrNoLease)

		noted := l.Until()
		time.Sleep(11 * time.Second)
		synctest.Wait()
		require.NoError(t, l.Check())
		require.ErrorIs(t, l.Holds(noted), cluster.ErrNoLease)
	})
}

func TestSurrenderedLeaseIsOverAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeaseNode().lease()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = l.Run(ctx) }()
		time.Sleep(time.Second)
		synctest.Wait()
		require.NoError(t, l.Check())
		cancel()
		<-done
		require.ErrorIs(t, l.Check(), cluster.ErrNoLease)
	})
}

func TestTickIsProposedAfterTheRequestArrived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var proposals atomic.Uint64
		release := make(chan struct{})
		ticks := cluster.NewTicks(func(context.Context) (uint64, error) {
			n := proposals.Add(1)
			<-release
			return n, nil
		})
		answers := make(chan uint64, 3)
		ask := func() {
			index, err := ticks.Commit(t.Context())
			require.NoError(t, err)
			answers <- index
		}
		go ask()
		time.Sleep(time.Second) // the first tick is under way now
		synctest.Wait()
		require.EqualValues(t, 1, proposals.Load())

		go ask() // both come too late for it and share the next one
		go ask()
		synctest.Wait()
		close(release)
		require.EqualValues(t, 1, <-answers)
		require.EqualValues(t, 2, <-answers)
		require.EqualValues(t, 2, <-answers)
		require.EqualValues(t, 2, proposals.Load())
		time.Sleep(time.Second)
	})
}

func TestBootTimeMovesOn(t *testing.T) {
	before := cluster.BootTime()
	require.GreaterOrEqual(t, cluster.BootTime(), before)
	require.Positive(t, before)
}
