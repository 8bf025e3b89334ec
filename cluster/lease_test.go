package cluster_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/cluster"
	"github.com/deputy-id/deputy/internal/racedetector"
	"github.com/deputy-id/deputy/internal/virtualtime"
)

// leaseNode is a node as its lease sees it, in virtual time.
type leaseNode struct {
	started  time.Time
	index    atomic.Uint64
	applied  func(ctx context.Context, index uint64) error
	ask      func(ctx context.Context) (uint64, error)
	removed  atomic.Bool
	clock    func(time.Duration) error
	duration time.Duration
	own      atomic.Uint64 // index that its state machine has applied
	leapt    atomic.Int64  // time for which the machine was suspended: timers stand still, the boot clock doesn't
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
		Applied:     n.own.Load,
		Member:      func() bool { return !n.removed.Load() },
		CheckClock:  n.clock,
		Duration:    func() time.Duration { return n.duration },
		Now:         func() time.Duration { return time.Since(n.started) + time.Duration(n.leapt.Load()) },
	})
}

func run(t *testing.T, l *cluster.Lease) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = l.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

func TestIdleClusterStaysFreshForHours(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		l := newLeaseNode().lease()
		require.ErrorIs(t, l.Check(), cluster.ErrNoLease)
		run(t, l)
		hours := 12
		if racedetector.Enabled { // the fourth hour has no races that the first three have not
			hours = 3
		}
		for range hours {
			time.Sleep(time.Hour) // virtual
			virtualtime.Wait()
			require.NoError(t, l.Check())
		}
	})
}

func TestLeaseCountsFromTheQuestionNotTheAnswer(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
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
		virtualtime.Wait()
		require.NoError(t, l.Check())
		time.Sleep(2 * time.Millisecond)
		virtualtime.Wait()
		require.ErrorIs(t, l.Check(), cluster.ErrNoLease)
		require.Zero(t, l.Remaining())
	})
}

func TestNodeThatHasNotAppliedTheTickHoldsNoLease(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		n := newLeaseNode()
		n.applied = func(ctx context.Context, _ uint64) error { <-ctx.Done(); return ctx.Err() }
		l := n.lease()
		run(t, l)
		time.Sleep(time.Minute)
		virtualtime.Wait()
		require.ErrorContains(t, l.Check(), "behind index")
	})
}

func TestRemovedNodeLosesItsLeaseAtTheNextRound(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		n := newLeaseNode()
		l := n.lease()
		run(t, l)
		time.Sleep(5 * time.Second)
		virtualtime.Wait()
		require.NoError(t, l.Check())

		n.removed.Store(true)
		time.Sleep(1100 * time.Millisecond)
		virtualtime.Wait()
		require.ErrorContains(t, l.Check(), "not a member")
	})
}

func TestLostLeaderIsNamedOnceTheLeaseRanOut(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
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
		virtualtime.Wait()
		require.NoError(t, l.Check())

		cutOff.Store(true)
		time.Sleep(11 * time.Second)
		virtualtime.Wait()
		require.ErrorContains(t, l.Check(), "nobody there")
	})
}

func TestNodeWithAWrongClockHoldsNoLease(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
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
		virtualtime.Wait()
		require.NoError(t, l.Check())

		wrong.Store(true)
		time.Sleep(time.Second)
		virtualtime.Wait()
		require.ErrorContains(t, l.Check(), "an hour ahead")
	})
}

func TestLeaseRenewedMeanwhileVouchesForNothingReadBefore(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		n := newLeaseNode()
		l := n.lease()
		before := l.Until()
		run(t, l)
		time.Sleep(time.Second / 2)
		virtualtime.Wait()
		require.NoError(t, l.Check())
		require.ErrorIs(t, l.Holds(before), cluster.ErrNoLease)

		noted := l.Until()
		time.Sleep(11 * time.Second)
		virtualtime.Wait()
		require.NoError(t, l.Check())
		require.ErrorIs(t, l.Holds(noted), cluster.ErrNoLease)
	})
}

func TestSurrenderedLeaseIsOverAtOnce(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		l := newLeaseNode().lease()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = l.Run(ctx) }()
		time.Sleep(time.Second)
		virtualtime.Wait()
		require.NoError(t, l.Check())
		cancel()
		<-done
		require.ErrorIs(t, l.Check(), cluster.ErrNoLease)
	})
}

func TestTickIsProposedAfterTheRequestArrived(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
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
		virtualtime.Wait()
		require.EqualValues(t, 1, proposals.Load())

		go ask() // both come too late for it and share the next one
		go ask()
		virtualtime.Wait()
		close(release)
		require.EqualValues(t, 1, <-answers)
		require.EqualValues(t, 2, <-answers)
		require.EqualValues(t, 2, <-answers)
		require.EqualValues(t, 2, proposals.Load())
		time.Sleep(time.Second)
	})
}

func TestLeaseByASlowAnswerLastsWhatIsLeftOfIt(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		n := newLeaseNode()
		n.ask = func(ctx context.Context) (uint64, error) {
			if n.index.Add(1) > 1 {
				<-ctx.Done()
				return 0, ctx.Err()
			}
			time.Sleep(9 * time.Second) // 0.9 Δ
			return 1, nil
		}
		l := n.lease()
		run(t, l)

		time.Sleep(9*time.Second - time.Millisecond)
		virtualtime.Wait()
		require.ErrorIs(t, l.Check(), cluster.ErrNoLease)
		time.Sleep(2 * time.Millisecond)
		virtualtime.Wait()
		require.NoError(t, l.Check())
		require.Equal(t, 999*time.Millisecond, l.Remaining())
		require.Equal(t, 9001*time.Millisecond, l.State().Age)
		time.Sleep(999 * time.Millisecond)
		virtualtime.Wait()
		require.ErrorIs(t, l.Check(), cluster.ErrNoLease)
	})
}

func TestLeaderThatAlwaysAnswersLateKeepsItsMembersFresh(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		n := newLeaseNode()
		var most, underWay atomic.Int64
		n.ask = func(ctx context.Context) (uint64, error) {
			most.Store(max(most.Load(), underWay.Add(1)))
			defer underWay.Add(-1)
			select {
			case <-time.After(8 * time.Second):
				return n.index.Add(1), nil
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
		l := n.lease()
		run(t, l)
		time.Sleep(9 * time.Second)
		for range 600 {
			virtualtime.Wait()
			require.NoError(t, l.Check())
			time.Sleep(100 * time.Millisecond)
		}
		require.LessOrEqual(t, most.Load(), int64(16))
	})
}

// A leader's machine that loses power answers nothing and refuses nothing.
func TestFiftyLeadersInARowVanishAndTheNodeIsFreshWithinOneRenewalOfTheNext(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		n := newLeaseNode()
		var leader, down atomic.Int64
		n.ask = func(ctx context.Context) (uint64, error) {
			asked := leader.Load()
			if down.Load() == 1 {
				return 0, cluster.ErrNoLeader
			}
			time.Sleep(50 * time.Millisecond)
			if leader.Load() != asked || down.Load() == 1 {
				<-ctx.Done() // it died with the question in hand
				return 0, ctx.Err()
			}
			return n.index.Add(1), nil
		}
		l := n.lease()
		run(t, l)
		time.Sleep(1500 * time.Millisecond)
		for i := range 50 {
			if i%2 == 0 {
				down.Store(1)
				time.Sleep(2 * time.Second) // the election
				virtualtime.Wait()
				require.NoError(t, l.Check(), "the lease outlasts an election")
				down.Store(0)
			}
			leader.Add(1)
			elected := n.index.Load()
			time.Sleep(time.Second + 50*time.Millisecond)
			virtualtime.Wait()
			require.NoError(t, l.Check())
			require.Greater(t, n.index.Load(), elected, "by a tick of the new leader")
			require.LessOrEqual(t, l.State().Age, 1100*time.Millisecond)
		}
	})
}

func TestSuspendedMachineWakesWithoutALease(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		n := newLeaseNode()
		l := n.lease()
		run(t, l)
		time.Sleep(500 * time.Millisecond)
		virtualtime.Wait()
		require.NoError(t, l.Check())

		n.leapt.Store(int64(time.Hour))
		require.ErrorIs(t, l.Check(), cluster.ErrNoLease)
		s := l.State()
		require.False(t, s.Held)
		require.Equal(t, cluster.LossExpired, s.Reason)
		require.Greater(t, s.Age, time.Hour-time.Second)

		time.Sleep(time.Second)
		virtualtime.Wait()
		require.NoError(t, l.Check())
	})
}

// The answer to a question from before the machine was suspended is worth nothing after it.
func TestAnswerThatWasSleptThroughGrantsNothing(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		n := newLeaseNode()
		answer := make(chan struct{})
		n.ask = func(ctx context.Context) (uint64, error) {
			select {
			case <-answer:
				return n.index.Add(1), nil
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
		l := n.lease()
		run(t, l)
		time.Sleep(time.Millisecond)
		n.leapt.Store(int64(11 * time.Second))
		answer <- struct{}{}
		virtualtime.Wait()
		require.ErrorIs(t, l.Check(), cluster.ErrNoLease)
	})
}

func TestRemovedNodeIsSilentAtOnceThoughItsRoundHangs(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		n := newLeaseNode()
		n.ask = func(ctx context.Context) (uint64, error) {
			if n.index.Add(1) > 1 {
				<-ctx.Done()
				return 0, ctx.Err()
			}
			return 1, nil
		}
		l := n.lease()
		run(t, l)
		time.Sleep(5 * time.Second)
		virtualtime.Wait()
		noted := l.Until()
		require.NoError(t, l.Holds(noted))

		n.removed.Store(true)
		l.Recheck() // by whoever has applied the removal
		require.ErrorIs(t, l.Check(), cluster.ErrNoLease)
		require.ErrorIs(t, l.Holds(noted), cluster.ErrNoLease, "also for a request that had noted the lease before")
		require.Equal(t, cluster.LossRemoved, l.State().Reason)
	})
}

func TestRemovalIsNoticedWithoutBeingTold(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		n := newLeaseNode()
		l := n.lease()
		run(t, l)
		time.Sleep(500 * time.Millisecond)
		virtualtime.Wait()
		require.NoError(t, l.Check())
		n.removed.Store(true)
		time.Sleep(50 * time.Millisecond)
		virtualtime.Wait()
		require.ErrorIs(t, l.Check(), cluster.ErrNoLease)
	})
}

// The removal is applied between the answer and the grant.
func TestRoundThatAppliedItsOwnRemovalGrantsNothing(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		n := newLeaseNode()
		n.applied = func(context.Context, uint64) error { n.removed.Store(true); return nil }
		l := n.lease()
		run(t, l)
		virtualtime.Wait()
		require.ErrorIs(t, l.Check(), cluster.ErrNoLease)
		require.Equal(t, cluster.LossRemoved, l.State().Reason)
	})
}

func TestShortLeaseIsRenewedMoreOften(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		n := newLeaseNode()
		n.duration = 500 * time.Millisecond
		l := n.lease()
		run(t, l)
		virtualtime.Wait()
		for range 1000 {
			require.NoError(t, l.Check())
			require.LessOrEqual(t, l.State().Age, 100*time.Millisecond)
			time.Sleep(7 * time.Millisecond)
			virtualtime.Wait()
		}
		require.LessOrEqual(t, n.index.Load(), uint64(71))
	})
}

func TestStateSaysWhyThereIsNoLease(t *testing.T) {
	reason := func(t *testing.T, n *leaseNode, l *cluster.Lease) cluster.LeaseState {
		t.Helper()
		run(t, l)
		time.Sleep(100 * time.Millisecond)
		virtualtime.Wait()
		return l.State()
	}
	failing := func(err error) *leaseNode {
		n := newLeaseNode()
		n.ask = func(context.Context) (uint64, error) { return 0, err }
		return n
	}
	for name, c := range map[string]struct {
		node func() *leaseNode
		want string
	}{
		"no leader":   {func() *leaseNode { return failing(cluster.ErrNoLeader) }, "no leader"},
		"old leader":  {func() *leaseNode { return failing(cluster.ErrNotLeader) }, "no leader"},
		"unreachable": {func() *leaseNode { return failing(cluster.ErrUnreachable) }, "leader unreachable"},
		"no commit":   {func() *leaseNode { return failing(cluster.ErrOutcomeUnknown) }, "leader silent"},
		"behind, waiting": {func() *leaseNode {
			n := newLeaseNode()
			n.index.Store(999)
			n.own.Store(988)
			n.applied = func(ctx context.Context, _ uint64) error { <-ctx.Done(); return ctx.Err() }
			return n
		}, "behind by 12"},
		"behind, given up": {func() *leaseNode {
			n := newLeaseNode()
			n.ask = func(context.Context) (uint64, error) { return 1000, nil }
			n.own.Store(988)
			n.applied = func(context.Context, uint64) error { return errors.New("too slow") }
			return n
		}, "behind by 12"},
		"removed": {func() *leaseNode { n := newLeaseNode(); n.removed.Store(true); return n }, "removed"},
		"clock": {func() *leaseNode {
			n := newLeaseNode()
			n.clock = func(time.Duration) error { return errors.New("ahead") }
			return n
		}, "clock"},
	} {
		t.Run(name, func(t *testing.T) {
			virtualtime.Test(t, func(t *testing.T) {
				n := c.node()
				l := n.lease()
				require.Equal(t, cluster.LeaseState{Reason: "starting", Detail: "starting"}, l.State())
				s := reason(t, n, l)
				require.False(t, s.Held)
				require.Equal(t, c.want, s.Reason)
				require.NotEmpty(t, s.Detail)
			})
		})
	}
}

func TestSurrenderIsForGood(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		n := newLeaseNode()
		l := n.lease()
		run(t, l)
		time.Sleep(time.Second)
		virtualtime.Wait()
		noted := l.Until()
		s := l.State()
		require.True(t, s.Held)
		require.Empty(t, s.Reason)

		l.Surrender()
		require.ErrorIs(t, l.Holds(noted), cluster.ErrNoLease)
		n.removed.Store(true)
		time.Sleep(time.Minute)
		virtualtime.Wait()
		require.ErrorIs(t, l.Check(), cluster.ErrNoLease)
		require.Equal(t, cluster.LossSurrendered, l.State().Reason)
	})
}

func TestAnswerWithoutAnIndexGrantsNothing(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		n := newLeaseNode()
		n.ask = func(context.Context) (uint64, error) { return 0, nil }
		l := n.lease()
		run(t, l)
		time.Sleep(time.Minute)
		virtualtime.Wait()
		require.ErrorContains(t, l.Check(), "without the index")
	})
}

func TestBootTimeMovesOn(t *testing.T) {
	before := cluster.BootTime()
	require.GreaterOrEqual(t, cluster.BootTime(), before)
	require.Positive(t, before)
}
