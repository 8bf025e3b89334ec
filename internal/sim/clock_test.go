package sim

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/internal/virtualtime"
)

func TestASuspendedClockStandsStillAndThenLeaps(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		c := newClock(newSource(1, 1))
		c.suspend()
		asleep := c.boot()
		time.Sleep(10 * time.Second)
		require.Equal(t, asleep, c.boot())
		c.resume()
		require.InDelta(t, (10 * time.Second).Seconds(), (c.boot() - asleep).Seconds(), 10*maxDrift)
	})
}
