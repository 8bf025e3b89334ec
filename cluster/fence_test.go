package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/cluster"
	"github.com/deputy-id/deputy/internal/virtualtime"
)

const fenceIndex = 42

// fenced is a leader and its members as fences see them, in virtual time.
type fenced struct {
	t       *testing.T
	started time.Time
	leapt   atomic.Int64
	grants  *cluster.Grants
	members []string
	bound   time.Duration

	mu    sync.Mutex
	sends map[string]int
	deaf  map[string]error                               // members that don't acknowledge, and how their sends end
	send  func(ctx context.Context, member string) error // instead, where set
}

var errHangs = errors.New("hangs until the context ends")

func newFenced(t *testing.T, members ...string) *fenced {
	f := &fenced{
		t: t, started: time.Now(), members: members, bound: 10 * time.Second,
		sends: map[string]int{}, deaf: map[string]error{},
	}
	f.grants = cluster.NewGrants(f.now)
	f.grants.Lead(1)
	return f
}

func (f *fenced) now() time.Duration { return time.Since(f.started) + time.Duration(f.leapt.Load()) }

func (f *fenced) fences() *cluster.Fences {
	return cluster.NewFences(cluster.FenceOptions{
		Members: func() []string { return f.members },
		Self:    "n1",
		Send: func(ctx context.Context, member string, index uint64, payload []byte) error {
			require.EqualValues(f.t, fenceIndex, index)
			require.Equal(f.t, "stop", string(payload))
			f.mu.Lock()
			f.sends[member]++
			err := f.deaf[member]
			f.mu.Unlock()
			if f.send != nil {
				return f.send(ctx, member)
			}
			if errors.Is(err, errHangs) {
				<-ctx.Done()
				return ctx.Err()
			}
			return err
		},
		Latest: f.grants.Latest,
		Bound:  func() time.Duration { return f.bound },
		Now:    f.now,
	})
}

func (f *fenced) asks(members ...string) {
	for _, m := range members {
		require.NoError(f.t, f.grants.Asked(1, m))
	}
}

func (f *fenced) sent(member string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sends[member]
}

func (f *fenced) hears(member string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.deaf, member)
}

func raise(t *testing.T, f *cluster.Fences, timeout time.Duration) cluster.FenceReport {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	report, err := f.Raise(ctx, fenceIndex, []byte("stop"))
	require.NoError(t, err)
	return report
}

func states(r cluster.FenceReport) map[string]cluster.FenceState {
	all := map[string]cluster.FenceState{}
	for _, n := range r.Nodes {
		all[n.ID] = n.State
	}
	return all
}

func TestFenceIsDoneOnceEveryMemberHasAcknowledged(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		f := newFenced(t, "n3", "n1", "n2")
		f.send = func(_ context.Context, member string) error {
			if member == "n3" {
				time.Sleep(7 * time.Millisecond)
			}
			return nil
		}
		r := raise(t, f.fences(), time.Second)
		require.Equal(t, cluster.FenceReport{Done: true, Took: 7 * time.Millisecond, Nodes: []cluster.FenceNode{
			{ID: "n1", State: cluster.FenceAcknowledged},
			{ID: "n2", State: cluster.FenceAcknowledged},
			{ID: "n3", State: cluster.FenceAcknowledged, After: 7 * time.Millisecond},
		}}, r)
		require.Zero(t, f.sent("n1"), "this node has applied it")
		require.Equal(t, 1, f.sent("n2"))
	})
}

// Whatever a member acknowledged before the commit, it is asked again after: each fence has its own sends.
func TestEveryFenceSendsForItself(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		f := newFenced(t, "n1", "n2")
		fences := f.fences()
		require.True(t, raise(t, fences, time.Second).Done)
		require.True(t, raise(t, fences, time.Second).Done)
		require.Equal(t, 2, f.sent("n2"))

		f.deaf["n2"] = errors.New("not now")
		require.False(t, raise(t, fences, time.Second).Done, "an earlier acknowledgement counts for nothing")
	})
}

// n4 has no vote, and is no less able to say that a token is good.
func TestMissingMemberHoldsTheFenceUpUntilItsLeaseHasEnded(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		f := newFenced(t, "n1", "n2", "n3", "n4")
		time.Sleep(time.Minute)
		f.asks("n1", "n2", "n3", "n4")
		time.Sleep(time.Second)
		f.asks("n1", "n2", "n3") // n4 was cut off after its first request
		f.deaf["n4"] = errHangs

		r := raise(t, f.fences(), time.Minute)
		require.True(t, r.Done)
		require.Equal(t, map[string]cluster.FenceState{
			"n1": cluster.FenceAcknowledged, "n2": cluster.FenceAcknowledged, "n3": cluster.FenceAcknowledged,
			"n4": cluster.FenceExpired,
		}, states(r))
		// Δ and the drift from its last request, one second of which had passed.
		require.GreaterOrEqual(t, r.Took, 10950*time.Millisecond)
		require.LessOrEqual(t, r.Took, 11050*time.Millisecond)
	})
}

func TestMemberThatIsLongSilentDoesNotDelayAnything(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		f := newFenced(t, "n1", "n2", "n3")
		f.deaf["n3"] = errHangs
		time.Sleep(13 * time.Second)
		f.asks("n2")
		r := raise(t, f.fences(), time.Second)
		require.True(t, r.Done)
		require.Zero(t, r.Took)
		require.Equal(t, cluster.FenceExpired, states(r)["n3"])
	})
}

func TestMemberIsAskedAgainUntilItAcknowledges(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		f := newFenced(t, "n1", "n2")
		f.deaf["n2"] = cluster.ErrUnreachable
		time.AfterFunc(990*time.Millisecond, func() { f.hears("n2") })
		r := raise(t, f.fences(), time.Minute)
		require.True(t, r.Done)
		require.Equal(t, time.Second, r.Took)
		require.Equal(t, 21, f.sent("n2"), "every 50 ms")
	})
}

func TestSendThatHangsIsGivenUpAndRepeated(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		f := newFenced(t, "n1", "n2")
		f.deaf["n2"] = errHangs
		time.AfterFunc(500*time.Millisecond, func() { f.hears("n2") })
		r := raise(t, f.fences(), time.Minute)
		require.Equal(t, cluster.FenceAcknowledged, states(r)["n2"])
		require.Equal(t, 1050*time.Millisecond, r.Took)
	})
}

func TestDeadlineNamesWhoIsMissing(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		f := newFenced(t, "n1", "n2", "n3")
		f.deaf["n2"] = cluster.ErrUnreachable
		r := raise(t, f.fences(), 3*time.Second)
		require.False(t, r.Done)
		require.Equal(t, 3*time.Second, r.Took)
		require.Equal(t, []cluster.FenceNode{
			{ID: "n1", State: cluster.FenceAcknowledged},
			{ID: "n2", State: cluster.FenceWaiting, After: 3 * time.Second},
			{ID: "n3", State: cluster.FenceAcknowledged},
		}, r.Nodes)
	})
}

func TestContextThatIsOverStillFindsTheLeasesThatAre(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		f := newFenced(t, "n1", "n2")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		r, err := f.fences().Raise(ctx, fenceIndex, []byte("stop"))
		require.NoError(t, err)
		require.False(t, r.Done)

		time.Sleep(13 * time.Second)
		r, err = f.fences().Raise(ctx, fenceIndex, []byte("stop"))
		require.NoError(t, err)
		require.True(t, r.Done)
	})
}

// The leader's state says how long leases were until a moment ago.
func TestExpiryHonoursTheLongerLeaseThatMayStillRun(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		f := newFenced(t, "n1", "n2")
		f.deaf["n2"] = cluster.ErrUnreachable
		f.bound = 30 * time.Second // now two, and thirty before
		fences := f.fences()
		require.False(t, raise(t, fences, 29*time.Second).Done)
		time.Sleep(time.Second)
		r := raise(t, fences, time.Minute)
		require.True(t, r.Done)
		require.GreaterOrEqual(t, f.now(), 30*time.Second+cluster.LeaseDrift(30*time.Second))
	})
}

// A setting that changes while the fence waits makes no lease from before the index shorter.
func TestBoundIsThatOfTheIndex(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		f := newFenced(t, "n1", "n2")
		f.deaf["n2"] = cluster.ErrUnreachable
		bound := make(chan time.Duration, 1)
		bound <- 10 * time.Second
		fences := cluster.NewFences(cluster.FenceOptions{
			Members: func() []string { return f.members }, Self: "n1",
			Send:   func(context.Context, string, uint64, []byte) error { return cluster.ErrUnreachable },
			Latest: f.grants.Latest, Now: f.now,
			Bound: func() time.Duration {
				select {
				case d := <-bound:
					return d
				default:
					return 0
				}
			},
		})
		r := raise(t, fences, time.Minute)
		require.True(t, r.Done)
		require.GreaterOrEqual(t, r.Took, 12*time.Second)
	})
}

func TestNewLeaderWaitsForTheLeasesOfItsPredecessor(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		f := newFenced(t, "n1", "n2", "n3")
		time.Sleep(time.Hour)
		f.grants.Lead(2)
		time.Sleep(4 * time.Second)
		require.NoError(t, f.grants.Asked(2, "n2"))
		f.deaf["n3"] = cluster.ErrUnreachable // it never asked this leader

		r := raise(t, f.fences(), time.Minute)
		require.True(t, r.Done)
		require.Equal(t, cluster.FenceExpired, states(r)["n3"])
		require.GreaterOrEqual(t, r.Took, 6100*time.Millisecond)
		require.LessOrEqual(t, r.Took, 8*time.Second)
	})
}

// What is granted after the index is granted to a node that has applied it.
func TestLaterGrantDoesNotProlongTheFence(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		f := newFenced(t, "n1", "n2")
		f.deaf["n2"] = cluster.ErrUnreachable
		for i := range 20 {
			time.AfterFunc(time.Duration(i)*time.Second, func() { f.asks("n2") })
		}
		time.Sleep(500 * time.Millisecond)
		r := raise(t, f.fences(), time.Minute)
		require.True(t, r.Done)
		require.LessOrEqual(t, r.Took, 12*time.Second)
	})
}

// Timers stand still while the machine is suspended.
func TestExpiryGoesByTheBootClock(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		f := newFenced(t, "n1", "n2")
		f.deaf["n2"] = errHangs
		time.AfterFunc(500*time.Millisecond, func() { f.leapt.Store(int64(time.Hour)) })
		r := raise(t, f.fences(), time.Minute)
		require.True(t, r.Done)
		require.Equal(t, cluster.FenceExpired, states(r)["n2"])
	})
}

func TestOnlyALeaderCanRaiseAFence(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		f := newFenced(t, "n1", "n2")
		f.grants = cluster.NewGrants(f.now)
		_, err := f.fences().Raise(t.Context(), fenceIndex, []byte("stop"))
		require.ErrorIs(t, err, cluster.ErrNotLeader)
		require.Zero(t, f.sent("n2"))
	})
}

func TestEmptyTableProvesNothing(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		_, err := newFenced(t).fences().Raise(t.Context(), fenceIndex, []byte("stop"))
		require.ErrorContains(t, err, "no members are known")
	})
}

func TestFenceForSomeAsksNobodyElse(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		f := newFenced(t, "n1", "n2", "n3")
		r, err := f.fences().RaiseFor(t.Context(), []string{"n3", "n3"}, fenceIndex, []byte("stop"))
		require.NoError(t, err)
		require.True(t, r.Done)
		require.Len(t, r.Nodes, 1)
		require.Zero(t, f.sent("n2"))
		require.Equal(t, 1, f.sent("n3"))
	})
}

func TestSendsInFlightAreBounded(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		ids := []string{"n1"}
		for i := range 300 {
			ids = append(ids, fmt.Sprintf("m%03d", i))
		}
		f := newFenced(t, ids...)
		var flying, most atomic.Int64
		f.send = func(ctx context.Context, member string) error {
			most.Store(max(most.Load(), flying.Add(1)))
			defer flying.Add(-1)
			if member < "m064" { // the first of them are dead, and must not keep the others from hearing
				<-ctx.Done()
				return ctx.Err()
			}
			time.Sleep(10 * time.Millisecond)
			return nil
		}
		r := raise(t, f.fences(), 5*time.Second)
		require.False(t, r.Done)
		for _, n := range r.Nodes {
			if n.ID >= "m064" {
				require.Equal(t, cluster.FenceAcknowledged, n.State, n.ID)
			}
		}
		require.LessOrEqual(t, most.Load(), int64(64))
	})
}

func TestManyFencesAtOnce(t *testing.T) {
	f := newFenced(t, "n1", "n2", "n3", "n4")
	f.bound = 150 * time.Millisecond
	f.deaf["n4"] = errHangs
	fences := f.fences()
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			f.asks("n4")
			r, err := fences.Raise(t.Context(), fenceIndex, []byte("stop"))
			require.NoError(t, err)
			require.True(t, r.Done)
			require.Equal(t, cluster.FenceExpired, states(r)["n4"])
		})
	}
	all.Wait()
}

func TestLeaseDriftCoversClocksThatAreSlewedApart(t *testing.T) {
	require.Equal(t, 100*time.Millisecond, cluster.LeaseDrift(500*time.Millisecond))
	require.Equal(t, 2*time.Second, cluster.LeaseDrift(10*time.Second))
	require.Equal(t, 12*time.Second, cluster.LeaseDrift(time.Minute))
}

func TestFencesAreCounted(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		f := newFenced(t, "n1", "n2")
		fences := f.fences()
		registry := prometheus.NewPedanticRegistry()
		require.NoError(t, registry.Register(fences))
		gather := func() map[string]float64 {
			families, err := registry.Gather()
			require.NoError(t, err)
			values := map[string]float64{}
			for _, family := range families {
				for _, m := range family.GetMetric() {
					key := family.GetName()
					for _, l := range m.GetLabel() {
						key += "/" + l.GetValue()
					}
					values[key] = m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
				}
			}
			return values
		}
		require.Len(t, gather(), 7, "every series is there from boot")

		raise(t, fences, time.Second)
		f.deaf["n2"] = cluster.ErrUnreachable
		raise(t, fences, time.Second)
		require.Equal(t, map[string]float64{
			"deputy_cluster_fences_total/done": 1, "deputy_cluster_fences_total/open": 1, "deputy_cluster_fences_total/refused": 0,
			"deputy_cluster_fence_members_total/fenced": 3, "deputy_cluster_fence_members_total/lease-expired": 0,
			"deputy_cluster_fence_members_total/waiting": 1, "deputy_cluster_fence_seconds": 1,
		}, gather())
	})
}
