package load

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPercentilesAreExactToThreeDigits(t *testing.T) {
	s := NewSample(1)
	for n := 1; n <= 1000; n++ {
		s.Record(time.Duration(n) * time.Millisecond)
	}

	l := s.Latency()

	require.InEpsilon(t, 500_000, l.P50, 0.001)
	require.InEpsilon(t, 900_000, l.P90, 0.001)
	require.InEpsilon(t, 990_000, l.P99, 0.001)
	require.InEpsilon(t, 999_000, l.P999, 0.001)
	require.InEpsilon(t, 1_000_000, l.Max, 0.001)
	require.InEpsilon(t, 500_500, l.Mean, 0.001)
}

func TestLatenciesBeyondTheHistogramAreClampedAndCounted(t *testing.T) {
	s := NewSample(1)
	s.Record(0, time.Hour)
	require.EqualValues(t, 2, s.Succeeded())
	require.EqualValues(t, 2, s.Operations[0].Latency.TotalCount())
	require.InEpsilon(t, microseconds(int64(longestLatency)), s.Latency().Max, 0.001)
}

func TestRoundsAddUp(t *testing.T) {
	total := NewSample(1)
	for range 2 {
		round := NewSample(1)
		round.Record(time.Millisecond, 2*time.Millisecond, 3*time.Millisecond)
		round.Fail(0, FailureTimeout, 1)
		round.Elapsed, round.ServerCPU, round.GeneratorCPU = time.Second, time.Second/2, time.Second/4
		total.Add(round)
	}
	require.EqualValues(t, 4, total.Succeeded())
	require.EqualValues(t, 2, total.Failed())
	require.InDelta(t, 2, total.Rate(), 1e-9)
	require.Equal(t, time.Second, total.ServerCPU)
	require.Equal(t, time.Second/2, total.GeneratorCPU)
}
