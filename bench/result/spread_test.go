package result

import (
	"testing"

	"github.com/stretchr/testify/require"
)

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
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, SpreadOf(c.values)) })
	}
}
