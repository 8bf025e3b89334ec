package client

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBootTimeGoesOn(t *testing.T) {
	boot := newBootTime()
	began, at := time.Now(), boot()
	for time.Since(began) < 20*time.Millisecond {
		next := boot()
		require.GreaterOrEqual(t, next, at)
		at = next
	}
	first := boot()
	passed := time.Now()
	<-time.After(10 * time.Millisecond)
	require.InDelta(t, time.Since(passed), boot()-first, float64(5*time.Millisecond))
}
