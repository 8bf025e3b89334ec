package cluster_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/cluster"
)

// clocks are a node's wall clock, its time since boot, agreed time and the other voters' clocks, all set by hand.
type clocks struct {
	guard  *cluster.ClockGuard
	wall   time.Time
	boot   time.Duration
	agreed time.Time
	others map[string]time.Time // a zero time does not answer
}

func newClocks() *clocks {
	c := &clocks{wall: time.Date(2026, 4, 17, 8, 0, 0, 0, time.UTC), boot: time.Hour}
	c.guard = cluster.NewClockGuard(cluster.ClockOptions{
		Agreed: func() time.Time { return c.agreed },
		Wall:   func() time.Time { return c.wall },
		Boot:   func() time.Duration { return c.boot },
		Voters: func() (ids []string) {
			for id := range c.others {
				ids = append(ids, id)
			}
			return ids
		},
		Ask: func(_ context.Context, id string) (time.Time, error) {
			if c.others[id].IsZero() {
				return time.Time{}, errors.New("no answer")
			}
			return c.others[id], nil
		},
	})
	return c
}

func (c *clocks) pass(d time.Duration) { c.wall, c.boot = c.wall.Add(d), c.boot+d }

func TestLeaderWhoseClockLeapsStampsNothing(t *testing.T) {
	c := newClocks()
	c.agreed = c.wall
	require.NoError(t, c.guard.Agree(0))
	c.pass(24 * time.Hour) // an idle day is no leap
	_, err := c.guard.Stamp(t.Context())
	require.NoError(t, err)

	c.wall = c.wall.Add(2 * time.Hour)
	_, err = c.guard.Stamp(t.Context())
	require.ErrorIs(t, err, cluster.ErrClock)
	require.ErrorContains(t, err, "ahead of the cluster's")
	require.True(t, c.guard.Wrong())
}

func TestStampNeverGoesBeforeAgreedTime(t *testing.T) {
	c := newClocks()
	c.agreed = c.wall.Add(time.Second)
	stamped, err := c.guard.Stamp(t.Context())
	require.NoError(t, err)
	require.Equal(t, c.agreed, stamped)
}

func TestClockThatIsOffByMoreThanTwoSecondsGetsNoLease(t *testing.T) {
	c := newClocks()
	c.agreed = c.wall
	require.NoError(t, c.guard.Agree(0))

	c.wall = c.wall.Add(1900 * time.Millisecond)
	require.NoError(t, c.guard.Agree(0))
	c.wall = c.wall.Add(200 * time.Millisecond)
	require.ErrorContains(t, c.guard.Agree(0), "ahead of")
	require.NoError(t, c.guard.Agree(time.Second), "the answer itself was under way for a second")

	c.wall = c.wall.Add(-5 * time.Second)
	require.ErrorContains(t, c.guard.Agree(0), "behind")
}

func TestSlowClockOfOneLeaderDoesNotSpoilTheNext(t *testing.T) {
	c := newClocks()
	c.agreed = c.wall
	require.NoError(t, c.guard.Agree(0))
	// A leader whose clock is ten seconds behind leads for a while: agreed time stands still.
	c.pass(5 * time.Second)
	require.Error(t, c.guard.Agree(0))
	// Then this node leads, and its clock is right.
	_, err := c.guard.Stamp(t.Context())
	require.NoError(t, err)
}

func TestNewLeaderAsksAMajorityBeforeItsFirstStamp(t *testing.T) {
	for name, tt := range map[string]struct {
		others []time.Duration // how far each other voter's clock is ahead; 99: it doesn't answer
		right  bool
	}{
		"alone":                           {nil, true},
		"both agree":                      {[]time.Duration{0, time.Second}, true},
		"one agrees, one is silent":       {[]time.Duration{0, 99}, true},
		"one agrees, one is an hour off":  {[]time.Duration{0, time.Hour}, true},
		"both are an hour off":            {[]time.Duration{time.Hour, time.Hour}, false},
		"one is an hour off, one silent":  {[]time.Duration{-time.Hour, 99}, false},
		"both are silent":                 {[]time.Duration{99, 99}, false},
		"of two the other is off":         {[]time.Duration{3 * time.Second}, false},
		"of five two agree":               {[]time.Duration{0, 0, time.Hour, 99}, true},
		"of five one agrees":              {[]time.Duration{0, time.Hour, time.Hour, 99}, false},
		"of four, which is none, two out": {[]time.Duration{0, 99, 99}, false},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClocks()
			c.others = map[string]time.Time{}
			for i, ahead := range tt.others {
				id := string(rune('a' + i))
				c.others[id] = c.wall.Add(ahead)
				if ahead == 99 {
					c.others[id] = time.Time{}
				}
			}
			_, err := c.guard.Stamp(t.Context())
			if !tt.right {
				require.ErrorIs(t, err, cluster.ErrClock)
				return
			}
			require.NoError(t, err)
			c.wall = c.wall.Add(time.Hour)
			_, err = c.guard.Stamp(t.Context())
			require.ErrorIs(t, err, cluster.ErrClock, "from then on a leap shows")
		})
	}
}
