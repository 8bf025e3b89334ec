package server

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/revocation"
)

// clocks are a node's wall clock and its time since boot, both set by hand.
type clocks struct {
	guard *clockGuard
	wall  time.Time
	boot  time.Duration
}

func newClocks(t *testing.T) (*clocks, *fsm.FSM) {
	t.Helper()
	f := fsm.New(fsm.Options{Revocations: revocation.NewSet()})
	c := &clocks{wall: time.Date(2026, 4, 17, 8, 0, 0, 0, time.UTC), boot: time.Hour}
	c.guard = newClockGuard(f, func() time.Time { return c.wall })
	c.guard.boot = func() time.Duration { return c.boot }
	return c, f
}

func (c *clocks) pass(d time.Duration) { c.wall, c.boot = c.wall.Add(d), c.boot+d }

func tick(t *testing.T, f *fsm.FSM, at identity.Instant) {
	t.Helper()
	encoded, err := fsm.Encode(fsm.Command{Time: at, Body: fsm.Tick{}})
	require.NoError(t, err)
	f.Apply(&raft.Log{Index: f.Applied() + 1, Type: raft.LogCommand, Data: encoded})
}

func TestLeaderWhoseClockLeapsStampsNothing(t *testing.T) {
	c, f := newClocks(t)
	_, err := c.guard.stamp()
	require.NoError(t, err, "there is nothing to hold the first clock against")

	tick(t, f, identity.InstantOf(c.wall))
	require.NoError(t, c.guard.agree(0))
	c.pass(24 * time.Hour) // an idle day is no leap
	_, err = c.guard.stamp()
	require.NoError(t, err)

	c.wall = c.wall.Add(2 * time.Hour)
	_, err = c.guard.stamp()
	require.Equal(t, identity.CodeNotFresh, identity.CodeOf(err))
	require.ErrorContains(t, err, "ahead of the cluster's")
}

func TestStampNeverGoesBeforeTheClusterTime(t *testing.T) {
	c, f := newClocks(t)
	later := identity.InstantOf(c.wall.Add(time.Second))
	tick(t, f, later)
	stamped, err := c.guard.stamp()
	require.NoError(t, err)
	require.Equal(t, later, stamped)
}

func TestClockThatIsOffByMoreThanTwoSecondsGetsNoLease(t *testing.T) {
	c, f := newClocks(t)
	tick(t, f, identity.InstantOf(c.wall))
	require.NoError(t, c.guard.agree(0))

	c.wall = c.wall.Add(1900 * time.Millisecond)
	require.NoError(t, c.guard.agree(0))
	c.wall = c.wall.Add(200 * time.Millisecond)
	require.ErrorContains(t, c.guard.agree(0), "ahead of")
	require.NoError(t, c.guard.agree(time.Second), "the answer itself was under way for a second")

	c.wall = c.wall.Add(-5 * time.Second)
	require.ErrorContains(t, c.guard.agree(0), "behind")
}
