package sim

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestASuspendedClockStandsStillAndThenLeaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClock(newSource(1, 1))
		c.suspend()
		asleep := c.boot()
		time.Sleep(10 * time.Second)
		require.Equal(t, asleep, c.boot())
		c.resume()
		require.InDelta(t, (10 * time.Second).Seconds(), (c.boot() - asleep).Seconds(), 10*maxDrift)
	})
}
