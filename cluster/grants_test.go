package cluster_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/cluster"
)

// bootClock is a boot clock that stands still unless told otherwise.
type bootClock struct {
	mu  sync.Mutex
	now time.Duration
}

func (c *bootClock) read() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *bootClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now += d
}

func TestNodeThatNeverLedKnowsNothingOfGrants(t *testing.T) {
	g := cluster.NewGrants((&bootClock{}).read)
	_, ok := g.Latest("n2")
	require.False(t, ok)
	_, ok = g.LatestIn(0, "n2")
	require.False(t, ok)
	require.ErrorIs(t, g.Asked(0, "n2"), cluster.ErrNotLeader)
	require.ErrorIs(t, g.Asked(1, "n2"), cluster.ErrNotLeader)
}

func TestNewLeaderTakesEveryMemberForOneThatHasJustAsked(t *testing.T) {
	clock := &bootClock{now: time.Hour}
	g := cluster.NewGrants(clock.read)
	g.Lead(3)
	clock.advance(time.Second)

	asked, ok := g.Latest("n2")
	require.True(t, ok)
	require.Equal(t, time.Hour, asked)

	g.Lead(3) // seen already
	g.Lead(2) // over
	asked, _ = g.Latest("n2")
	require.Equal(t, time.Hour, asked)
}

func TestRequestIsNotedWhenItArrives(t *testing.T) {
	clock := &bootClock{}
	g := cluster.NewGrants(clock.read)
	g.Lead(3)
	clock.advance(time.Second)
	require.NoError(t, g.Asked(3, "n2"))
	clock.advance(time.Second)

	asked, _ := g.Latest("n2")
	require.Equal(t, time.Second, asked)
	asked, _ = g.Latest("n3")
	require.Zero(t, asked, "n3 has not asked since this node leads")
	require.NoError(t, g.Asked(3, "n2"))
	asked, _ = g.Latest("n2")
	require.Equal(t, 2*time.Second, asked)
}

// A tick for a request from before may still be proposed in the new term: Lead covers it.
func TestRequestFromALeadershipThatIsOverIsRefused(t *testing.T) {
	clock := &bootClock{}
	g := cluster.NewGrants(clock.read)
	g.Lead(3)
	require.NoError(t, g.Asked(3, "n2"))
	clock.advance(time.Minute)
	g.Lead(5)
	require.ErrorIs(t, g.Asked(3, "n2"), cluster.ErrNotLeader)
	require.ErrorIs(t, g.Asked(6, "n2"), cluster.ErrNotLeader, "Lead was not told of that term")

	asked, ok := g.Latest("n2")
	require.True(t, ok)
	require.Equal(t, time.Minute, asked)
}

// In the terms between, others granted leases that this node knows nothing of.
func TestWhatIsKnownOfAnOldTermIsNoAnswerInANewOne(t *testing.T) {
	clock := &bootClock{}
	g := cluster.NewGrants(clock.read)
	g.Lead(3)
	require.NoError(t, g.Asked(3, "n2"))
	_, ok := g.LatestIn(7, "n2")
	require.False(t, ok)

	clock.advance(time.Minute)
	g.Lead(7)
	asked, ok := g.LatestIn(7, "n2")
	require.True(t, ok)
	require.Equal(t, time.Minute, asked)
}

func TestForgettingADepartedMemberErrsToTheSafeSide(t *testing.T) {
	clock := &bootClock{}
	g := cluster.NewGrants(clock.read)
	g.Lead(1)
	for i := range 5000 {
		clock.advance(time.Millisecond)
		require.NoError(t, g.Asked(1, fmt.Sprintf("n%d", i)))
	}
	for i := range 5000 {
		asked, ok := g.Latest(fmt.Sprintf("n%d", i))
		require.True(t, ok)
		require.GreaterOrEqual(t, asked, time.Duration(i+1)*time.Millisecond, "never earlier than it asked")
	}
}

func TestGrantsAreReadAndNotedConcurrently(t *testing.T) {
	clock := &bootClock{}
	g := cluster.NewGrants(clock.read)
	g.Lead(1)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for term := uint64(1); term < 200; term++ {
				clock.advance(time.Millisecond)
				before := clock.read()
				g.Lead(term)
				if g.Asked(term, "n2") == nil {
					asked, ok := g.Latest("n2")
					require.True(t, ok)
					require.GreaterOrEqual(t, asked, before)
				}
				_, _ = g.LatestIn(term, fmt.Sprint("n", i))
			}
		})
	}
	all.Wait()
}
