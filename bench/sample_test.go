package bench

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPercentilesAreExactToThreeDigits(t *testing.T) {
	s := newSample()
	for n := 1; n <= 1000; n++ {
		s.record([]time.Duration{time.Duration(n) * time.Millisecond})
	}

	l := s.latency()

	require.InEpsilon(t, 500_000, l.P50, 0.001)
	require.InEpsilon(t, 900_000, l.P90, 0.001)
	require.InEpsilon(t, 990_000, l.P99, 0.001)
	require.InEpsilon(t, 999_000, l.P999, 0.001)
	require.InEpsilon(t, 1_000_000, l.Max, 0.001)
	require.InEpsilon(t, 500_500, l.Mean, 0.001)
}

func TestLatenciesBeyondTheHistogramAreClampedAndCounted(t *testing.T) {
	s := newSample()
	s.record([]time.Duration{0, time.Hour})
	require.EqualValues(t, 2, s.succeeded)
	require.EqualValues(t, 2, s.latencies.TotalCount())
	require.InEpsilon(t, microseconds(int64(longestLatency)), s.latency().Max, 0.001)
}

func TestRoundsAddUp(t *testing.T) {
	total := newSample()
	for range 2 {
		round := newSample()
		round.record([]time.Duration{time.Millisecond, 2 * time.Millisecond})
		round.fail(FailureTimeout)
		round.elapsed, round.serverCPU, round.generatorCPU = time.Second, time.Second/2, time.Second/4
		total.add(round)
	}
	require.EqualValues(t, 4, total.succeeded)
	require.EqualValues(t, 2, total.failed())
	require.InDelta(t, 2, total.rate(), 1e-9)
	require.Equal(t, time.Second, total.serverCPU)
	require.Equal(t, time.Second/2, total.generatorCPU)
}

func TestMedianOfRounds(t *testing.T) {
	for name, c := range map[string]struct {
		values []float64
		want   Spread
	}{
		"none": {nil, Spread{}},
		"one":  {[]float64{7}, Spread{Median: 7, Low: 7, High: 7}},
		"odd":  {[]float64{3, 1, 2, 5, 4}, Spread{Median: 3, Low: 2, High: 4}},
		"even": {[]float64{4, 1, 3, 2}, Spread{Median: 2.5, Low: 1, High: 4}},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, spread(c.values)) })
	}
}
